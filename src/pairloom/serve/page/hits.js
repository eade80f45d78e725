// A list of hits: text with its words marked, score, metadata; moved through with the arrow keys.

import { cut, h, inUnits, marked, wholeAt } from "./dom.js";
import { flatValues } from "./model.js";

const FOLD_CHARACTERS = 420;
const FOLD_LINES = 8;
const BEFORE_CHARACTERS = 70;
const CHIPS = 10;
const CHIP_CHARACTERS = 48;

export const MODES = { vector: "Meaning", words: "Words", hybrid: "Both" };

/**
 * An ordered list of hits.
 * @param {object[]} hits as the server gives them
 * @param {object} how
 * @param {string} how.mode by what they were found
 * @param {string} how.similarity the model's: of a cosine the bar is the score itself, else its part of the best
 * @param {Filters} how.filters
 * @param {(hit: object) => void} how.onNear
 * @param {(hit: object) => string} [how.elsewhere] where it stands in the lists beside this one
 */
export function hitList(hits, how) {
  const best = Math.max(...hits.map((hit) => Math.abs(hit.score)), Number.MIN_VALUE);
  const whole = how.mode === "vector" && how.similarity === "cosine" ? 1 : best;
  return h("ol", { class: "hits", "aria-label": `Hits by ${MODES[how.mode].toLowerCase()}` },
    hits.map((hit, place) => h("li", {}, article(hit, place, whole, how))));
}

/** A score with as many digits as tell hits apart: similarities are about 1, fused ranks far below it. */
export function shownScore(score) {
  const size = Math.abs(score);
  return score.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4);
}

function article(hit, place, whole, how) {
  const body = text(hit);
  const ranks = how.elsewhere?.(hit);
  return h("article", {
    class: "hit",
    // One hit is in the tab order; the arrow keys move among the others.
    tabindex: place === 0 ? 0 : -1,
    "data-id": hit.id,
    "aria-label": `Hit ${place + 1}, score ${shownScore(hit.score)}`,
    onkeydown: (event) => {
      if (event.key === "Enter" && event.target === event.currentTarget) event.currentTarget.querySelector(".fold")?.click();
    },
  },
    score(hit.score, whole, how.mode),
    h("div", { class: "said" },
      body,
      chips(hit, how.filters),
      h("p", { class: "under" },
        h("span", { class: "id", title: "The document's id" }, cut(hit.id, 60)),
        ranks ? h("span", { class: "ranks" }, ranks) : null,
        h("button", { type: "button", class: "plain", "aria-label": `Search near hit ${place + 1}`, onclick: () => how.onNear(hit) }, "Near this"),
      ),
    ),
  );
}

const KINDS = { vector: "Similarity under the model", words: "BM25: how much the words tell", hybrid: "Both rankings, fused" };

function score(value, whole, mode) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${Math.max(0, Math.min(1, value / whole)) * 100}%`;
  return h("p", { class: "score", title: KINDS[mode] }, h("span", { class: "number" }, shownScore(value)), h("span", { class: "bar", "aria-hidden": "true" }, fill));
}

/** The text; of a long one the part in which the first marked word stands, and a button for the whole. */
function text(hit) {
  const ranges = inUnits(hit.text, hit.highlights ?? []);
  const [begin, end] = part(hit.text, ranges);
  const paragraph = h("p", { class: "text", dir: "auto" });
  if (begin === 0 && end === hit.text.length) {
    paragraph.append(...marked(hit.text, ranges));
    return [paragraph];
  }
  const button = h("button", { type: "button", class: "plain fold", onclick: () => show(button.getAttribute("aria-expanded") !== "true") });
  const show = (unfolded) => {
    button.setAttribute("aria-expanded", String(unfolded));
    button.textContent = unfolded ? "Show less" : "Show all";
    paragraph.replaceChildren(...(unfolded ? marked(hit.text, ranges) : [begin > 0 ? "… " : "", ...marked(hit.text, ranges, begin, end), end < hit.text.length ? " …" : ""]));
  };
  show(false);
  return [paragraph, button];
}

function part(text, ranges) {
  let begin = 0;
  if (ranges.length && ranges[0][1] > FOLD_CHARACTERS - BEFORE_CHARACTERS) {
    begin = ranges[0][0] - BEFORE_CHARACTERS;
    const gap = text.slice(begin, ranges[0][0]).search(/\s/);
    begin = gap < 0 ? wholeAt(text, begin) : begin + gap + 1;
  }
  let end = text.length;
  if (end - begin > FOLD_CHARACTERS * 1.25) {
    const space = text.lastIndexOf(" ", begin + FOLD_CHARACTERS);
    end = space > begin + FOLD_CHARACTERS / 2 ? space : wholeAt(text, begin + FOLD_CHARACTERS);
  }
  const lines = text.slice(begin, end).split("\n");
  if (lines.length > FOLD_LINES + 2) end = begin + lines.slice(0, FOLD_LINES).join("\n").length;
  return [begin, end];
}

function chips(hit, filters) {
  const values = flatValues(hit.metadata);
  if (!values.length) return null;
  const rest = values.length - CHIPS;
  return h("ul", { class: "chips", "aria-label": "Metadata" },
    values.slice(0, CHIPS).map(([name, value]) => h("li", {}, chip(name, value, filters))),
    rest > 0 ? h("li", { class: "chip" }, `${rest} more`) : null);
}

function chip(name, value, filters) {
  const words = [h("span", { class: "name" }, name), " ", cut(String(value), CHIP_CHARACTERS)];
  if (!filters.offers(name)) return h("span", { class: "chip" }, words);
  return h("button", {
    type: "button",
    class: "chip",
    "aria-pressed": String(filters.has(name, value)),
    title: "Only those",
    onclick: () => filters.toggle(name, value),
  }, words);
}

/** Arrow keys in lists of hits: up and down within one, left and right to the same document in the list beside it. */
export function moveAmongHits(event, onLeave) {
  const here = event.target.closest?.(".hit");
  if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, textarea, select")) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const side = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const list = here.closest(".hits");
  const among = [...list.querySelectorAll(".hit")];
  const place = among.indexOf(here);
  let next;
  if (step) {
    next = among[place + step];
    if (!next && step < 0) onLeave();
  } else if (side) {
    const lists = [...document.querySelectorAll("#results .hits")];
    const beside = lists[lists.indexOf(list) + side];
    const others = beside ? [...beside.querySelectorAll(".hit")] : [];
    next = others.find((one) => one.dataset.id === here.dataset.id) ?? others[Math.min(place, others.length - 1)];
  } else if (event.key === "Home" || event.key === "End") {
    next = among.at(event.key === "Home" ? 0 : -1);
  } else return;
  event.preventDefault();
  if (!next) return;
  const nextList = next.closest(".hits");
  for (const one of nextList.querySelectorAll(".hit")) one.tabIndex = one === next ? 0 : -1;
  next.focus();
}
