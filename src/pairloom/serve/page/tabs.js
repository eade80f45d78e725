// Tabs as in the WAI-ARIA pattern: one is in the tab order, arrows, Home and End move, and what is focused is shown.

import { byId } from "./dom.js";

export function createTabs(names, onSelect) {
  const tabs = names.map((name) => byId(`tab-${name}`));
  let selected = null;

  /** Shows a panel. */
  function show(name) {
    selected = name;
    for (const tab of tabs) {
      const on = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !on;
    }
  }

  function choose(tab) {
    const name = tab.id.slice("tab-".length);
    if (name !== selected) onSelect(name);
  }

  for (const [place, tab] of tabs.entries()) {
    tab.hidden = false;
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const next = {
        ArrowRight: place === last ? 0 : place + 1,
        ArrowLeft: place === 0 ? last : place - 1,
        Home: 0,
        End: last,
      }[event.key];
      if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      tabs[next].focus();
      choose(tabs[next]);
    });
  }
  return { show, selected: () => selected };
}
