// The last ten minutes, point by point, as the instance tells them.

const MINUTE_MS = 60_000;
const SPAN_MS = 10 * MINUTE_MS;
// Points this far apart have nothing known between them.
const GAP_MS = 5000;

export class Past {
  constructor() {
    this.points = [];
    this.next = 0;
  }

  add(points) {
    // An instance that was started anew counts from zero again: what it does not know any more is kept.
    for (const point of points) {
      this.points.push(point);
      this.next = point.seq + 1;
    }
    const last = this.points.at(-1);
    if (last === undefined) return;
    const first = this.points.findIndex((point) => point.at_ms >= last.at_ms - SPAN_MS);
    if (first > 0) this.points.splice(0, first);
  }

  // The whole minutes that there is something to show of, at least one.
  minutes() {
    const age = this.points.length === 0 ? 0 : this.points.at(-1).at_ms - this.points[0].at_ms;
    return Math.max(1, Math.ceil(age / MINUTE_MS));
  }

  // The same from the beginning: another process answers.
  restart() {
    this.next = 0;
  }

  pools() {
    const last = this.points.at(-1);
    return last === undefined ? [] : last.pools.map(([name]) => name);
  }

  // What `value` makes of each point, as [time, number or null]. A null where nothing is known in between.
  series(value) {
    const series = [];
    let before = null;
    for (const point of this.points) {
      if (before !== null && point.at_ms - before > GAP_MS) series.push([before + 1, null]);
      const number = value(point);
      series.push([point.at_ms, number === undefined ? null : number]);
      before = point.at_ms;
    }
    return series;
  }

  // The pace of a pool, or of all with an empty name.
  pace(pool) {
    if (pool === "") return (point) => point.total;
    return (point) => point.pools.find(([name]) => name === pool)?.[1];
  }
}
