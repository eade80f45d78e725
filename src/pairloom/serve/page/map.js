// The map: a sample of the collection in two dimensions, coloured by a field of the metadata.

import { request } from "./api.js";
import { categories, otherColour, pointColour, pointShade } from "./colours.js";
import { byId, count, cut, h, isAbort, plural } from "./dom.js";
import { flatValues } from "./model.js";
import { Plot } from "./plot.js";

const SAMPLE = 2000;
const METHODS = { "t-sne": "t-SNE", pca: "their principal components" };
const TIP_CHARACTERS = 280;
const LISTED = 50;
const MAX_DIFFERENT = 500;

export class DocumentMap {
  #collection;
  #plot;
  #documents = null;
  #field = "";
  #only = null; // the values behind what was clicked in the legend
  #lastHits;
  #onNear;
  #loading = false;

  /**
   * @param {object} collection the server's facts
   * @param {{lastHits: () => Set<string>, onNear: (found: {id: string}) => void}} calls
   */
  constructor(collection, { lastHits, onNear }) {
    this.#collection = collection;
    this.#lastHits = lastHits;
    this.#onNear = onNear;
    this.#plot = new Plot(byId("map-canvas"), {
      onChoose: (point, place) => this.#tip(point, place),
      onOpen: ({ document: { id } }) => onNear({ id }),
      onView: () => this.#list(),
    });
    byId("map-in").addEventListener("click", () => this.#plot.zoomIn());
    byId("map-out").addEventListener("click", () => this.#plot.zoomOut());
    byId("map-whole").addEventListener("click", () => this.#plot.showAll());
    byId("map-colour").addEventListener("change", (event) => {
      this.#field = event.target.value;
      this.#only = null;
      this.#colour();
    });
    byId("map-list-fold").addEventListener("toggle", () => this.#list());
    document.addEventListener("themechange", () => this.#colour());
  }

  /** Shows the map; the first time it is fetched. */
  async open() {
    if (this.#documents === null) await this.#load();
    this.#colour();
  }

  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    say("Drawing the map…");
    try {
      const { points, method } = await request(`v1/map?sample=${SAMPLE}&seed=0`, { onWait: wait });
      this.#documents = points.map((document_) => ({ ...document_, values: new Map(flatValues(document_.metadata).reverse()) }));
      const all = this.#collection.count;
      const shown = points.length < all ? `${count(points.length)} of ${plural(all, "document")}` : plural(points.length, "document");
      say(`${shown}, laid out by ${METHODS[method] ?? method}`);
      this.#offerFields();
    } catch (error) {
      if (!isAbort(error)) say(`There is no map: ${error.message}`);
    } finally {
      this.#loading = false;
    }
  }

  #offerFields() {
    const names = new Map();
    for (const { values } of this.#documents) {
      for (const [name, value] of values) names.set(name, (names.get(name) ?? new Set()).add(value));
    }
    const useful = [...names].filter(([, values]) => values.size > 1 && (values.size <= MAX_DIFFERENT || areNumbers([...values])));
    byId("map-colour").append(...useful.map(([name]) => h("option", { value: name }, name)));
    const first = useful.find(([, values]) => values.size <= 40);
    this.#field = byId("map-colour").value = first?.[0] ?? "";
  }

  #colour() {
    if (!this.#documents) return;
    const { colourOf, legend } = this.#colours();
    const hits = this.#lastHits();
    const areHits = this.#documents.some(({ id }) => hits.has(id));
    this.#plot.points = this.#documents.map((document_) => {
      const value = document_.values.get(this.#field);
      const isHit = hits.has(document_.id);
      const isOther = this.#only !== null && !this.#only.includes(value);
      return {
        document: document_,
        x: document_.x,
        y: document_.y,
        colour: colourOf(value),
        size: isHit ? 4.5 : 3,
        dim: isOther || (areHits && !isHit),
        ring: isHit && !isOther,
      };
    });
    byId("map-legend").replaceChildren(...legend, ...(areHits ? [h("li", { class: "key" }, h("span", { class: "swatch ring" }), "found last")] : []));
    byId("map-legend").hidden = byId("map-legend").childElementCount === 0;
    this.#list();
  }

  #colours() {
    if (!this.#field) return { colourOf: pointColour, legend: [] };
    const values = this.#documents.map((document_) => document_.values.get(this.#field)).filter((value) => value !== undefined);
    const tally = new Map();
    for (const value of values) tally.set(value, (tally.get(value) ?? 0) + 1);
    if (areNumbers(values) && tally.size > categories().length) return this.#scale(values);
    const frequent = [...tally].sort(([, a], [, b]) => b - a).slice(0, categories().length);
    const colours = new Map(frequent.map(([value], place) => [value, categories()[place]]));
    const told = new Set(colours.keys());
    const others = [undefined, ...tally.keys()].filter((value) => !told.has(value));
    const numOthers = this.#documents.length - frequent.reduce((sum, [, number]) => sum + number, 0);
    const legend = frequent.map(([value, number]) => this.#key([value], String(value), number, colours.get(value)));
    if (numOthers > 0) legend.push(this.#key(others, "others", numOthers, otherColour()));
    return { colourOf: (value) => colours.get(value) ?? otherColour(), legend };
  }

  #scale(values) {
    const least = values.reduce((a, b) => Math.min(a, b));
    const most = values.reduce((a, b) => Math.max(a, b));
    const share = (value) => (value - least) / (most - least);
    const steps = [0, 0.25, 0.5, 0.75, 1];
    const legend = steps.map((step) => h("li", { class: "key" }, swatch(pointShade(step)), rounded(least + step * (most - least), most - least)));
    return { colourOf: (value) => (typeof value === "number" ? pointShade(share(value)) : otherColour()), legend };
  }

  /** A line of the legend; clicked, it shows only its own. */
  #key(values, name, number, colour) {
    const on = this.#only !== null && this.#only[0] === values[0];
    return h("li", {}, h("button", {
      type: "button",
      class: "key",
      "aria-pressed": String(on),
      onclick: (event) => {
        this.#only = on ? null : values;
        const place = [...byId("map-legend").querySelectorAll("button")].indexOf(event.currentTarget);
        this.#colour();
        byId("map-legend").querySelectorAll("button")[place]?.focus();
      },
    }, swatch(colour), cut(name, 40), h("span", { class: "number" }, count(number))));
  }

  #tip(point, place) {
    const tip = byId("map-tip");
    tip.hidden = point === null;
    if (!point) return;
    const value = point.document.values.get(this.#field);
    tip.replaceChildren(
      h("p", { class: "text", dir: "auto" }, cut(point.document.text, TIP_CHARACTERS)),
      value === undefined ? "" : h("p", { class: "hint" }, `${this.#field}: ${cut(String(value), 60)}`));
    const frame = byId("map-frame");
    const left = Math.max(8, Math.min(place.x + 14, frame.clientWidth - tip.offsetWidth - 8));
    const below = place.y + 16 + tip.offsetHeight < frame.clientHeight;
    const top = below ? place.y + 16 : Math.max(8, place.y - 16 - tip.offsetHeight);
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  #list() {
    if (!byId("map-list-fold").open || !this.#documents) return;
    byId("map-list").replaceChildren(...this.#plot.inView().filter((point) => !point.dim || this.#only === null).slice(0, LISTED).map(({ document: one }) => {
      const value = one.values.get(this.#field);
      return h("li", {}, h("button", { type: "button", class: "plain", onclick: () => this.#onNear({ id: one.id }) }, cut(one.text, 120)),
        value === undefined ? "" : h("span", { class: "hint" }, ` ${cut(String(value), 40)}`));
    }));
  }
}

const areNumbers = (values) => values.length > 0 && values.every((value) => typeof value === "number");

function swatch(colour) {
  const element = h("span", { class: "swatch" });
  element.style.backgroundColor = colour;
  return element;
}

function rounded(value, span) {
  return span > 20 ? String(Math.round(value)) : value.toPrecision(3);
}

function say(text) {
  byId("map-status").textContent = text;
}

function wait(why, seconds) {
  say(`The server ${why === "busy" ? "is busy" : "does not answer"}. Trying again in ${Math.ceil(seconds)} s…`);
}
