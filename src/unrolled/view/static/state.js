// What is looked at, as the part of the address after #: whoever opens the address sees the same.

const KEYS = ["run", "with", "unit", "t", "q", "system", "study", "status", "preset"];

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KEYS.filter((key) => given.get(key)).map((key) => [key, given.get(key)]));
}

export function href(state) {
  const parts = KEYS.filter((key) => state[key] !== undefined && state[key] !== null && state[key] !== "");
  return `#${parts.map((key) => `${key}=${encodeURIComponent(state[key]).replaceAll("%2F", "/")}`).join("&")}`;
}

let timer = 0;
let later = null;

// Moving the scrubber replaces the address at most four times a second: browsers refuse more.
export function replace(state) {
  later = href(state);
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    if (later !== location.hash) history.replaceState(null, "", later);
  }, 250);
}

export function push(state) {
  clearTimeout(timer);
  timer = 0;
  if (href(state) !== location.hash) history.pushState(null, "", href(state));
}

export function onChange(fn) {
  addEventListener("popstate", () => fn(read()));
}
