// Workers, pools, slow requests and events.

import { Keyed, Table, byId, el, parts, setClass, setText, text } from "./dom.js";
import { bytes, bytesRate, clock, count, name, percent, plural, rate, span, time } from "./units.js";

const of10 = (thing) => thing.rates["10s"];
const latency = (thing, field) => time(of10(thing).latency?.[field]);

// A dot and a name, and a second line below.
function named(about) {
  return parts((cell) => {
    const [dot, title, under] = [el("span", { class: "dot" }), el("bdi"), el("span", { class: "under" })];
    cell.append(el("div", { class: "named" }, dot, el("div", {}, title, under)));
    return (item) => {
      const { tone, main, more } = about(item);
      setClass(dot, `dot ${tone}`);
      setText(title, main);
      setText(under, more);
      under.hidden = more === "";
    };
  });
}

function toned(of) {
  return (item, cell) => {
    const [tone, shown] = of(item);
    setText(cell, shown);
    cell.classList.toggle("bad", tone === "bad");
    cell.classList.toggle("warn", tone === "warn");
  };
}

export function stateOfWorker(worker) {
  if (worker.state === "running") return "good";
  return worker.state === "starting" ? "warn" : "bad";
}

function busyCell() {
  return parts((cell) => {
    const [number, bar] = [el("span"), el("span")];
    const meter = el("span", { class: "meter", "aria-hidden": "true" }, bar);
    cell.append(number, meter);
    return (worker) => {
      const busy = of10(worker).busy_percent;
      setText(number, percent(busy));
      setClass(meter, busy > 95 ? "meter bad" : busy > 80 ? "meter warn" : "meter");
      bar.style.width = `${Math.min(busy, 100)}%`;
    };
  });
}

// Workers, each followed by its queues.
function workerColumns(withQueues) {
  const sum = (worker, field) => worker.queues.reduce((all, queue) => all + of10(queue)[field], 0);
  const columns = [
    {
      head: "Worker",
      text: true,
      cell: named((worker) => {
        const core = worker.core === null ? "any core" : `core ${worker.core}`;
        const process = worker.pid === null ? "no process" : `process ${worker.pid}`;
        return { tone: stateOfWorker(worker), main: `${worker.worker} · ${worker.state}`, more: `${core}, ${process}` };
      }),
    },
    { head: "Busy", cell: busyCell() },
    { head: "Requests", cell: text((worker) => rate(of10(worker).requests_per_s)) },
  ];
  if (withQueues) {
    columns.push(
      { head: "Queues", text: true, wide: true, cell: queueCell() },
      { head: "Received", wide: true, cell: text((worker) => `${rate(sum(worker, "rx_frames_per_s"))}`), title: "frames" },
      { head: "Sent", wide: true, cell: text((worker) => `${rate(sum(worker, "tx_frames_per_s"))}`), title: "frames" },
      {
        head: "Lost",
        title: "frames",
        cell: toned((worker) => [sum(worker, "lost_per_s") > 0 ? "bad" : "", rate(sum(worker, "lost_per_s"))]),
      },
    );
  }
  columns.push(
    { head: "Up", wide: true, cell: text((worker) => (worker.pid === null ? "–" : span(worker.uptime_s))) },
    {
      head: "Restarts",
      wide: true,
      cell: toned((worker) => [worker.restarts > 0 ? "warn" : "", String(worker.restarts)]),
    },
    { head: "Last end", text: true, wide: true, cell: text((worker) => name(worker.last_exit ?? "–")) },
  );
  return columns;
}

function queueCell() {
  return text((worker) => {
    const queues = worker.queues.map((queue) => `${name(queue.interface)}:${queue.queue} ${queue.mode ?? "closed"}`);
    return queues.join(", ");
  });
}

// Its columns depend on the driver, which does not change while an instance runs.
export class Workers {
  constructor(place) {
    this.place = place;
  }

  update(stats) {
    if (this.table === undefined) {
      const withQueues = stats.workers.some((worker) => worker.queues.length > 0);
      const columns = workerColumns(withQueues);
      this.table = new Table(this.place, "Workers and queues", columns, (worker) => worker.worker, "no workers");
    }
    this.table.update(stats.workers);
  }
}

export function stateOfServer(server, workers) {
  const { ejected } = server.counters;
  if (server.unreachable !== null) return ["bad", `unreachable: ${name(server.unreachable)}`];
  if (ejected > 0) return [ejected >= workers ? "bad" : "warn", `ejected by ${ejected} of ${plural(workers, "worker")}`];
  return ["good", ""];
}

const numbers = [
  { head: "Requests", cell: text((item) => rate(of10(item).requests_per_s)) },
  {
    head: "Errors",
    cell: toned((item) => [of10(item).errors_per_s > 0 ? "warn" : "", rate(of10(item).errors_per_s)]),
  },
  { head: "In", wide: true, cell: text((item) => bytesRate(of10(item).request_bytes_per_s)) },
  { head: "Out", wide: true, cell: text((item) => bytesRate(of10(item).reply_bytes_per_s)) },
  { head: "p50", wide: true, cell: text((item) => latency(item, "p50_us")) },
  { head: "p99", cell: text((item) => latency(item, "p99_us")) },
  { head: "p99.9", wide: true, cell: text((item) => latency(item, "p99.9_us")) },
];

class Pool {
  constructor(pool) {
    this.title = el("bdi");
    this.under = el("span", { class: "under" });
    this.facts = el("div", { class: "facts" });
    this.values = ["Requests", "Errors", "Clients", "p50", "p99"].map((head) => {
      const value = el("b");
      this.facts.append(el("span", {}, `${head} `, value));
      return value;
    });
    const head = el("div", { class: "pool-head" }, el("div", {}, el("h3", {}, this.title), this.under), this.facts);
    const servers = el("div");
    const commands = el("div");
    this.summary = el("summary");
    this.element = el("article", { class: "card pool" }, head, servers, el("details", {}, this.summary, commands));
    this.servers = new Table(servers, `Servers of pool ${pool.name}`, this.serverColumns(), (server) => server.key, "no servers");
    this.commands = new Table(commands, `Commands of pool ${pool.name}`, this.commandColumns(), (c) => c.name, "nothing was asked yet");
  }

  serverColumns() {
    return [
      {
        head: "Server",
        text: true,
        cell: named((server) => {
          const [tone, why] = stateOfServer(server, this.workers);
          const address = server.name === server.address ? "" : name(server.address);
          return { tone, main: name(server.name), more: [address, why].filter(Boolean).join(" · ") };
        }),
      },
      ...numbers,
      { head: "Connections", wide: true, cell: text((server) => count(server.counters.connections)) },
      { head: "Owed", wide: true, cell: text((server) => count(server.counters.in_flight)), title: "requests without a reply so far" },
    ];
  }

  commandColumns() {
    return [{ head: "Command", text: true, cell: text((command) => name(command.name)) }, ...numbers];
  }

  update({ pool, workers }) {
    this.workers = workers;
    setText(this.title, name(pool.name));
    setText(this.under, `${pool.protocol} on ${pool.listen.map(name).join(", ")}`);
    const rates = of10(pool);
    const values = [
      rate(rates.requests_per_s),
      rate(rates.errors_per_s),
      count(pool.counters.clients),
      latency(pool, "p50_us"),
      latency(pool, "p99_us"),
    ];
    values.forEach((value, index) => setText(this.values[index], value));
    this.values[1].className = rates.errors_per_s > 0 ? "warn" : "";
    this.servers.update(pool.servers.map((server, index) => ({ ...server, key: `${index} ${server.address} ${server.name}` })));
    const asked = pool.commands.filter((command) => command.requests > 0);
    asked.sort((a, b) => of10(b).requests_per_s - of10(a).requests_per_s || b.requests - a.requests);
    setText(this.summary, plural(asked.length, "command"));
    this.commands.update(asked);
  }
}

export class Pools {
  constructor(place) {
    this.list = new Keyed(place, ({ pool }) => {
      const made = new Pool(pool);
      return { element: made.element, update: (item) => made.update(item) };
    });
  }

  update(stats) {
    const items = stats.pools.map((pool) => ({ pool, workers: stats.workers.length }));
    this.list.update(items, ({ pool }) => pool.name);
  }
}

const PARTS = [
  ["queue_us", "waiting for the server connection", 0],
  ["server_us", "at the server", 1],
  ["turn_us", "behind earlier replies", 4],
  ["client_us", "to the client", 3],
];

const tookOf = (entry) => PARTS.reduce((sum, [field]) => sum + (entry[field] ?? 0), 0);

// Where its time went, as a bar; the numbers are its label.
function whereCell() {
  return parts((cell) => {
    const spans = PARTS.map(([, , tone]) => {
      const part = el("span");
      part.style.background = `var(--series-${tone})`;
      return part;
    });
    const bar = el("div", { class: "split", role: "img" }, ...spans);
    cell.append(bar);
    return (entry) => {
      const took = Math.max(tookOf(entry), 1);
      spans.forEach((part, index) => {
        part.style.width = `${(100 * (entry[PARTS[index][0]] ?? 0)) / took}%`;
      });
      const told = PARTS.filter(([field]) => entry[field] > 0).map(([field, where]) => `${time(entry[field])} ${where}`);
      bar.setAttribute("aria-label", told.join(", "));
      bar.title = told.join("\n");
    };
  });
}

export class Slow {
  constructor(place) {
    const columns = [
      { head: "Time", text: true, keep: true, cell: text((entry) => clock(entry.taken_unix_us / 1000)) },
      {
        head: "Request",
        text: true,
        cell: parts((cell) => {
          const [key, under] = [el("code"), el("span", { class: "under" })];
          const command = el("span");
          cell.append(command, " ", el("bdi", {}, key), under);
          return (entry) => {
            setText(command, name(entry.command));
            setText(key, name(entry.key));
            const server = entry.server === null ? "" : ` → ${name(entry.server)}`;
            setText(under, `${name(entry.client)} → ${name(entry.pool)}${server}`);
          };
        }),
      },
      { head: "Reply", wide: true, cell: text((entry) => bytes(entry.reply_bytes)) },
      { head: "Where", wide: true, cell: whereCell() },
      { head: "Took", cell: toned((entry) => [entry.end === "replied" ? "" : "bad", time(tookOf(entry))]) },
    ];
    const keys = PARTS.map(([, where, tone]) => el("span", { class: "key" }, el("i", { class: `s${tone}` }), where));
    this.legend = el("p", { class: "legend w" }, ...keys);
    this.table = new Table(place, "Slow requests, the latest first", columns, (entry) => entry.id, "no slow requests");
    place.after(this.legend);
  }

  update(report) {
    this.table.update(report.entries);
    this.legend.hidden = report.entries.length === 0;
    const note = byId("slow-note");
    setText(note, report.lost > 0 ? `${count(report.lost)} more were too many at once` : "");
  }
}

export class Events {
  constructor(place) {
    this.events = [];
    this.empty = el("p", { class: "empty" }, "nothing happened yet");
    const list = el("ol", { class: "events" });
    place.append(list, this.empty);
    this.list = new Keyed(list, (event) => {
      const tone = event.level === "error" ? "bad" : event.level === "warn" ? "warn" : "";
      const when = el("time", { datetime: new Date(event.at_ms).toISOString() }, clock(event.at_ms));
      const what = el("span", { class: tone }, el("bdi", {}, name(event.text)));
      return { element: el("li", {}, when, what), update: () => {} };
    });
  }

  // They come as long as the instance runs, so the oldest go here as they do there.
  add(events) {
    this.events = [...events.reverse(), ...this.events].slice(0, 256);
    this.empty.hidden = this.events.length > 0;
    this.list.update(this.events, (event) => event.seq);
  }

  next() {
    return this.events.length === 0 ? 0 : this.events[0].seq + 1;
  }

  restart() {
    this.events = [];
  }
}
