// Bars, in groups and stacked if asked: beliefs of agents, shares of options, deltas of layers.
import { faint } from "./_colors.js";
import { frames, latest } from "./_frames.js";
import { plane, range as extentOf } from "./_axes.js";
import { at, clipped, failed, legend, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const { labels, groups } = data;
  const axes = groups ? 2 : 1;
  const source = frames(exhibit, context, "values", axes);
  const errors = exhibit.arrays.error ? frames(exhibit, context, "error", axes) : null;
  let [now, spread, mark] = [null, null, 0];
  let range = data.range || null;
  let hits = [];

  const signed = !groups && !data.stacked;
  const color = (theme, k, value) => (signed && range && range[0] < 0 ? (value < 0 ? theme.minus : theme.plus) : groups ? theme.series[k % theme.series.length] : theme.series[0]);

  const view = stage(root, context, {
    height: 220,
    label: exhibit.title,
    draw,
    hover(x, y) {
      const hit = hits.find((h) => x >= h.x && x <= h.x + h.w && y >= h.y - 2 && y <= h.y + h.h + 2);
      return hit ? `${hit.text}: ${shown(hit.value)}` : null;
    },
  });
  let names = null;
  function named() {
    if (!groups) return;
    const theme = context.theme();
    const made = legend(labels.map((label, k) => ({ label: k === data.mark ? `${label} ✓` : label, color: theme.series[k % theme.series.length] })));
    if (names) names.replaceWith(made);
    else root.append(made);
    names = made;
  }
  named();

  function draw(ctx, width, height, theme) {
    if (!now || !range) return;
    hits = [];
    const outer = groups ? groups.length : labels.length;
    const inner = groups && !data.stacked ? labels.length : 1;
    const { y, box } = plane(ctx, width, height, theme, { x: [0, 1], y: range, ylabel: data.ylabel, bare: true });
    const w = (box.right - box.left) / outer;
    const thick = (0.8 * w) / inner;
    const step = Math.max(1, Math.ceil(34 / w));
    for (let g = 0; g < outer; g++) {
      const x0 = box.left + g * w + 0.1 * w;
      ctx.fillStyle = theme.fg;
      ctx.textAlign = "center";
      ctx.textBaseline = "top";
      if (g % step === 0) ctx.fillText(clipped(groups ? groups[g] : labels[g], 20), x0 + 0.4 * w, box.bottom + 5, w * step - 4);
      let base = 0;
      for (let k = 0; k < (groups ? labels.length : 1); k++) {
        const i = groups ? g * labels.length + k : g;
        const v = now[i];
        if (!Number.isFinite(v)) continue;
        const from = data.stacked ? base : Math.min(Math.max(0, range[0]), range[1]);
        const [top, low] = [Math.min(y(from), y(from + v - (data.stacked ? 0 : from))), Math.max(y(from), y(data.stacked ? from + v : v))];
        const x = x0 + (data.stacked ? 0 : groups ? k * thick : 0);
        const tall = Math.max(low - top, 0.5);
        ctx.fillStyle = color(theme, groups ? k : g, v);
        ctx.fillRect(x, top, thick - (inner > 1 ? 1 : 0), tall);
        if ((groups ? k : g) === data.mark) {
          ctx.strokeStyle = theme.fg;
          ctx.lineWidth = 1.5;
          ctx.strokeRect(x + 1, top + 1, thick - 2, Math.max(tall - 2, 0));
        }
        if (spread && Number.isFinite(spread[i])) {
          ctx.strokeStyle = faint(theme.fg, 0.8);
          ctx.lineWidth = 1;
          ctx.beginPath();
          ctx.moveTo(x + thick / 2, y(v - spread[i]));
          ctx.lineTo(x + thick / 2, y(v + spread[i]));
          ctx.stroke();
        }
        hits.push({ x, y: top, w: thick, h: tall, value: v, text: groups ? `${clipped(groups[g], 30)}, ${clipped(labels[k], 60)}` : clipped(labels[g], 60) });
        if (data.stacked) base += v;
      }
    }
  }

  const fallback = values(root, "values now", () => {
    if (!now) return { columns: [], rows: [] };
    if (!groups) return { columns: ["", at(exhibit, mark) || "value"], rows: labels.map((l, k) => [l, now[k]]) };
    return { columns: ["", ...labels], rows: groups.map((g, i) => [g, ...now.subarray(i * labels.length, (i + 1) * labels.length)]) };
  });

  const show = latest(
    async (index) => {
      if (!range) {
        const [low, high] = await source.extent();
        const most = data.stacked ? 1 : high;
        const [a, b] = extentOf([low, most, 0]);
        range = [low < 0 ? a : 0, Math.max(b, 1e-12)];
      }
      now = await source.at(index);
      spread = errors ? await errors.at(index) : null;
      mark = index;
      const each = groups ? groups.map((g, i) => `${g}: ${best(i)}`) : labels.slice(0, 12).map((l, k) => `${l} ${shown(now[k])}`);
      view.describe(`${exhibit.title}, ${at(exhibit, index)}: ${each.join("; ")}`);
      view.request();
      fallback.refresh();
    },
    (error) => failed(root, error),
  );

  function best(g) {
    let most = 0;
    for (let k = 1; k < labels.length; k++) if (now[g * labels.length + k] > now[g * labels.length + most]) most = k;
    return `${labels[most]} ${shown(now[g * labels.length + most])}`;
  }

  show(0);
  const off = context.onTheme ? context.onTheme(named) : null;
  return {
    seek: show,
    resize: view.resize,
    destroy() {
      if (off) off();
      view.destroy();
    },
  };
}
