// Points in the plane, in groups that differ by colour and by shape.
import { line, plane, range } from "./_axes.js";
import { frames, latest } from "./_frames.js";
import { at, clipped, failed, legend, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const log = data.log || "";
  const parts = { x: frames(exhibit, context, "x", 1), y: frames(exhibit, context, "y", 1) };
  const group = exhibit.arrays.group ? frames(exhibit, context, "group", 1) : null;
  let [xs, ys, of, spans, maps] = [null, null, null, null, null];

  const view = stage(root, context, {
    height: (width) => Math.min(360, Math.max(220, 0.7 * width)),
    label: exhibit.title,
    draw,
    hover(x, y) {
      if (!maps) return null;
      let [best, near] = [12, -1];
      for (let i = 0; i < xs.length; i++) {
        const d = Math.hypot(maps.x(xs[i]) - x, maps.y(ys[i]) - y);
        if (d < best) [best, near] = [d, i];
      }
      return near < 0 ? null : `${name(near)}: ${shown(xs[near])}, ${shown(ys[near])}`;
    },
  });
  if (data.groups) root.append(legend(data.groups.map((label, k) => ({ label, color: context.theme().series[k % 8] }))));

  function name(i) {
    if (data.labels) return clipped(data.labels[i], 60);
    return data.groups && of ? clipped(data.groups[of[i]] ?? "", 40) : `point ${i}`;
  }

  function draw(ctx, width, height, theme) {
    if (!xs) return;
    maps = plane(ctx, width, height, theme, { ...spans, log, xlabel: data.xlabel || "x", ylabel: data.ylabel || "y" });
    const { x, y, box } = maps;
    if (data.diagonal) {
      ctx.strokeStyle = theme.muted;
      ctx.setLineDash([5, 4]);
      const [low, high] = [Math.max(spans.x[0], spans.y[0]), Math.min(spans.x[1], spans.y[1])];
      if (high > low) line(ctx, x(low), y(low), x(high), y(high));
      ctx.setLineDash([]);
    }
    const r = xs.length > 2000 ? 1.5 : xs.length > 200 ? 2.5 : 4;
    ctx.globalAlpha = xs.length > 200 ? 0.6 : 0.85;
    for (let i = 0; i < xs.length; i++) {
      const [px, py] = [x(xs[i]), y(ys[i])];
      if (!(px >= box.left && px <= box.right && py >= box.top && py <= box.bottom)) continue;
      const g = of ? of[i] : 0;
      ctx.fillStyle = theme.series[g % theme.series.length];
      ctx.beginPath();
      if (g % 3 === 1) ctx.rect(px - r, py - r, 2 * r, 2 * r);
      else if (g % 3 === 2) {
        ctx.moveTo(px, py - 1.4 * r);
        ctx.lineTo(px + 1.3 * r, py + r);
        ctx.lineTo(px - 1.3 * r, py + r);
      } else ctx.arc(px, py, r, 0, 2 * Math.PI);
      ctx.fill();
    }
    ctx.globalAlpha = 1;
  }

  const fallback = values(root, "values now", () => ({
    columns: ["", data.xlabel || "x", data.ylabel || "y"],
    rows: xs ? Array.from(xs.subarray(0, 200), (v, i) => [name(i), v, ys[i]]) : [],
  }));

  const show = latest(
    async (index) => {
      if (!spans) {
        const [x, y] = [await parts.x.extent(), await parts.y.extent()];
        [xs, ys] = [await parts.x.at(index), await parts.y.at(index)];
        spans = { x: range(parts.x.moves ? x : xs, log.includes("x")), y: range(parts.y.moves ? y : ys, log.includes("y")) };
      }
      [xs, ys] = [await parts.x.at(index), await parts.y.at(index)];
      if (group) of = await group.at(index);
      view.describe(`${exhibit.title}, ${at(exhibit, index)}: ${xs.length} points, ${data.ylabel || "y"} against ${data.xlabel || "x"}`);
      view.request();
      fallback.refresh();
    },
    (error) => failed(root, error),
  );
  show(0);
  return { seek: show, resize: view.resize, destroy: view.destroy };
}
