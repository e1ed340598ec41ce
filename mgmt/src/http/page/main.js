// The page: asks every two seconds, and shows what it is told.

import { NeedsToken, ask, hasToken, setToken } from "./ask.js";
import { Chart } from "./chart.js";
import { Keyed, byId, el, setClass, setText } from "./dom.js";
import { Past } from "./past.js";
import { Events, Pools, Slow, Workers, stateOfServer, stateOfWorker } from "./tables.js";
import { bytesRate, count, countParts, name, percent, plural, rate, short, span, time, timeParts } from "./units.js";

const STEP_MS = 2000;
// What was told is old news after this long.
const STALE_MS = 10_000;
// More workers than this are drawn as the busiest, the mean and the idlest.
const LINES_MAX = 6;

const past = new Past();
const charts = {
  requests: new Chart(byId("chart-requests"), { title: "Requests", format: rate, tick: (value) => short(count(value)), least: 10 }),
  latency: new Chart(byId("chart-latency"), { title: "Latency", format: time, tick: (value) => short(time(value)), log: true, least: 100 }),
  busy: new Chart(byId("chart-busy"), { title: "Busy", format: percent, tick: (value) => short(percent(value)), most: 100 }),
};
const workers = new Workers(byId("workers"));
const pools = new Pools(byId("pools"));
const slow = new Slow(byId("slow"));
const events = new Events(byId("events"));
const tiles = new Keyed(byId("tiles"), ({ label }) => {
  const [number, unit] = [el("span"), el("small")];
  const more = el("dd", { class: "more" });
  const element = el("div", {}, el("dt", {}, label), el("dd", { class: "value" }, number, " ", unit), more);
  const update = (tile) => {
    setText(number, tile.value[0]);
    setText(unit, tile.value[1]);
    setText(more, tile.more);
  };
  return { element, update };
});
const problems = new Keyed(byId("problems"), ({ tone }) => {
  const element = el("li", { class: tone });
  return { element, update: ({ what }) => setText(element, what) };
});

// Which process told us last, and when.
let process = null;
let heard = null;
let timer = null;

function showHead(stats) {
  document.title = `${name(stats.name)} · Tidegate`;
  setText(byId("name"), name(stats.name));
  setText(byId("about"), `${name(stats.host)} · Tidegate ${name(stats.version)} · up ${span(stats.uptime_s)}`);
}

function latencyParts(us) {
  return us === undefined ? ["–", ""] : timeParts(us);
}

function showTiles(stats) {
  const { total } = stats;
  const rates = total.rates["10s"];
  const latency = rates.latency ?? {};
  const errors = rates.requests_per_s > 0 ? (100 * rates.errors_per_s) / rates.requests_per_s : 0;
  const busiest = stats.workers.reduce((most, worker) => {
    return most === null || worker.rates["10s"].busy_percent > most.rates["10s"].busy_percent ? worker : most;
  }, null);
  const owed = stats.pools.flatMap((pool) => pool.servers).reduce((sum, server) => sum + server.counters.in_flight, 0);
  const perSecond = ([number, unit]) => [number, `${unit}/s`];
  const list = [
    {
      label: "Requests",
      value: perSecond(countParts(rates.requests_per_s)),
      more: `${bytesRate(rates.reply_bytes_per_s)} of replies`,
    },
    { label: "Errors", value: perSecond(countParts(rates.errors_per_s)), more: `${errors.toFixed(errors < 1 ? 3 : 1)} % of requests` },
    { label: "Median time", value: latencyParts(latency.p50_us), more: `p90 ${time(latency.p90_us)}` },
    { label: "99th percentile", value: latencyParts(latency.p99_us), more: `p99.9 ${time(latency["p99.9_us"])}` },
    { label: "Clients", value: countParts(total.clients), more: `${count(total.client_connections)} accepted so far` },
    { label: "Server connections", value: countParts(total.server_connections), more: `${plural(owed, "reply", "replies")} owed` },
  ];
  if (busiest !== null) {
    const busy = busiest.rates["10s"].busy_percent;
    list.push({
      label: "Busiest worker",
      value: [busy.toFixed(0), "%"],
      more: `worker ${busiest.worker} of ${stats.workers.length}`,
    });
  }
  tiles.update(list, ({ label }) => label);
}

function problemsOf(stats) {
  const found = [];
  if (stats.state !== "running") found.push({ tone: "warn", what: `The instance is ${stats.state}.` });
  for (const worker of stats.workers) {
    const tone = stateOfWorker(worker);
    if (tone !== "good") {
      const end = worker.last_exit === null ? "" : `; the last process: ${name(worker.last_exit)}`;
      found.push({ tone, what: `Worker ${worker.worker} is ${worker.state}${end}.` });
    }
    for (const queue of worker.queues) {
      const lost = queue.rates["60s"].lost_per_s;
      if (lost > 0) {
        const place = `${name(queue.interface)}, queue ${queue.queue}`;
        found.push({ tone: "warn", what: `${place}: ${rate(lost)} frames lost in the last minute.` });
      }
    }
  }
  for (const port of stats.ports) {
    if (port.bypassed !== null) {
      const what = `${name(port.interface)}: its driver goes round the steering program, and nothing is served there.`;
      found.push({ tone: "bad", what });
    }
  }
  for (const pool of stats.pools) {
    for (const server of pool.servers) {
      const [tone, why] = stateOfServer(server, stats.workers.length);
      if (tone !== "good") found.push({ tone, what: `Pool ${name(pool.name)}: server ${name(server.name)} is ${why}.` });
    }
  }
  return found;
}

function showProblems(found) {
  const list = byId("problems");
  list.hidden = found.length === 0;
  problems.update(found, ({ tone, what }) => `${tone} ${what}`);
  const worst = found.some(({ tone }) => tone === "bad") ? "bad" : found.length > 0 ? "warn" : "good";
  setClass(byId("health"), `pill ${worst}`);
  setText(byId("health"), found.length === 0 ? "All well" : plural(found.length, "problem"));
}

// The names of pools that have a history of their own.
function showChoice() {
  const select = byId("pool");
  const names = ["", ...past.pools()];
  const known = [...select.options].map((option) => option.value);
  if (names.join("\n") === known.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((pool) => el("option", { value: pool }, pool === "" ? "all" : name(pool))));
  select.value = names.includes(chosen) ? chosen : "";
}

function busyLines() {
  const number = past.points.at(-1)?.busy.length ?? 0;
  if (number <= LINES_MAX) {
    return Array.from({ length: number }, (_, index) => {
      return { name: `worker ${index}`, points: past.series((point) => point.busy[index]) };
    });
  }
  const of = (fold) => past.series((point) => (point.busy.length === 0 ? null : fold(point.busy)));
  return [
    { name: "busiest", points: of((busy) => Math.max(...busy)), tone: 1 },
    { name: "mean", points: of((busy) => busy.reduce((sum, one) => sum + one, 0) / busy.length), tone: 0 },
    { name: "idlest", points: of((busy) => Math.min(...busy)), tone: 3 },
  ];
}

function showCharts() {
  const now = past.points.at(-1)?.at_ms;
  if (now === undefined) return;
  const minutes = past.minutes();
  setText(byId("time-head"), minutes === 1 ? "Last minute" : `Last ${minutes} minutes`);
  const pace = past.pace(byId("pool").value);
  const line = (label, field, more = {}) => ({ name: label, points: past.series((point) => pace(point)?.[field]), ...more });
  charts.requests.show([line("requests", "requests", { area: true }), line("errors", "errors", { tone: 2 })], now, minutes);
  charts.latency.show(
    [line("p50", "p50_us"), line("p99", "p99_us", { tone: 1 }), line("p99.9", "p999_us", { tone: 2 })],
    now,
    minutes,
  );
  charts.busy.show(busyLines(), now, minutes);
}

// Another process counts points and events from zero again.
function notice(stats) {
  if (process !== null && process !== stats.pid) {
    past.restart();
    events.restart();
  }
  process = stats.pid;
}

async function turn() {
  const stats = await ask("/api/stats");
  notice(stats);
  const [points, happened, entries] = await Promise.all([
    ask(`/api/history?from=${past.next}`),
    ask(`/api/events?from=${events.next()}`),
    ask("/api/slowlog"),
  ]);
  heard = Date.now();
  past.add(points);
  events.add(happened);
  showHead(stats);
  showTiles(stats);
  showProblems(problemsOf(stats));
  workers.update(stats);
  pools.update(stats);
  slow.update(entries);
  showChoice();
  showCharts();
}

function showToken(wrong) {
  byId("token-form").hidden = false;
  setText(byId("token-wrong"), wrong ? "That is not its token." : "");
  setClass(byId("health"), "pill");
  setText(byId("health"), "Token needed");
  setText(byId("about"), "nothing is told without the token");
  document.body.dataset.locked = "";
  byId("token").focus();
}

function showSilence(error) {
  const age = heard === null ? Infinity : Date.now() - heard;
  if (age < STALE_MS) return;
  const since = heard === null ? "" : ` since ${new Date(heard).toLocaleTimeString()}`;
  showProblems([{ tone: "bad", what: `No answer${since}: ${error.message}. Asking again.` }]);
  setText(byId("health"), "No answer");
}

async function step() {
  timer = null;
  try {
    await turn();
    delete document.body.dataset.locked;
    byId("token-form").hidden = true;
    document.body.dataset.ready = "";
  } catch (error) {
    if (error instanceof NeedsToken) {
      showToken(hasToken());
      setToken(null);
      return;
    }
    showSilence(error);
  }
  timer = setTimeout(step, STEP_MS);
}

function wake() {
  // A page that nobody sees does not ask; what it missed is told at once when it is seen again.
  if (document.hidden) {
    clearTimeout(timer);
    timer = null;
  } else if (timer === null && byId("token-form").hidden) {
    step();
  }
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  byId("token").value = "";
  step();
});
byId("pool").addEventListener("change", showCharts);
document.addEventListener("visibilitychange", wake);
step();
