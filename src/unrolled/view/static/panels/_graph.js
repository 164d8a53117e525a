// Places of nodes and arrows between them, shared by graphs of influence and of search.
import { faint } from "./_colors.js";

/** Nodes on a circle, the first on top: [[x, y]] in [-1, 1]. */
export function circle(count) {
  return Array.from({ length: count }, (_, i) => {
    const angle = (2 * Math.PI * i) / Math.max(count, 1) - Math.PI / 2;
    return count === 1 ? [0, 0] : [Math.cos(angle), Math.sin(angle)];
  });
}

/** Nodes in columns by their distance from the start; what cannot be reached stands last. */
export function layers(count, edges, start) {
  const depth = new Array(count).fill(Infinity);
  depth[start] = 0;
  const next = Array.from({ length: count }, () => []);
  for (const [a, b] of edges) next[a].push(b);
  const queue = [start];
  for (let head = 0; head < queue.length; head++)
    for (const b of next[queue[head]])
      if (depth[b] === Infinity) {
        depth[b] = depth[queue[head]] + 1;
        queue.push(b);
      }
  const deepest = Math.max(...depth.filter(Number.isFinite));
  const columns = Array.from({ length: deepest + 2 }, () => []);
  depth.forEach((d, i) => columns[Number.isFinite(d) ? d : deepest + 1].push(i));
  if (!columns[columns.length - 1].length) columns.pop();
  const made = [];
  columns.forEach((column, c) => {
    if (c) column.sort((a, b) => mean(a, edges, made) - mean(b, edges, made));
    column.forEach((node, k) => {
      const shift = column.length > 6 && k % 2 ? 0.35 / columns.length : 0;
      made[node] = [columns.length > 1 ? (2 * c) / (columns.length - 1) - 1 + shift : 0, column.length > 1 ? (2 * (k + 0.5)) / column.length - 1 : 0];
    });
  });
  return made;
}

function mean(node, edges, made) {
  const from = edges.filter(([a, b]) => b === node && made[a]).map(([a]) => made[a][1]);
  return from.length ? from.reduce((x, y) => x + y, 0) / from.length : 0;
}

/** A curved arrow from a to b that ends at the rims. */
export function arrow(ctx, a, b, { width, color, alpha, from, to, bend = 0.12 }) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const long = Math.hypot(dx, dy);
  if (long < from + to + 4) return;
  const mid = [(a[0] + b[0]) / 2 - dy * bend, (a[1] + b[1]) / 2 + dx * bend];
  const [sx, sy] = toward(a, mid, from);
  const head = Math.max(5, 2.2 * width);
  const [ex, ey] = toward(b, mid, to + head * 0.9);
  ctx.strokeStyle = faint(color, alpha);
  ctx.fillStyle = ctx.strokeStyle;
  ctx.lineWidth = width;
  ctx.beginPath();
  ctx.moveTo(sx, sy);
  ctx.quadraticCurveTo(mid[0], mid[1], ex, ey);
  ctx.stroke();
  const [tx, ty] = toward(b, mid, to + 1);
  const angle = Math.atan2(ty - ey, tx - ex);
  ctx.beginPath();
  ctx.moveTo(tx, ty);
  for (const turn of [2.65, -2.65]) ctx.lineTo(tx + head * Math.cos(angle + turn), ty + head * Math.sin(angle + turn));
  ctx.fill();
}

function toward(a, b, distance) {
  const long = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  return [a[0] + ((b[0] - a[0]) * distance) / long, a[1] + ((b[1] - a[1]) * distance) / long];
}
