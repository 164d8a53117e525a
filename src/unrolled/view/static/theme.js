// Light, dark, or as the system: one attribute on the root; everything that draws asks here for its colours.

const ORDER = ["auto", "light", "dark"];
const listeners = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
const SERIES = {
  light: ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8a7a00", "#444444"],
  dark: ["#4aa8e0", "#E69F00", "#2cc295", "#d98fbb", "#8ccff5", "#f07a3c", "#F0E442", "#c8c8c8"],
};

let chosen = "auto";
try {
  chosen = ORDER.includes(localStorage.getItem("unrolled-theme")) ? localStorage.getItem("unrolled-theme") : "auto";
} catch {
  // a page from a file may have no storage
}
apply();
dark.addEventListener("change", tell);

function apply() {
  if (chosen === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", chosen);
}

function tell() {
  for (const fn of listeners) fn();
}

export function current() {
  return chosen;
}

export function next() {
  chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
  try {
    localStorage.setItem("unrolled-theme", chosen);
  } catch {
    // it lasts as long as the page then
  }
  apply();
  tell();
  return chosen;
}

export function onTheme(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  const isDark = chosen === "dark" || (chosen === "auto" && dark.matches);
  return {
    dark: isDark,
    fg: read("--fg"),
    bg: read("--surface"),
    muted: read("--muted"),
    line: read("--line"),
    accent: read("--accent"),
    minus: "#0072B2",
    plus: "#E69F00",
    series: isDark ? SERIES.dark : SERIES.light,
    font: `${read("--small")} ${read("--sans")}`,
  };
}
