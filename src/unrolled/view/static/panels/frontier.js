// How far a search has come: a disc filled as far as its node is held, a ring where it truly is, arrows along the edges.
import { faint, ramp, sequential } from "./_colors.js";
import { frames, latest } from "./_frames.js";
import { arrow, layers } from "./_graph.js";
import { at, clipped, failed, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";
import { element } from "../util.js";

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const { nodes, edges, start } = data;
  const goals = data.goals || [];
  const spots = data.positions || layers(nodes.length, edges, start);
  const weight = frames(exhibit, context, "weight", 1);
  const truth = exhibit.arrays.truth ? frames(exhibit, context, "truth", 1) : null;
  const what = data.weight || "weight";
  let [now, real, top] = [null, null, 1];

  const view = stage(root, context, {
    height: (width) => Math.min(420, Math.max(230, width * 0.6)),
    label: exhibit.title,
    draw,
    hover(x, y) {
      const at = place(view.width(), view.canvas.clientHeight);
      const i = at.findIndex(([px, py]) => Math.hypot(px - x, py - y) < 14);
      return i < 0 || !now ? null : `${clipped(nodes[i], 60)}: ${what} ${shown(now[i])}${real ? (real[i] > 0.5 ? ", reached" : ", not reached") : ""}`;
    },
  });
  const key = [`disc: ${what}`, "□ start"];
  if (goals.length) key.push("◇ asked for");
  if (truth) key.push("ring: truly reached");
  root.append(element("p", { class: "panel-note", text: key.join(" · ") }));

  function place(width, height) {
    const [xs, ys] = [spots.map((p) => p[0]), spots.map((p) => p[1])];
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    return spots.map(([x, y]) => [36 + ((x - x0) / (x1 - x0 || 1)) * (width - 84), 20 + (y1 > y0 ? (y - y0) / (y1 - y0) : 0.5) * (height - 48)]);
  }

  function draw(ctx, width, height, theme) {
    const where = place(width, height);
    for (const [a, b] of edges) {
      const lit = now && now[a] > 0.05 * top;
      arrow(ctx, where[a], where[b], { width: lit ? 1.6 : 0.8, color: lit ? theme.fg : theme.muted, alpha: lit ? 0.55 : 0.3, from: 9, to: 10, bend: 0.06 });
    }
    const colors = ramp(sequential);
    nodes.forEach((name, i) => {
      const [x, y] = where[i];
      const v = now ? Math.max(0, Math.min(1, now[i] / top)) : 0;
      const c = 4 * Math.round(255 * (0.15 + 0.85 * v));
      const held = v > 0.02;
      shape(ctx, x, y, 8, i === start ? "square" : goals.includes(i) ? "diamond" : "disc");
      ctx.fillStyle = held ? `rgb(${colors[c]}, ${colors[c + 1]}, ${colors[c + 2]})` : theme.bg;
      ctx.fill();
      ctx.lineWidth = held ? 1 : 1.2;
      ctx.strokeStyle = held ? theme.fg : theme.muted;
      ctx.stroke();
      if (real && real[i] > 0.5) {
        ctx.lineWidth = 2;
        ctx.strokeStyle = theme.plus;
        ctx.beginPath();
        ctx.arc(x, y, 13, 0, 2 * Math.PI);
        ctx.stroke();
      }
      const bold = i === start || goals.includes(i);
      if (!bold && nodes.length > 40) return;
      ctx.font = `${bold ? "bold " : ""}11px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "top";
      ctx.lineWidth = 3;
      ctx.strokeStyle = faint(theme.bg, 0.85);
      ctx.strokeText(clipped(name, 14), x, y + 13, 90);
      ctx.fillStyle = goals[0] === i ? theme.plus : bold ? theme.fg : theme.muted;
      ctx.fillText(clipped(name, 14), x, y + 13, 90);
    });
  }

  function shape(ctx, x, y, r, kind) {
    ctx.beginPath();
    if (kind === "square") ctx.rect(x - r, y - r, 2 * r, 2 * r);
    else if (kind === "diamond") {
      ctx.moveTo(x, y - r * 1.3);
      for (const [dx, dy] of [[1.3, 0], [0, 1.3], [-1.3, 0]]) ctx.lineTo(x + dx * r, y + dy * r);
      ctx.closePath();
    } else ctx.arc(x, y, r, 0, 2 * Math.PI);
  }

  const fallback = values(root, "values now", () => ({
    columns: ["node", what, ...(real ? ["truly reached"] : [])],
    rows: now ? nodes.map((name, i) => [name, now[i], ...(real ? [real[i] > 0.5 ? "yes" : "no"] : [])]) : [],
  }));

  const show = latest(
    async (index) => {
      now = await weight.at(index);
      top = now.reduce((most, v) => (v > most ? v : most), 1e-12); // of this time: what is held, however thinly
      real = truth ? await truth.at(index) : null;
      const held = nodes.filter((_, i) => now[i] > 0.05 * top);
      const some = held.slice(0, 20).join(", ");
      view.describe(`${exhibit.title}, ${at(exhibit, index)}: holds ${held.length} of ${nodes.length} nodes: ${some}`);
      view.request();
      fallback.refresh();
    },
    (error) => failed(root, error),
  );
  show(0);
  return { seek: show, resize: view.resize, destroy: view.destroy };
}
