// Numbers and names as people read them.

const THIN = "\u202f";
const UNBROKEN = "\u00a0";

// A number with at most three digits before its unit.
function scaled(value, steps, units) {
  let index = 0;
  while (index + 1 < units.length && value >= steps) {
    value /= steps;
    index += 1;
  }
  const digits = value >= 99.95 || (index === 0 && Number.isInteger(value)) ? 0 : value >= 9.995 ? 1 : 2;
  return [value.toFixed(digits), units[index]];
}

function joined([number, unit]) {
  return unit === "" ? number : number + THIN + unit;
}

export function countParts(value) {
  return scaled(value, 1000, ["", "k", "M", "G", "T"]);
}

// "81.2 k"
export function count(value) {
  return joined(countParts(value));
}

// The same without zeros that say nothing: "50 k"
export function short(text) {
  return text.replace(/\.0+(?!\d)/, "");
}

// Per second: "81.2 k/s"
export function rate(value) {
  return joined(countParts(value)) + "/s";
}

// "9.80 MB/s"
export function bytesRate(value) {
  return joined(scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"])) + "/s";
}

export function bytes(value) {
  return joined(scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]));
}

export function timeParts(us) {
  if (us < 1000) return [String(us), "µs"];
  if (us < 1e6) return [scaled(us / 1000, Infinity, [""])[0], "ms"];
  return [scaled(us / 1e6, Infinity, [""])[0], "s"];
}

// "115 µs", "2.30 ms", "1.20 s"; a dash where there was nothing to measure.
export function time(us) {
  return us === null || us === undefined ? "–" : joined(timeParts(us));
}

export function percent(value) {
  return (value >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)) + THIN + "%";
}

// "1 d 02 h"
export function span(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  const pair = (large, unit, small, smaller) => [large, unit, two(small), smaller].join(UNBROKEN);
  if (seconds < 60) return seconds + UNBROKEN + "s";
  if (seconds < 3600) return pair(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86400) return pair(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return pair(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
}

export function clock(ms, withSeconds = true) {
  const date = new Date(ms);
  const two = (value) => String(value).padStart(2, "0");
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withSeconds ? `${minutes}:${two(date.getSeconds())}` : minutes;
}

// A name that somebody else chose: what cannot be seen, or turns its neighbours around, is written out.
export function name(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0).toString(16)}}`;
  });
}

// One thing, several things.
export function plural(number, one, several = `${one}s`) {
  return `${number} ${number === 1 ? one : several}`;
}
