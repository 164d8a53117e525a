// Who moves whom: an edge as wide as its weight, a node as large as its size, a ring as long as its share.
import { faint, tone } from "./_colors.js";
import { frames, latest } from "./_frames.js";
import { arrow, circle } from "./_graph.js";
import { at, clipped, failed, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";
import { element } from "../util.js";

const GLIDE = 220; // ms from one time to the next

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const { nodes } = data;
  const n = nodes.length;
  const parts = { edges: frames(exhibit, context, "edges", 2) };
  for (const name of ["size", "ring"]) if (exhibit.arrays[name]) parts[name] = frames(exhibit, context, name, 1);
  const raw = data.positions || circle(n);
  const least = data.least ?? 0.02;
  let [from, goal, began, mark, over] = [null, null, 0, 0, -1];

  const view = stage(root, context, {
    height: (width) => Math.min(380, Math.max(240, width * 0.8)),
    label: exhibit.title,
    draw,
    hover(x, y) {
      const was = over;
      over = goal ? place(view.width(), view.canvas.clientHeight).findIndex(([px, py]) => Math.hypot(px - x, py - y) < 26) : -1;
      if (over !== was) view.request();
      return over < 0 ? null : told(over);
    },
  });
  const key = [`arrow: ${data.edge || "weight"}`];
  if (parts.size) key.push(`disc: ${data.size || "size"}`);
  if (parts.ring) key.push(`ring: ${data.ring || "share"}`);
  root.append(element("p", { class: "panel-note", text: key.join(" · ") }));

  function told(i) {
    const moved = Array.from({ length: n }, (_, j) => j).filter((j) => j !== i && goal.edges[i * n + j] > least);
    moved.sort((a, b) => goal.edges[i * n + b] - goal.edges[i * n + a]);
    const by = moved.slice(0, 3).map((j) => `${clipped(nodes[j], 20)} ${shown(goal.edges[i * n + j])}`);
    const size = goal.size ? `, ${data.size || "size"} ${shown(goal.size[i])}` : "";
    const ring = goal.ring ? `, ${data.ring || "ring"} ${shown(goal.ring[i])}` : "";
    return `${clipped(nodes[i], 40)}${size}${ring}${by.length ? `; moved by ${by.join(", ")}` : ""}`;
  }

  function place(width, height) {
    const xs = raw.map((p) => p[0]);
    const ys = raw.map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const pad = 52;
    const side = data.positions ? null : Math.min(width, height) / 2 - pad;
    return raw.map(([x, y]) =>
      side !== null
        ? [width / 2 + side * 1.25 * x, height / 2 + side * y]
        : [pad + ((x - x0) / (x1 - x0 || 1)) * (width - 2 * pad), pad + ((y - y0) / (y1 - y0 || 1)) * (height - 2 * pad)],
    );
  }

  function between(name) {
    const to = goal[name];
    const share = Math.min(1, (performance.now() - began) / GLIDE);
    if (!to || !from || !from[name] || share >= 1) return to;
    return to.map((v, i) => from[name][i] + (v - from[name][i]) * share);
  }

  function draw(ctx, width, height, theme) {
    if (!goal) return;
    const [edges, size, ring] = ["edges", "size", "ring"].map(between);
    const spots = place(width, height);
    const radius = (i) => 9 + 17 * Math.sqrt(Math.max(0, Math.min(1, size && Number.isFinite(size[i]) ? size[i] : 0.3)));
    let most = 0;
    for (let i = 0; i < n * n; i++) if (Math.floor(i / n) !== i % n && edges[i] > most) most = edges[i];
    const unit = Math.max(most, 0.25);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const weight = edges[i * n + j];
        if (i === j || !(weight > least)) continue;
        const lit = over < 0 || over === i || over === j;
        arrow(ctx, spots[j], spots[i], { width: 0.8 + (7 * weight) / unit, color: tone(theme, "minus"), alpha: (0.25 + (0.6 * weight) / unit) * (lit ? 1 : 0.15), from: radius(j) + 3, to: radius(i) + 4 });
      }
    for (let i = 0; i < n; i++) {
      const [x, y] = spots[i];
      const r = radius(i);
      ctx.beginPath();
      ctx.arc(x, y, r, 0, 2 * Math.PI);
      ctx.fillStyle = theme.plus;
      ctx.fill();
      if (ring && Number.isFinite(ring[i])) {
        ctx.lineWidth = 4;
        ctx.strokeStyle = faint(theme.fg, 0.15);
        ctx.beginPath();
        ctx.arc(x, y, r + 4, 0, 2 * Math.PI);
        ctx.stroke();
        ctx.strokeStyle = theme.fg;
        ctx.beginPath();
        ctx.arc(x, y, r + 4, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * Math.max(0, Math.min(1, ring[i])));
        ctx.stroke();
      }
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.lineWidth = 3;
      ctx.strokeStyle = theme.bg;
      const below = y + r + 15;
      ctx.strokeText(clipped(nodes[i], 18), x, below, 120);
      ctx.fillStyle = theme.fg;
      ctx.fillText(clipped(nodes[i], 18), x, below, 120);
    }
    if (performance.now() - began < GLIDE) view.request();
  }

  const fallback = values(root, "values now", () => {
    const columns = ["moved ↓ by →", ...nodes, ...(goal?.size ? [data.size || "size"] : []), ...(goal?.ring ? [data.ring || "ring"] : [])];
    const rows = goal ? nodes.map((name, i) => [name, ...goal.edges.subarray(i * n, (i + 1) * n), ...(goal.size ? [goal.size[i]] : []), ...(goal.ring ? [goal.ring[i]] : [])]) : [];
    return { columns, rows };
  });

  const show = latest(
    async (index) => {
      const got = {};
      for (const [name, part] of Object.entries(parts)) got[name] = await part.at(index);
      from = context.reduced ? null : goal;
      goal = got;
      began = performance.now();
      mark = index;
      view.describe(`${exhibit.title}, ${at(exhibit, mark)}: ${nodes.slice(0, 12).map((_, i) => told(i)).join("; ")}`);
      view.request();
      fallback.refresh();
    },
    (error) => failed(root, error),
  );
  show(0);
  return { seek: show, resize: view.resize, destroy: view.destroy };
}
