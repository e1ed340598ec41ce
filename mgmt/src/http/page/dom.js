// Elements from text. Nothing here or elsewhere makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// Changes a text only if it is another one: a selection stays, and screen readers are not told for nothing.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, text) {
  if (element.className !== text) element.className = text;
}

// A list whose children follow `items`: each has a key, is made once and updated from then on.
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.known = new Map();
  }

  update(items, keyOf) {
    const seen = new Set();
    let next = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      seen.add(key);
      let entry = this.known.get(key);
      if (entry === undefined) {
        entry = this.make(item);
        this.known.set(key, entry);
      }
      if (entry.element === next) {
        next = next.nextElementSibling;
      } else {
        this.parent.insertBefore(entry.element, next);
      }
      entry.update(item);
    }
    for (const [key, entry] of this.known) {
      if (!seen.has(key)) {
        entry.element.remove();
        this.known.delete(key);
      }
    }
  }
}

// A table of rows with keys. Columns: { head, cell(item, element), text, wide, header }.
export class Table {
  constructor(place, caption, columns, keyOf, empty) {
    const classes = (column) => [column.text && "t", column.keep && "keep", column.wide && "w"].filter(Boolean).join(" ");
    const heads = columns.map((column) => {
      return el("th", { scope: "col", class: classes(column), title: column.title }, column.head);
    });
    const body = el("tbody");
    this.frame = el("div", { class: "scroll" }, el("table", { "aria-label": caption }, el("thead", {}, el("tr", {}, ...heads)), body));
    this.empty = el("p", { class: "empty" }, empty);
    place.append(this.frame, this.empty);
    this.keyOf = keyOf;
    this.rows = new Keyed(body, () => {
      const cells = columns.map((column, index) => {
        const attributes = index === 0 ? { scope: "row", class: classes(column) } : { class: classes(column) };
        return el(index === 0 ? "th" : "td", attributes);
      });
      const element = el("tr", {}, ...cells);
      const update = (item) => columns.forEach((column, index) => column.cell(item, cells[index]));
      return { element, update };
    });
  }

  update(items) {
    this.frame.hidden = items.length === 0;
    this.empty.hidden = items.length > 0;
    this.rows.update(items, this.keyOf);
  }
}

// A cell that is one text.
export function text(of) {
  return (item, cell) => setText(cell, of(item));
}

// A cell of a few parts that are made at first and updated from then on.
export function parts(make) {
  const known = new WeakMap();
  return (item, cell) => {
    let update = known.get(cell);
    if (update === undefined) {
      update = make(cell);
      known.set(cell, update);
    }
    update(item);
  };
}
