// Colour maps that the colour-blind can read, in dark and in light.

// Anchors of cividis, dark to light: brightness alone carries the value.
const CIVIDIS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56],
];
const MINUS = [0, 114, 178];
const PLUS = [230, 159, 0];

function mixed(a, b, share) {
  return a.map((v, i) => v + (b[i] - v) * share);
}

/** Share in [0, 1] -> [r, g, b]. */
export function sequential(share) {
  const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return mixed(CIVIDIS[low], CIVIDIS[low + 1], place - low);
}

/** Share in [-1, 1] -> [r, g, b]: minus is blue, plus is orange, nothing is the ground. */
export function diverging(share, ground) {
  const end = share < 0 ? MINUS : PLUS;
  return mixed(ground, end, Math.min(Math.abs(share), 1));
}

/** 256 colours as a flat array, from a function of the share in [0, 1]. */
export function ramp(color) {
  const made = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = color(i / 255);
    made.set([r, g, b, 255], 4 * i);
  }
  return made;
}

/** "#rrggbb" or "rgb(r, g, b)" -> [r, g, b]. */
export function rgb(text) {
  const hex = /^#([0-9a-f]{6})$/i.exec(text.trim());
  if (hex) return [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16));
  const short = /^#([0-9a-f]{3})$/i.exec(text.trim());
  if (short) return [...short[1]].map((c) => parseInt(c + c, 16));
  const parts = text.match(/[\d.]+/g);
  return parts && parts.length >= 3 ? parts.slice(0, 3).map(Number) : [128, 128, 128];
}

/** The colour of a role, as a line or a word: minus is lighter on dark ground, where its blue would drown. */
export function tone(theme, role) {
  if (role === "minus") return theme.dark ? theme.series[0] : theme.minus;
  return role === "plus" ? theme.plus : theme.muted;
}

/** A colour with an opacity. */
export function faint(color, alpha) {
  const [r, g, b] = rgb(color);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

/** Black or white, whichever is read better on a colour. */
export function onto([r, g, b]) {
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
}
