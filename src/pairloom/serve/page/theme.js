// Not a module: it runs before anything is painted, so that the page never flashes in the other theme.
(() => {
  const STORED = "pairloom-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  let memory = null; // where storage is forbidden the choice lasts as long as the page

  function stored() {
    try {
      return localStorage.getItem(STORED);
    } catch {
      return memory;
    }
  }

  function store(theme) {
    memory = theme;
    try {
      if (theme === null) localStorage.removeItem(STORED);
      else localStorage.setItem(STORED, theme);
    } catch {
      // Kept in memory.
    }
  }

  function systemTheme() {
    return system.matches ? "dark" : "light";
  }

  function apply() {
    const chosen = stored();
    root.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : systemTheme();
    document.getElementById("theme")?.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      const other = root.dataset.theme === "dark" ? "light" : "dark";
      // Who wants what the system wants goes on following it.
      store(other === systemTheme() ? null : other);
      apply();
    });
  });
})();
