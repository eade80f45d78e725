// What this server has, and how programs call it.

import { sessionKey } from "./api.js";
import { byId, count, h, plural } from "./dom.js";

const NAMES = {
  id: "name",
  created: null,
  object: null,
  max_tokens: "longest text",
  count: "documents",
  fields: null,
  input_types: "tells apart",
  modes: "searched by",
  owned_by: null,
};

/** Shows it. */
export function showAbout(models, collection) {
  byId("panel-about").replaceChildren(
    h("div", { class: "facts" },
      collection ? h("section", { class: "card" }, h("h2", {}, "Collection"), facts(collection), fields(collection)) : null,
      models.map((model) => h("section", { class: "card" }, h("h2", {}, model.id), facts({ ...model, id: undefined })))),
    h("section", { class: "calls" },
      h("h2", { class: "title" }, "Call it from a program"),
      h("p", { class: "hint" }, "What speaks to OpenAI's embeddings speaks to this server. All that it can do is described, as OpenAPI has it, in ", h("a", { href: "openapi.json" }, "openapi.json"), "."),
      samples(models, collection).map(sample)));
}

function facts(values) {
  const known = Object.entries(values).flatMap(([name, value]) => {
    const label = name in NAMES ? NAMES[name] : name.replaceAll("_", " ");
    const told = label === null ? null : shown(name, value);
    return told === null ? [] : [h("div", {}, h("dt", {}, label), h("dd", {}, told))];
  });
  return h("dl", {}, known);
}

function shown(name, value) {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return name === "max_tokens" ? plural(value, "token") : Number.isInteger(value) ? count(value) : String(value);
  if (Array.isArray(value)) return value.length ? value.map((one) => shown("", one) ?? "–").join(", ") : null;
  if (typeof value === "object") {
    const told = Object.entries(value).map(([inner, one]) => [inner.replaceAll("_", " "), shown(inner, one)]);
    return told.filter(([, one]) => one !== null).map(([inner, one]) => `${inner} ${one}`).join(", ") || null;
  }
  return String(value);
}

function fields(collection) {
  const listed = collection.fields;
  if (!listed.length) return null;
  return h("div", {}, h("h3", {}, "Metadata"), h("ul", { class: "chips" }, listed.map(({ name, type }) => h("li", { class: "chip" }, h("span", { class: "name" }, type), " ", name))));
}

function samples(models, collection) {
  const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const model = models[0]?.id ?? "MODEL";
  const key = sessionKey() === null ? "" : ` \\\n  -H "Authorization: Bearer $PAIRLOOM_KEY"`;
  const json = (value) => JSON.stringify(value, null, 1).replaceAll(/\n */g, " ");
  const embed = `curl ${base}/v1/embeddings${key} \\\n  -H "Content-Type: application/json" \\\n  -d '${json({ model, input: "How do I open a file?" })}'`;
  const search = `curl ${base}/v1/search${key} \\\n  -H "Content-Type: application/json" \\\n  -d '${json({ query: "How do I open a file?", k: 5, mode: "hybrid" })}'`;
  const secret = sessionKey() === null ? `"none"` : `os.environ["PAIRLOOM_KEY"]`;
  const python = `${sessionKey() === null ? "" : "import os\n\n"}from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key=${secret})
answer = client.embeddings.create(model="${model}", input=["How do I open a file?", "open(path)"])
print(len(answer.data), len(answer.data[0].embedding))`;
  return [
    ...(collection ? [["Search, with curl", search]] : []),
    ["Embeddings, with curl", embed],
    ["Embeddings, with OpenAI's Python client", python],
  ];
}

function sample([title, code]) {
  const block = h("pre", { tabindex: 0, role: "region", "aria-label": title }, h("code", {}, code));
  const told = h("span", { class: "hint", role: "status" });
  const button = h("button", { type: "button", class: "quiet", "aria-label": `Copy: ${title}`, onclick: async () => {
    told.textContent = (await copied(code, block)) ? "Copied" : "Selected; copy it with Ctrl+C";
    setTimeout(() => (told.textContent = ""), 4000);
  } }, "Copy");
  return h("section", { class: "sample" }, h("div", { class: "row" }, h("h3", {}, title), h("span", {}, told, " ", button)), block);
}

/** Whether it is in the clipboard; a page that came without encryption may only select it. */
async function copied(text, block) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(block);
    return false;
  }
}
