// Axes of a plane on a canvas: round ticks, linear or logarithmic.
import { format } from "../util.js";

/** Round numbers that divide a range into about `count` parts. */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const made = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) made.push(k * step);
  return made;
}

function decades(low, high) {
  const made = [];
  for (let e = Math.ceil(Math.log10(low) - 1e-9); 10 ** e <= high * (1 + 1e-9); e++) made.push(10 ** e);
  return made.length >= 2 ? made : ticks(low, high, 4).filter((v) => v > 0);
}

/** Lowest and highest finite values (positive ones for a logarithmic axis), with a little room. */
export function range(values, log) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (!Number.isFinite(v) || (log && v <= 0)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (low === high) return log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  if (log) return [low / 1.15, high * 1.15];
  const room = 0.05 * (high - low);
  return [low - room, high + room];
}

/** Map between values and pixels. */
export function scale([low, high], [from, to], log) {
  const a = log ? Math.log10(low) : low;
  const b = log ? Math.log10(high) : high;
  const map = (v) => from + (((log ? Math.log10(v) : v) - a) / (b - a)) * (to - from);
  map.back = (p) => {
    const v = a + ((p - from) / (to - from)) * (b - a);
    return log ? 10 ** v : v;
  };
  return map;
}

/**
 * Draw both axes and give the maps {x, y, box}.
 * @param spec x, y: ranges; log: "x", "y", "xy" or none; xlabel, ylabel; left: room in px; bare: nothing along x.
 */
export function plane(ctx, width, height, theme, spec) {
  const log = spec.log || "";
  const box = { left: spec.left ?? 54, right: width - 10, top: 8, bottom: height - (spec.xlabel ? 38 : 24) };
  const x = scale(spec.x, [box.left, box.right], log.includes("x"));
  const y = scale(spec.y, [box.bottom, box.top], log.includes("y"));
  ctx.save();
  ctx.lineWidth = 1;
  ctx.strokeStyle = theme.muted;
  ctx.fillStyle = theme.muted;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  const across = Math.max(2, Math.floor((box.right - box.left) / 80));
  const up = Math.max(2, Math.floor((box.bottom - box.top) / 45));
  for (const v of log.includes("y") ? decades(...spec.y) : ticks(...spec.y, up)) {
    ctx.globalAlpha = 0.25;
    line(ctx, box.left, y(v), box.right, y(v));
    ctx.globalAlpha = 1;
    ctx.fillText(format(v), box.left - 6, y(v));
  }
  ctx.textAlign = "center";
  for (const v of spec.bare ? [] : log.includes("x") ? decades(...spec.x) : ticks(...spec.x, across)) {
    ctx.globalAlpha = 0.25;
    line(ctx, x(v), box.top, x(v), box.bottom);
    ctx.globalAlpha = 1;
    ctx.fillText(format(v), x(v), box.bottom + 12);
  }
  ctx.fillStyle = theme.fg;
  if (spec.xlabel) ctx.fillText(spec.xlabel, (box.left + box.right) / 2, height - 8);
  if (spec.ylabel) {
    ctx.translate(11, (box.top + box.bottom) / 2);
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(spec.ylabel, 0, 0, box.bottom - box.top);
  }
  ctx.restore();
  return { x, y, box };
}

export function line(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
