// A plot over time: lines in SVG, the numbers of the moment (or of where the pointer is) in its caption.

import { el, setClass, setText, svg } from "./dom.js";
import { clock } from "./units.js";

const MARGIN = { top: 8, right: 10, bottom: 20, left: 52 };

// Steps of 1, 2 and 5 from zero to at least `most`, about four of them.
function linearTicks(most) {
  const rough = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let index = 0; index * step < most + step * 0.999; index += 1) ticks.push(index * step);
  return ticks;
}

// Powers of ten around what there is.
function logTicks(least, most) {
  const ticks = [];
  const last = Math.max(Math.ceil(Math.log10(most)), Math.floor(Math.log10(least)) + 1);
  for (let power = Math.floor(Math.log10(least)); power <= last; power += 1) ticks.push(10 ** power);
  return ticks;
}

export class Chart {
  // `format` writes a value, `tick` one at the axis; `most` is the end of the axis if it never changes.
  constructor(figure, { title, format, tick = format, log = false, most = null, least = 0 }) {
    Object.assign(this, { figure, title, format, tick, log, most, least });
    this.series = [];
    this.cursor = null;
    this.when = el("span", { class: "when" });
    this.caption = el("figcaption", {}, el("span", { class: "title" }, title), this.when);
    this.plot = svg("svg", { class: "plot", role: "img" });
    figure.append(this.caption, this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  // Lines: { name, points: [[ms, value or null]], area }.
  show(series, now, minutes) {
    this.series = series;
    this.span = minutes * 60_000;
    this.now = now;
    this.draw();
  }

  point(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    const inner = width - MARGIN.left - MARGIN.right;
    const part = (event.clientX - left - MARGIN.left) / inner;
    this.cursor = part < 0 || part > 1 ? null : this.now - this.span * (1 - part);
    this.draw();
  }

  scale(height) {
    const values = this.series.flatMap((line) => line.points.map(([, value]) => value)).filter((value) => value !== null);
    const inner = height - MARGIN.top - MARGIN.bottom;
    if (this.log) {
      const positive = values.filter((value) => value > 0);
      const ticks = logTicks(Math.min(this.least, ...positive), Math.max(this.least * 10, ...positive));
      const [low, high] = [Math.log10(ticks[0]), Math.log10(ticks.at(-1))];
      const y = (value) => MARGIN.top + inner * (1 - (Math.log10(Math.max(value, ticks[0])) - low) / (high - low));
      return { ticks, y };
    }
    const ticks = linearTicks(this.most ?? Math.max(this.least, ...values));
    const high = this.most ?? ticks.at(-1);
    return { ticks, y: (value) => MARGIN.top + inner * (1 - Math.min(value, high) / high) };
  }

  draw() {
    const { width, height } = this.plot.getBoundingClientRect();
    if (width === 0 || this.now === undefined) return;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { ticks, y } = this.scale(height);
    const right = width - MARGIN.right;
    const x = (ms) => right - ((this.now - ms) / this.span) * (right - MARGIN.left);
    const parts = [];
    for (const value of ticks) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: at, y2: at }));
      parts.push(svg("text", { x: MARGIN.left - 7, y: at + 3.5, "text-anchor": "end" }, this.tick(value)));
    }
    parts.push(...this.times(x, height, width));
    this.series.forEach((line, index) => parts.push(...this.line(line, index, x, y, height - MARGIN.bottom)));
    if (this.cursor !== null) {
      const at = x(this.cursor);
      parts.push(svg("line", { class: "cursor", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }));
    }
    this.plot.replaceChildren(...parts);
    this.write();
  }

  // Whole minutes, a few of them.
  times(x, height, width) {
    const minutes = this.span / 60_000 / (width > 380 ? 5 : 3);
    const step = 60_000 * [1, 2, 4].find((step) => step >= minutes);
    const parts = [];
    for (let ms = Math.ceil((this.now - this.span) / step) * step; ms <= this.now; ms += step) {
      const at = x(ms);
      if (at < MARGIN.left + 12 || at > width - MARGIN.right - 12) continue;
      parts.push(svg("text", { x: at, y: height - 5, "text-anchor": "middle" }, clock(ms, false)));
    }
    return parts;
  }

  line({ points, area, tone }, index, x, y, floor) {
    const runs = [];
    let run = [];
    for (const [ms, value] of [...points, [0, null]]) {
      if (value !== null && ms >= this.now - this.span) {
        run.push([x(ms).toFixed(1), y(value).toFixed(1)]);
      } else if (run.length > 0) {
        // One point alone is seen as a short stroke.
        if (run.length === 1) run.push([String(Number(run[0][0]) + 1.5), run[0][1]]);
        runs.push(run);
        run = [];
      }
    }
    const path = (run) => run.map((point) => point.join(",")).join("L");
    const tint = `s${tone ?? index}`;
    const parts = [];
    if (area && runs.length > 0) {
      const d = runs.map((run) => `M${run[0][0]},${floor}L${path(run)}L${run.at(-1)[0]},${floor}Z`).join("");
      parts.push(svg("path", { class: `area ${tint}`, d }));
    }
    parts.push(svg("path", { class: `line ${tint}`, d: runs.map((run) => `M${path(run)}`).join("") }));
    return parts;
  }

  // The value of a line at the pointer, or its last one.
  valueOf({ points }) {
    if (this.cursor === null) {
      const last = points.at(-1);
      return last === undefined ? null : last[1];
    }
    let best = null;
    for (const point of points) {
      if (best === null || Math.abs(point[0] - this.cursor) < Math.abs(best[0] - this.cursor)) best = point;
    }
    return best === null || Math.abs(best[0] - this.cursor) > 5000 ? null : best[1];
  }

  write() {
    while (this.caption.querySelectorAll(".key").length > this.series.length) this.caption.lastElementChild.remove();
    const keys = this.caption.querySelectorAll(".key");
    const told = [];
    this.series.forEach((line, index) => {
      const value = this.valueOf(line);
      const shown = value === null ? "–" : this.format(value);
      told.push(`${line.name} ${shown}`);
      let key = keys[index];
      if (key === undefined) {
        key = el("span", { class: "key" }, el("i"), el("span"), " ", el("b"));
        this.caption.append(key);
      }
      setClass(key.children[0], `s${line.tone ?? index}`);
      setText(key.children[1], line.name);
      setText(key.children[2], shown);
    });
    setText(this.when, this.cursor === null ? "" : clock(this.cursor));
    if (this.cursor === null) this.plot.setAttribute("aria-label", `${this.title}: ${told.join(", ")}`);
  }
}
