// The panel of a kind: its module, or the plain fallback for a kind without one. A bundle holds the modules already.

import fallback from "./fallback.js";

export async function load(kind, kinds) {
  const made = globalThis.unrolledPanels;
  if (made) return made[kind] || fallback;
  if (!kinds.includes(kind)) return fallback;
  return (await import(`./panels/${kind}.js`)).default;
}
