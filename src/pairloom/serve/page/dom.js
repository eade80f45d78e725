// Elements are made here, and only here from data: text is always text, never markup.

export const byId = (id) => document.getElementById(id);

/** An element. `onclick` and the like are listeners; false, null and undefined are left out; true is a bare attribute. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const counts = new Intl.NumberFormat("en");
export const count = (number) => counts.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A text cut at a word, if it is longer than so many characters. */
export function cut(text, length) {
  if (text.length <= length) return text;
  const space = text.lastIndexOf(" ", length);
  return `${text.slice(0, space > length / 2 ? space : wholeAt(text, length)).trimEnd()}…`;
}

/** Ranges of characters as Python counts them, as ranges of JavaScript's half characters. */
export function inUnits(text, ranges) {
  if (!/[\ud800-\udbff]/.test(text)) return ranges;
  const places = [];
  let place = 0;
  for (const character of text) {
    places.push(place);
    place += character.length;
  }
  places.push(place);
  return ranges.map(([begin, end]) => [places[begin] ?? place, places[end] ?? place]);
}

/** Nodes for a part of a text in which some ranges are marked. */
export function marked(text, ranges, begin = 0, end = text.length) {
  const nodes = [];
  let place = begin;
  for (const [from, to] of ranges) {
    const first = Math.max(from, place);
    const last = Math.min(to, end);
    if (first >= last) continue;
    if (first > place) nodes.push(text.slice(place, first));
    nodes.push(h("mark", {}, text.slice(first, last)));
    place = last;
  }
  if (place < end) nodes.push(text.slice(place, end));
  return nodes;
}

/** A place that does not cut a character in two. */
export function wholeAt(text, place) {
  const code = text.charCodeAt(place);
  return code >= 0xdc00 && code <= 0xdfff ? place + 1 : place;
}

/** What was thrown because something newer is under way. */
export const isAbort = (error) => error?.name === "AbortError";

/** Calls a function when there was no further call for so many milliseconds; `.now()` calls it at once. */
export function debounced(call, delay_ms) {
  let timer = null;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(call, delay_ms);
  };
  later.now = () => {
    clearTimeout(timer);
    call();
  };
  return later;
}

/** A message in place of results, with a button if there is something to do. */
export function notice(title, text, ...buttons) {
  return h("div", { class: "notice" }, h("p", { class: "lead" }, title), text ? h("p", {}, text) : null, buttons.length ? h("p", { class: "buttons" }, buttons) : null);
}
