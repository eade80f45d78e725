// What the server has: its models, and its collection with the fields by which it can be filtered.

import { request, ServerError } from "./api.js";

/** Both, in the server's own words; the collection is null if there is none. */
export async function loadFacts(onWait) {
  const [models, collection] = await Promise.all([
    request("v1/models", { onWait }),
    request("v1/collection", { onWait }).catch((error) => {
      if (error instanceof ServerError && error.status === 404) return null;
      throw error;
    }),
  ]);
  return { models: models.data, collection };
}

const FEW = 8;

/**
 * What can be chosen of each field: a "choice" of frequent values, a "range" of numbers or dates, or a "boolean".
 * A field whose value is another one in every document says nothing that one would choose.
 */
export function controlsOf(collection) {
  return collection.fields.flatMap(({ name, type, values }) => {
    switch (type) {
      case "boolean":
        return [{ name, control: "boolean", values }];
      case "number":
        return [{ name, control: "range", type: "number", values }];
      case "datetime":
        return [{ name, control: "range", type: "date", values }];
      default:
        return values.length <= FEW || values[0].count > 1 ? [{ name, control: "choice", values }] : [];
    }
  });
}

/** The values of metadata by the names that filters give them: dots lead inwards, lists are what is in them. */
export function flatValues(metadata, prefix = "") {
  return Object.entries(metadata ?? {}).flatMap(([name, value]) => leaves(`${prefix}${name}`, value));
}

function leaves(name, value) {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.flatMap((one) => leaves(name, one));
  if (typeof value === "object") return flatValues(value, `${name}.`);
  return [[name, value]];
}

/** A filter of the page, a condition for each field, as the server takes it; null if there is none. */
export function asFilter(conditions) {
  // Beneath "fields" every name is a field's, also one called "and" or "not".
  return Object.keys(conditions).length ? { fields: conditions } : null;
}
