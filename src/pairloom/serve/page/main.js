// Puts the page together: asks what the server has, shows the tabs for it, and keeps the address in step.

import { showAbout } from "./about.js";
import { onAddress, readAddress, writeAddress } from "./address.js";
import { Compare } from "./compare.js";
import { byId, h, notice } from "./dom.js";
import { DocumentMap } from "./map.js";
import { loadFacts } from "./model.js";
import { Search } from "./search.js";
import { createTabs } from "./tabs.js";

const TITLES = { search: "Search", compare: "Compare", map: "Map", about: "About" };

async function start() {
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  byId("loading").hidden = false;
  let facts;
  try {
    facts = await loadFacts((why, seconds) => {
      byId("loading").textContent = `The server ${why === "busy" ? "is busy" : "does not answer"}. Trying again in ${Math.ceil(seconds)} s…`;
    });
  } catch (error) {
    byId("loading").replaceChildren(notice("The server did not say what it has.", error.message,
      h("button", { type: "button", class: "quiet", onclick: () => location.reload() }, "Try again")));
    return;
  }
  byId("loading").hidden = true;
  show(facts);
}

function show({ models, collection }) {
  const names = collection ? ["search", "compare", "map", "about"] : ["compare", "about"];
  const tabs = createTabs(names, (name) => go(name, paramsOf(name), { push: true }));
  const near = (found) => {
    const params = search.params;
    params.delete("q");
    params.set("near", found.id);
    go("search", params, { push: true, text: found.text });
    scrollTo({ top: 0 });
  };
  const search = collection && new Search(collection, {
    onAddress: (push) => {
      if (tabs.selected() !== "search") return;
      writeAddress("search", search.params, { push });
      name("search");
    },
    onNear: near,
  });
  const map = collection && new DocumentMap(collection, { lastHits: () => search.lastHits, onNear: near });
  const compare = new Compare(models, collection?.model);
  showAbout(models, collection);

  function paramsOf(tab) {
    return tab === "search" ? search.params : new URLSearchParams();
  }

  /** The tab and the question in the title, by which browsers list pages that were seen. */
  function name(tab) {
    const query = tab === "search" ? search.params.get("q") : null;
    document.title = `${query || TITLES[tab]} · pairloom`;
  }

  function go(tab, params, { push = false, text } = {}) {
    const isNew = tab !== "search" || text !== undefined || params.toString() !== search.params.toString() || !search.isOpen;
    tabs.show(tab);
    writeAddress(tab, params, { push });
    name(tab);
    if (tab === "search" && isNew) search.open(params, text);
    else if (tab === "map") map.open();
    else if (tab === "compare") compare.open();
  }

  function follow() {
    const { tab, params } = readAddress();
    go(names.includes(tab) ? tab : names[0], params);
  }

  onAddress(follow);
  follow();
  listenToKeys(search, () => go("search", search.params, { push: true }), tabs);
}

function listenToKeys(search, toSearch, tabs) {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !search) return;
    if (event.target.matches("input:not([type=radio], [type=checkbox]), textarea, select") || byId("key-dialog").open) return;
    event.preventDefault();
    if (tabs.selected() !== "search") toSearch();
    search.focus();
  });
}

start();
