// Asks the server. It waits where waiting helps (busy, offline), asks for a key where one is needed, and tells the rest.

import { byId } from "./dom.js";

const KEY = "pairloom-key";
const OFFLINE_S = 3;

/** The server refused; the message is its own. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.name = "ServerError";
    this.status = status;
  }
}

/**
 * The server's JSON answer.
 * @param {string} path relative to the page, so that it works beneath a proxy's prefix, too
 * @param {{body?: object, signal?: AbortSignal, onWait?: (why: "busy" | "offline", seconds: number) => void}} options
 */
export async function request(path, { body, signal, onWait } = {}) {
  for (;;) {
    const key = sessionKey();
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method: body === undefined ? "GET" : "POST",
        headers: {
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...(key ? { Authorization: `Bearer ${key}` } : {}),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      onWait?.("offline", OFFLINE_S);
      await pause(OFFLINE_S, signal);
      continue;
    }
    if (response.ok) return response.json();
    const wait_s = secondsToWait(response);
    if (wait_s !== null) {
      onWait?.("busy", wait_s);
      await pause(wait_s, signal);
      continue;
    }
    if (response.status === 401) {
      // Another request may have asked for a key meanwhile.
      if (key !== sessionKey() || (await askForKey(key !== null))) continue;
    }
    throw new ServerError(await reason(response), response.status);
  }
}

/** The key of this tab, if one was given. */
export function sessionKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return memory;
  }
}

let memory = null;
let asking = null;

function keep(key) {
  memory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Kept in memory.
  }
}

/** Whether a key was given. Requests that need one at the same time share one question. */
function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    const input = byId("key");
    byId("key-title").textContent = wasWrong ? "The server does not know this key" : "This server asks for a key";
    input.value = "";
    let given = false;
    const ended = new AbortController();
    const { signal } = ended;
    byId("key-form").addEventListener("submit", () => {
      given = true;
      keep(input.value.trim());
    }, { signal });
    byId("key-cancel").addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener("close", () => {
      ended.abort();
      asking = null;
      resolve(given);
    }, { signal });
    dialog.showModal();
  });
  return asking;
}

function secondsToWait(response) {
  const header = response.headers.get("Retry-After");
  if (response.status !== 429 && !(response.status === 503 && header !== null)) return null;
  const seconds = Number(header);
  return header !== null && Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.2), 60) : 2;
}

async function reason(response) {
  try {
    const { error } = await response.json();
    return error.message;
  } catch {
    return `The server answered with ${response.status} ${response.statusText}`.trim();
  }
}

/** Waits, at most until the machine is online again. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    const done = () => {
      clearTimeout(timer);
      ended.abort();
      if (signal?.aborted) reject(new DOMException("no longer wanted", "AbortError"));
      else resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    addEventListener("online", done, { signal: ended.signal });
    signal?.addEventListener("abort", done, { signal: ended.signal });
    if (signal?.aborted) done();
  });
}
