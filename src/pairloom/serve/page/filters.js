// Filters from the fields of the metadata. What is chosen is kept as the server's own language has it, by field:
// {"tag": {"in": ["python"]}, "year": {"gte": 2020}, "open": true}

import { count, cut, h } from "./dom.js";

const FEW = 8;
const END_OF_DAY = "T23:59:59.999999Z";
const VALUE_CHARACTERS = 48;

export class Filters {
  #conditions = {};
  #fields;
  #place;
  #onChange;
  #whole = new Set(); // fields of which all values are shown

  /** Shows controls for these fields (see `controlsOf`) and calls back when something else is chosen. */
  constructor(place, fields, onChange) {
    this.#place = place;
    this.#fields = fields;
    this.#onChange = onChange;
    this.#render();
  }

  get conditions() {
    return this.#conditions;
  }

  /** Takes conditions from elsewhere, without a call back. */
  set conditions(conditions) {
    this.#conditions = conditions;
    this.#render();
  }

  /** Whether a value can be chosen with a click. */
  offers(name) {
    return this.#fields.some((field) => field.name === name && field.control !== "range");
  }

  has(name, value) {
    const condition = this.#conditions[name];
    return condition === value || (condition?.in ?? []).includes(value);
  }

  /** Chooses a value, or no longer. */
  toggle(name, value) {
    if (typeof value === "boolean") {
      this.#put(name, this.#conditions[name] === value ? null : value);
    } else {
      const chosen = this.#conditions[name]?.in ?? [];
      const others = chosen.filter((one) => one !== value);
      const next = others.length < chosen.length ? others : [...chosen, value];
      this.#put(name, next.length ? { in: next } : null);
    }
    this.#render();
  }

  /** What is in force, each with words for it and what takes it back. */
  active() {
    return Object.entries(this.#conditions).flatMap(([name, condition]) => {
      if (condition?.in) {
        return condition.in.map((value) => ({ text: `${name}: ${shown(value)}`, drop: () => this.toggle(name, value) }));
      }
      const drop = () => {
        this.#put(name, null);
        this.#render();
      };
      if (typeof condition !== "object") return [{ text: `${name}: ${shown(condition)}`, drop }];
      const from = String(condition.gte ?? "").slice(0, 10);
      const to = String(condition.lte ?? "").slice(0, 10);
      return [{ text: `${name}: ${from && to ? `${from} to ${to}` : from ? `from ${from}` : `to ${to}`}`, drop }];
    });
  }

  clear() {
    this.#conditions = {};
    this.#render();
    this.#onChange();
  }

  #put(name, condition) {
    const { [name]: _, ...others } = this.#conditions;
    this.#conditions = condition === null ? others : { ...others, [name]: condition };
    this.#onChange();
  }

  #render() {
    const focused = document.activeElement?.closest("[data-control]")?.dataset.control;
    const inside = this.#place.contains(document.activeElement);
    this.#place.replaceChildren(...this.#fields.map((field) => this.#fieldset(field)));
    // The control that was used is another element now, and keeps the focus.
    if (inside && focused) this.#place.querySelector(`[data-control="${CSS.escape(focused)}"]`)?.focus();
  }

  #fieldset(field) {
    const controls = { choice: () => this.#choices(field), range: () => this.#range(field), boolean: () => this.#boolean(field) };
    return h("fieldset", { class: "filter" }, h("legend", {}, field.name), controls[field.control]());
  }

  #choices(field) {
    const chosen = this.#conditions[field.name]?.in ?? [];
    const listed = field.values.map(({ value }) => value);
    const all = [...chosen.filter((value) => !listed.includes(value)).map((value) => ({ value, count: null })), ...field.values];
    const whole = this.#whole.has(field.name) || all.length <= FEW + 2;
    const values = whole ? all : all.filter(({ value }, place) => place < FEW || chosen.includes(value));
    return [
      ...values.map((value) => this.#choice(field.name, value)),
      whole ? null : h("button", {
        type: "button",
        class: "plain",
        "data-control": `${field.name} more`,
        "aria-label": `All ${all.length} values of ${field.name}`,
        onclick: () => {
          this.#whole.add(field.name);
          this.#render();
        },
      }, `All ${count(all.length)}`),
    ];
  }

  #choice(name, { value, count: number }) {
    return h("label", { class: "choice" },
      h("input", {
        type: "checkbox",
        checked: this.has(name, value),
        "data-control": `${name} ${typeof value} ${value}`,
        onchange: () => this.toggle(name, value),
      }),
      h("span", { class: "value", title: String(value) }, cut(shown(value), VALUE_CHARACTERS)),
      number === null || number === undefined ? null : h("span", { class: "number" }, count(number)),
    );
  }

  #boolean(field) {
    const counts = new Map(field.values.map(({ value, count: number }) => [value, number]));
    return [true, false].map((value) => this.#choice(field.name, { value, count: counts.get(value) }));
  }

  #range(field) {
    const condition = this.#conditions[field.name] ?? {};
    const bound = (key, label) => h("label", { class: "bound" }, label, h("input", {
      type: field.type,
      step: field.type === "number" ? "any" : null,
      value: field.type === "date" ? String(condition[key] ?? "").slice(0, 10) : condition[key],
      "data-control": `${field.name} ${key}`,
      onchange: (event) => this.#bound(field, key, event.target.value),
    }));
    return h("div", { class: "bounds" }, bound("gte", "from"), bound("lte", "to"));
  }

  #bound(field, key, text) {
    const { [key]: _, ...other } = this.#conditions[field.name] ?? {};
    let value = null;
    if (text !== "") value = field.type === "number" ? Number(text) : key === "lte" ? `${text}${END_OF_DAY}` : text;
    const condition = value === null ? other : { ...other, [key]: value };
    this.#put(field.name, Object.keys(condition).length ? condition : null);
  }
}

function shown(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  return String(value);
}

/** Conditions from an address, which anybody may have written: what the filters could not have made is left out. */
export function conditionsOf(text) {
  let value;
  try {
    value = JSON.parse(text ?? "{}");
  } catch {
    return {};
  }
  return Object.fromEntries(Object.entries(value ?? {}).filter(([, condition]) => isCondition(condition)));
}

function isCondition(condition) {
  if (typeof condition === "boolean") return true;
  if (condition === null || typeof condition !== "object") return false;
  if (Array.isArray(condition.in)) return condition.in.length > 0 && condition.in.every(isScalar);
  const bounds = Object.entries(condition);
  return bounds.length > 0 && bounds.every(([key, bound]) => ["gte", "lte"].includes(key) && isScalar(bound));
}

const isScalar = (value) => ["string", "number", "boolean"].includes(typeof value);
