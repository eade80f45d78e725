// The search: asks while one types, and shows what the newest question found.

import { request } from "./api.js";
import { byId, count, debounced, h, isAbort, notice, plural } from "./dom.js";
import { conditionsOf, Filters } from "./filters.js";
import { hitList, MODES, moveAmongHits } from "./hits.js";
import { asFilter, controlsOf } from "./model.js";

const TYPING_MS = 120;
const K = 10;
const MAX_K = 100;
const NEAR_CHARACTERS = 4000;
const WIDE = matchMedia("(min-width: 60rem)");

export class Search {
  #collection;
  #onAddress;
  #onNear;
  #filters;
  #near = null; // {id, text}: the document near which is searched
  #k = K;
  #underWay = new AbortController();
  #later = debounced(() => this.#run(), TYPING_MS);
  #lastHits = new Set();
  #opening = null;
  #focusAt = null; // which hit to focus when the next ones are shown

  /**
   * @param {object} collection the server's facts
   * @param {{onAddress: (push: boolean) => void, onNear: (hit: object) => void}} calls
   */
  constructor(collection, { onAddress, onNear }) {
    this.#collection = collection;
    this.#onAddress = onAddress;
    this.#onNear = onNear;
    this.#filters = new Filters(byId("filters"), controlsOf(collection), () => this.#filtered());
    byId("aside").hidden = controlsOf(collection).length === 0;
    byId("columns").classList.toggle("alone", byId("aside").hidden);
    byId("filters-fold").open = WIDE.matches;
    WIDE.addEventListener("change", () => (byId("filters-fold").open = WIDE.matches));
    for (const radio of byId("modes").querySelectorAll("input")) {
      const offered = radio.value === "side" ? collection.modes.length > 1 : collection.modes.includes(radio.value);
      radio.closest("label").hidden = radio.disabled = !offered;
    }
    byId("modes").hidden = collection.modes.length < 2;
    this.#choose(null);
    byId("query").placeholder = `Search ${plural(collection.count, "document")}`;
    this.#listen();
  }

  /** Ids of the documents that were found last. */
  get lastHits() {
    return this.#lastHits;
  }

  /** What is asked, for the address. */
  get params() {
    const params = new URLSearchParams();
    if (this.#near) params.set("near", this.#near.id);
    else if (byId("query").value.trim()) params.set("q", byId("query").value);
    if (this.#mode !== this.#collection.modes[0]) params.set("mode", this.#mode);
    if (Object.keys(this.#filters.conditions).length) params.set("filter", JSON.stringify(this.#filters.conditions));
    return params;
  }

  /**
   * Asks what an address says.
   * @param {string} [text] of the document near which is searched, if it is known
   */
  async open(params, text) {
    const opening = (this.#opening = Symbol("opening"));
    byId("query").value = params.get("q") ?? "";
    this.#choose(params.get("mode"));
    this.#filters.conditions = conditionsOf(params.get("filter"));
    this.#k = K;
    this.#near = null;
    const id = params.get("near");
    if (id !== null) {
      const near = { id, text: text ?? (await textOf(id)) };
      if (this.#opening !== opening) return;
      this.#near = near;
    }
    this.#run();
  }

  /** Whether it ever asked what an address says. */
  get isOpen() {
    return this.#opening !== null;
  }

  focus() {
    byId("query").focus();
    byId("query").select();
  }

  get #mode() {
    return byId("modes").querySelector(":checked").value;
  }

  /** Chooses a mode, or the server's default if there is no such one. */
  #choose(mode) {
    const radios = [...byId("modes").querySelectorAll("input:enabled")];
    const chosen = radios.find(({ value }) => value === mode) ?? radios.find(({ value }) => value === this.#collection.modes[0]);
    chosen.checked = true;
  }

  #listen() {
    const query = byId("query");
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#later.now();
    });
    query.addEventListener("input", () => {
      this.#near = null;
      this.#k = K;
      this.#later();
    });
    query.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") {
        const first = document.querySelector("#results .hit");
        if (!first) return;
        event.preventDefault();
        first.focus();
      } else if (event.key === "Escape") {
        event.preventDefault();
        this.#clear();
      }
    });
    byId("modes").addEventListener("change", () => {
      this.#onAddress(true);
      this.#run();
    });
    byId("near-clear").addEventListener("click", () => this.#clear());
    byId("more").addEventListener("click", () => {
      this.#focusAt = this.#k;
      this.#k = Math.min(this.#k * 2, MAX_K);
      this.#run();
    });
    const results = byId("results");
    results.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.focus();
      else moveAmongHits(event, () => query.focus());
    });
    for (const kind of ["pointerover", "focusin"]) results.addEventListener(kind, (event) => light(event.target.closest(".hit")));
    for (const kind of ["pointerleave", "focusout"]) results.addEventListener(kind, () => light(null));
  }

  #clear() {
    byId("query").value = "";
    this.#near = null;
    byId("query").focus();
    this.#run();
  }

  #filtered() {
    this.#k = K;
    this.#onAddress(true);
    this.#run();
  }

  async #run() {
    this.#underWay.abort();
    const { signal } = (this.#underWay = new AbortController());
    this.#onAddress(false);
    this.#showAsked();
    const query = this.#near ? this.#near.text.slice(0, NEAR_CHARACTERS) : byId("query").value.trim();
    if (!query) {
      this.#showEmpty();
      return;
    }
    byId("results").setAttribute("aria-busy", "true");
    try {
      const modes = this.#mode === "side" ? this.#sideBySide() : [this.#mode];
      const answers = await Promise.all(modes.map((mode) => this.#ask(query, mode, signal)));
      // Whatever came for an older question is not shown.
      if (!signal.aborted) this.#show(answers);
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      this.#showFault(error);
    } finally {
      if (!signal.aborted) byId("results").removeAttribute("aria-busy");
    }
  }

  #sideBySide() {
    return ["vector", "words", "hybrid"].filter((mode) => this.#collection.modes.includes(mode));
  }

  async #ask(query, mode, signal) {
    const near = this.#near;
    // The document itself is near itself, and not shown; and of a whole text nearly every word would be marked.
    const k = near ? this.#k + 1 : this.#k;
    const body = { query, k, mode, filter: asFilter(this.#filters.conditions), highlights: !near };
    const answer = await request("v1/search", { body, signal, onWait: wait });
    return { ...answer, mode, hits: answer.hits.filter((hit) => hit.id !== near?.id).slice(0, this.#k) };
  }

  #show(answers) {
    const lists = new Map(answers.map(({ mode, hits }) => [mode, hits]));
    const all = new Set(answers.flatMap(({ hits }) => hits.map((hit) => hit.id)));
    this.#lastHits = all;
    const took_ms = Math.max(...answers.map((answer) => answer.took_ms));
    const time = `${took_ms < 10 ? took_ms.toFixed(1) : count(Math.round(took_ms))} ms`;
    byId("more").hidden = this.#k >= MAX_K || !answers.some(({ hits }) => hits.length === this.#k);
    if (all.size === 0) {
      this.#showNothing();
      return;
    }
    say(`${plural(all.size, answers.length > 1 ? "document" : "hit")} in ${time}`);
    const results = byId("results");
    // What had the focus is gone; it must not fall back to the top of the page.
    const focusAt = this.#focusAt ?? (results.contains(document.activeElement) ? 0 : null);
    this.#focusAt = null;
    results.replaceChildren(answers.length > 1
      ? h("div", { class: "side" }, answers.map(({ mode, hits }) => h("section", { "aria-label": MODES[mode] },
        h("h2", { class: "column-title" }, MODES[mode]),
        hits.length ? this.#list(mode, hits, lists) : h("p", { class: "hint" }, "Nothing was found this way."))))
      : this.#list(answers[0].mode, answers[0].hits, lists));
    if (focusAt !== null) results.querySelectorAll(".hits:first-of-type .hit")[focusAt]?.focus();
  }

  #list(mode, hits, lists) {
    return hitList(hits, {
      mode,
      similarity: this.#collection.similarity,
      filters: this.#filters,
      onNear: this.#onNear,
      elsewhere: lists.size > 1 ? (hit) => ranks(hit.id, mode, lists) : undefined,
    });
  }

  #showAsked() {
    byId("near").hidden = this.#near === null;
    byId("near-text").textContent = this.#near ? this.#near.text.slice(0, 300) : "";
    byId("active").replaceChildren(...this.#filters.active().map(({ text, drop }) =>
      h("li", {}, h("button", { type: "button", class: "chip", "aria-label": `Without ${text}`, onclick: () => this.#without(drop) }, text, h("span", { "aria-hidden": "true" }, " ×")))));
  }

  #without(drop) {
    drop();
    (byId("active").querySelector("button") ?? document.querySelector("#results .hit"))?.focus({ preventScroll: true });
  }

  #showEmpty() {
    this.#lastHits = new Set();
    byId("more").hidden = true;
    byId("results").removeAttribute("aria-busy");
    say("");
    byId("results").replaceChildren(notice(
      `${plural(this.#collection.count, "document")}, found by ${this.#collection.modes.length > 1 ? "what they mean and by " : ""}their words.`,
      "Ask in your own words, or type a name. Results appear as you type."));
  }

  #showNothing() {
    say("Nothing was found");
    const filtered = Object.keys(this.#filters.conditions).length > 0;
    byId("results").replaceChildren(notice(
      "Nothing was found.",
      filtered ? "No document that the filters let through fits." : this.#mode === "words" ? "No document has one of these words." : "Try other words.",
      ...(filtered ? [h("button", { type: "button", class: "quiet", onclick: () => this.#filters.clear() }, "Clear the filters")] : []),
      ...(this.#mode === "words" && this.#collection.modes.includes("vector") ? [h("button", { type: "button", class: "quiet", onclick: () => byId("modes").querySelector("[value=vector]").click() }, "Search by meaning")] : [])));
  }

  #showFault(error) {
    byId("more").hidden = true;
    say("The search failed");
    byId("results").replaceChildren(notice(
      error.status === 401 ? "Without a key this server does not answer." : "That could not be searched.",
      error.status === 401 ? "" : error.message,
      h("button", { type: "button", class: "quiet", onclick: () => this.#run() }, error.status === 401 ? "Enter a key" : "Try again")));
  }
}

/** The text of a document; what is gone has none. */
async function textOf(id) {
  try {
    return (await request(`v1/documents/${encodeURIComponent(id)}`, { onWait: wait })).text;
  } catch {
    return "";
  }
}

function say(text) {
  byId("search-status").textContent = text;
}

function wait(why, seconds) {
  const rounded = Math.ceil(seconds);
  say(why === "busy" ? `The server is busy. Trying again in ${rounded} s…` : `The server does not answer. Trying again in ${rounded} s…`);
}

function ranks(id, mode, lists) {
  const found = [...lists].filter(([other]) => other !== mode).map(([other, hits]) => [MODES[other], hits.findIndex((hit) => hit.id === id) + 1]);
  const told = found.filter(([, rank]) => rank > 0).map(([name, rank]) => `${name} ${rank}`);
  return told.length ? told.join(" · ") : "only here";
}

/** Lights up a document wherever it stands. */
function light(hit) {
  for (const one of document.querySelectorAll("#results .side .hit")) one.classList.toggle("lit", hit !== null && one.dataset.id === hit.dataset.id);
}
