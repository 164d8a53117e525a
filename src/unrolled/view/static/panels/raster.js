// Every unit over time: spikes as marks, activity as colour; phases as bands, groups of units one above the other.
import { element, format, nearest } from "../util.js";
import { ticks } from "./_axes.js";
import { diverging, faint, ramp, rgb, sequential, tone } from "./_colors.js";
import { at, clipped, failed, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";

const WIDEST = 4096; // units that are asked for at once

export default function panel(root, exhibit, context) {
  const { data, t } = exhibit;
  const [times, units] = exhibit.arrays.values.shape;
  const seen = Math.min(units, WIDEST);
  const groups = data.groups || [];
  const names = data.labels || null;
  const few = units <= 24 && (names || groups.length === 0);
  const end = t[times - 1] + (times > 1 ? t[times - 1] - t[times - 2] : 1); // a column lasts until the next begins
  let mark = 0;
  let image = null;
  let got = null;
  let range = data.range || null;
  let binary = false;
  const gutter = () => (groups.length || names ? 84 : 40);
  if (seen < units) root.append(element("p", { class: "panel-note", text: `The first ${seen} of ${units} units.` }));

  const view = stage(root, context, {
    height: (width) => Math.max(120, Math.min(width * 0.75, 46 + (few ? 22 : units > 400 ? 0.6 : 2) * units, 420)),
    label: `${exhibit.title}: ${units} units over ${times} times`,
    draw,
    hover(x, y) {
      const place = where(x, y);
      return place ? `${name(place.unit)}, ${at(exhibit, place.i)}: ${got.decimated ? "at most " : ""}${shown(place.value)}` : null;
    },
    pick(x, y) {
      const place = where(x, y);
      if (place) context.onSeek(place.i);
    },
  });

  function box(width, height) {
    return { left: gutter(), right: width - 16, top: 18, bottom: height - 24 };
  }

  function name(unit) {
    if (names) return clipped(names[unit], 40);
    const group = groups.find((g) => unit >= g.start && unit < g.stop);
    return group ? `${clipped(group.label, 30)} ${unit - group.start}` : `unit ${unit}`;
  }

  function where(x, y) {
    if (!got) return null;
    const b = box(view.width(), view.canvas.clientHeight);
    if (x < b.left || x >= b.right || y < b.top || y >= b.bottom) return null;
    const unit = Math.floor((1 - (y - b.top) / (b.bottom - b.top)) * seen);
    const value = t[0] + ((x - b.left) / (b.right - b.left)) * (end - t[0]);
    const i = nearest(t, value);
    const row = nearest(got.index, i);
    return { unit, i, value: got.data[row * seen + unit] };
  }

  function paint() {
    // One pixel a cell; the canvas stretches it. Times may be uneven: columns go where their time is.
    const rows = got.index.length;
    const [low, high] = range;
    const theme = context.theme();
    const ink = rgb(theme.fg);
    const ground = rgb(theme.bg);
    const colors = ramp(data.diverging ? (s) => diverging(2 * s - 1, ground) : sequential);
    const pixels = new ImageData(rows, seen);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < seen; k++) {
        const v = got.data[i * seen + k];
        const p = 4 * ((seen - 1 - k) * rows + i);
        if (!Number.isFinite(v)) continue;
        if (binary) {
          if (v > low) pixels.data.set([...ink, 255], p);
        } else {
          const c = 4 * Math.max(0, Math.min(255, Math.round((255 * (v - low)) / (high - low || 1))));
          pixels.data.set(colors.subarray(c, c + 4), p);
        }
      }
    }
    image = document.createElement("canvas");
    image.width = rows;
    image.height = seen;
    image.getContext("2d").putImageData(pixels, 0, 0);
  }

  function draw(ctx, width, height, theme) {
    const b = box(width, height);
    const span = end - t[0];
    const x = (value) => b.left + ((value - t[0]) / span) * (b.right - b.left);
    const y = (unit) => b.bottom - (unit / seen) * (b.bottom - b.top);
    for (const band of data.bands || []) {
      const [from, to] = [Math.max(b.left, x(band.start)), Math.min(b.right, x(band.stop))];
      ctx.fillStyle = faint(theme[band.role] || theme.muted, 0.16);
      ctx.fillRect(from, b.top, to - from, b.bottom - b.top);
      ctx.fillStyle = tone(theme, band.role);
      ctx.textBaseline = "middle";
      ctx.textAlign = "left";
      ctx.fillText(clipped(band.label, 30), from + 3, 9, Math.max(10, to - from));
    }
    if (image) spread(ctx, b, x);
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    ctx.fillStyle = theme.fg;
    for (const g of groups) {
      ctx.fillText(clipped(g.label, 20), b.left - 6, y((g.start + Math.min(g.stop, seen)) / 2), gutter() - 10);
      ctx.strokeStyle = theme.muted;
      ctx.beginPath();
      ctx.moveTo(b.left - 4, y(g.start));
      ctx.lineTo(b.right, y(g.start));
      ctx.stroke();
    }
    if (names && !groups.length && (b.bottom - b.top) / seen >= 11)
      names.slice(0, seen).forEach((n, k) => ctx.fillText(clipped(n, 24), b.left - 6, y(k + 0.5), gutter() - 10));
    ctx.fillStyle = theme.muted;
    ctx.textAlign = "center";
    for (const value of ticks(t[0], t[times - 1], Math.max(2, (b.right - b.left) / 90))) ctx.fillText(format(value), x(value), b.bottom + 12);
    ctx.textAlign = "right";
    ctx.fillText(exhibit.unit, b.left - 8, b.bottom + 12, gutter() - 10);
    ctx.strokeStyle = theme.fg;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.moveTo(x(t[mark]), b.top - 2);
    ctx.lineTo(x(t[mark]), b.bottom + 3);
    ctx.stroke();
  }

  function spread(ctx, b, x) {
    ctx.save();
    ctx.imageSmoothingEnabled = false;
    const rows = got.index.length;
    const even = Math.abs((t[got.index[rows - 1]] - t[got.index[0]]) / Math.max(rows - 1, 1) - (t[got.index[Math.min(1, rows - 1)]] - t[got.index[0]])) < 1e-6 * Math.abs(t[times - 1] - t[0] || 1);
    if (even || rows > 1500) ctx.drawImage(image, b.left, b.top, b.right - b.left, b.bottom - b.top);
    else
      for (let i = 0; i < rows; i++) {
        const from = x(t[got.index[i]]);
        const to = i + 1 < rows ? x(t[got.index[i + 1]]) : x(end);
        ctx.drawImage(image, i, 0, 1, seen, from, b.top, Math.max(1, to - from + 0.5), b.bottom - b.top);
      }
    ctx.restore();
  }

  const fallback = values(root, "values now", async () => {
    const frame = await context.array("values", { start: mark, stop: mark + 1 });
    return { columns: ["unit", at(exhibit, mark)], rows: Array.from(frame.data.slice(0, 200), (v, k) => [name(k), v]) };
  });

  async function load() {
    try {
      const points = Math.max(200, Math.min(1600, Math.floor(view.width() * Math.min(window.devicePixelRatio || 1, 2))));
      const answer = await context.array("values", { points, reduce: "max", ...(seen < units ? { columns: [0, seen] } : {}) });
      let [low, high] = [Infinity, -Infinity];
      const kinds = new Set();
      for (const v of answer.data) {
        if (!Number.isFinite(v)) continue;
        if (v < low) low = v;
        if (v > high) high = v;
        if (kinds.size < 3) kinds.add(v);
      }
      binary = !data.range && kinds.size <= 2 && low >= 0;
      range = data.range || (binary ? [0, 1] : data.diverging ? [-Math.max(-low, high), Math.max(-low, high)] : [low, high]);
      got = answer;
      paint();
      view.request();
    } catch (error) {
      failed(root, error);
    }
  }

  load();
  const off = context.onTheme ? context.onTheme(() => got && (paint(), view.request())) : null;
  return {
    seek(index) {
      mark = Math.min(Math.max(index, 0), times - 1);
      view.describe(`${exhibit.title}: ${units} units over ${times} times, now at ${at(exhibit, mark)}`);
      view.request();
      fallback.refresh();
    },
    resize: view.resize,
    destroy() {
      if (off) off();
      view.destroy();
    },
  };
}
