// What is shown stands in the address, behind the hash: `#search?q=open+a+file&mode=words`. The server never sees it.

/** The tab and its parameters. */
export function readAddress() {
  const hash = location.hash.slice(1);
  const mark = hash.indexOf("?");
  return mark < 0
    ? { tab: hash, params: new URLSearchParams() }
    : { tab: hash.slice(0, mark), params: new URLSearchParams(hash.slice(mark + 1)) };
}

/** Writes it; `push` makes it a step that the back button undoes. */
export function writeAddress(tab, params, { push = false } = {}) {
  const text = params.toString();
  const hash = `#${tab}${text ? `?${text}` : ""}`;
  if (hash === location.hash) return;
  if (push) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}

/** Calls back when the address was changed by the back button, a link or by hand. */
export function onAddress(call) {
  addEventListener("hashchange", call);
}
