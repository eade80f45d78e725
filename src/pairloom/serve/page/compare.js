// Similarities of texts one types: one with many as sorted bars, all with all as a table of coloured cells.

import { request } from "./api.js";
import { shade } from "./colours.js";
import { byId, cut, debounced, h, isAbort, notice, plural } from "./dom.js";

const TYPING_MS = 300;
const MAX_LINES = 500;
const MAX_CELLS_A_SIDE = 40;

const EXAMPLE = "How do I make good coffee at home?";
const EXAMPLES = [
  "Grind fresh beans, and pour water just off the boil over them.",
  "What is the best way to brew a cup in my own kitchen?",
  "The café on the corner closes at six.",
  "Green tea tastes bitter if it is steeped too long.",
  "My laptop does not wake up after I close the lid.",
  "The battery of my computer is empty every morning.",
];

export class Compare {
  #underWay = new AbortController();
  #later = debounced(() => this.#run(), TYPING_MS);
  #opened = false;
  #redraw = () => {};

  /** @param {object[]} models as `GET v1/models` lists them; `chosen` is the one that the collection is searched by */
  constructor(models, chosen) {
    byId("compare-model").append(...models.map(({ id }) => h("option", { value: id, selected: id === chosen }, id)));
    byId("compare-model-field").hidden = models.length < 2;
    byId("compare-text").value = EXAMPLE;
    byId("compare-lines").value = EXAMPLES.join("\n");
    byId("compare-form").addEventListener("input", () => this.#later());
    byId("compare-form").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("themechange", () => this.#redraw());
  }

  open() {
    if (this.#opened) return;
    this.#opened = true;
    this.#run();
  }

  get #all() {
    return byId("compare-kind").querySelector(":checked").value === "all";
  }

  async #run() {
    this.#underWay.abort();
    const { signal } = (this.#underWay = new AbortController());
    const all = this.#all;
    byId("compare-text-field").hidden = all;
    const text = byId("compare-text").value.trim();
    const written = byId("compare-lines").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const lines = written.slice(0, all ? MAX_CELLS_A_SIDE : MAX_LINES);
    if (lines.length < (all ? 2 : 1) || (!all && !text)) {
      this.#redraw = () => {};
      say("");
      byId("compare-results").replaceChildren(notice(all ? "Write two texts or more, one a line." : "Write a text, and others to compare it with."));
      return;
    }
    const model = byId("compare-model").value || undefined;
    const body = all ? { model, texts: lines } : { model, text, others: lines };
    byId("compare-results").setAttribute("aria-busy", "true");
    try {
      const { similarities, truncated } = await request("v1/similarity", { body, signal, onWait: wait });
      if (signal.aborted) return;
      const left = written.length - lines.length;
      say([
        `${plural(lines.length, "text")} compared`,
        left > 0 ? `the last ${left} left out` : "",
        truncated > 0 ? `${truncated} cut to what the model reads` : "",
      ].filter(Boolean).join(", "));
      this.#redraw = () => byId("compare-results").replaceChildren(all ? heatMap(lines, similarities) : bars(lines, similarities[0]));
      this.#redraw();
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      say("The comparison failed");
      byId("compare-results").replaceChildren(notice("That could not be compared.", error.message,
        h("button", { type: "button", class: "quiet", onclick: () => this.#run() }, "Try again")));
    } finally {
      if (!signal.aborted) byId("compare-results").removeAttribute("aria-busy");
    }
  }
}

/** What similarities are shown against: cosines against 1, others against the largest. */
function shareOf(values) {
  const isCosine = values.every((value) => Math.abs(value) <= 1.001);
  if (isCosine) return (value) => value;
  const least = Math.min(...values);
  const most = Math.max(...values);
  return (value) => (most > least ? (value - least) / (most - least) : 1);
}

function shown(value) {
  return Math.abs(value) <= 1.001 ? value.toFixed(2).replace("-", "−") : value.toFixed(1).replace("-", "−");
}

function bars(lines, values) {
  const share = shareOf(values);
  const sorted = lines.map((line, place) => [line, values[place]]).sort(([, a], [, b]) => b - a);
  return h("ol", { class: "bars", "aria-label": "Texts, the most similar first" }, sorted.map(([line, value]) => {
    const fill = h("span", { class: "fill" });
    fill.style.width = `${Math.max(0, Math.min(1, share(value))) * 100}%`;
    return h("li", {}, h("span", { class: "number" }, shown(value)), h("span", { class: "bar", "aria-hidden": "true" }, fill), h("span", { class: "text", dir: "auto" }, line));
  }));
}

function heatMap(lines, rows) {
  const share = shareOf(rows.flat());
  const head = h("tr", {}, h("td", { class: "corner" }), lines.map((line, place) => h("th", { scope: "col", title: line, "aria-label": line }, String(place + 1))));
  const body = rows.map((row, place) => h("tr", {},
    h("th", { scope: "row", title: lines[place] }, h("span", { class: "number" }, String(place + 1)), " ", h("span", { class: "label", dir: "auto" }, cut(lines[place], 90))),
    row.map((value) => {
      const cell = h("td", {}, shown(value));
      const { background, ink } = shade(share(value));
      cell.style.backgroundColor = background;
      cell.style.color = ink;
      return cell;
    })));
  const scale = h("p", { class: "scale", "aria-hidden": "true" }, "less alike", Array.from({ length: 9 }, (_, step) => {
    const swatch = h("span", { class: "swatch" });
    swatch.style.backgroundColor = shade(step / 8).background;
    return swatch;
  }), "more alike");
  return h("div", {}, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Similarity of all with all" },
    h("table", { class: "heat" }, h("caption", { class: "unseen" }, "Similarity of each text to each other"), h("thead", {}, head), h("tbody", {}, body))), scale);
}

function say(text) {
  byId("compare-status").textContent = text;
}

function wait(why, seconds) {
  say(`The server ${why === "busy" ? "is busy" : "does not answer"}. Trying again in ${Math.ceil(seconds)} s…`);
}
