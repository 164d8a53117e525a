// A path in the plane: where it has been, where it is, the field that moves it, and where the field rests.
import { line, plane, range } from "./_axes.js";
import { faint, tone } from "./_colors.js";
import { at, clipped, failed, legend, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";

const POINTS = 4000;

export default function panel(root, exhibit, context) {
  const { data, t } = exhibit;
  const shape = exhibit.arrays.x.shape;
  const lanes = shape.length > 1 ? shape[1] : 1;
  const names = data.names || (lanes > 1 ? Array.from({ length: lanes }, (_, k) => `path ${k}`) : null);
  let [path, field, spans, mark, maps] = [null, null, null, 0, null];

  const view = stage(root, context, {
    height: (width) => Math.min(400, Math.max(230, 0.75 * width)),
    label: exhibit.title,
    draw,
    hover(x, y) {
      if (!maps || x < maps.box.left || y > maps.box.bottom) return null;
      return `${data.xlabel || "x"} ${shown(maps.x.back(x))}, ${data.ylabel || "y"} ${shown(maps.y.back(y))}`;
    },
    pick(x, y) {
      if (!maps) return;
      let [best, near] = [Infinity, 0];
      for (let i = 0; i < path.index.length; i++) {
        const d = Math.hypot(maps.x(path.x[i * lanes]) - x, maps.y(path.y[i * lanes]) - y);
        if (d < best) [best, near] = [d, path.index[i]];
      }
      if (best < 30) context.onSeek(near);
    },
  });
  if (names && lanes > 1 && lanes <= 12) root.append(legend(names.map((label, k) => ({ label, color: context.theme().series[k % 8] }))));

  function draw(ctx, width, height, theme) {
    if (!path) return;
    maps = plane(ctx, width, height, theme, { x: spans.x, y: spans.y, log: data.log, xlabel: data.xlabel || "x", ylabel: data.ylabel || "y" });
    const { x, y, box } = maps;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    ctx.clip();
    if (field) arrows(ctx, theme, x, y);
    for (let k = 0; k < lanes; k++) {
      const color = lanes > 1 ? theme.series[k % theme.series.length] : tone(theme, "minus");
      ctx.lineJoin = "round";
      trace(ctx, k, x, y, Infinity, faint(color, 0.3), 1);
      trace(ctx, k, x, y, mark, color, lanes > 8 ? 1.2 : 2);
    }
    for (const point of data.points || []) rest(ctx, theme, x(point.x), y(point.y), point);
    for (let k = 0; k < lanes; k++) {
      const i = nearestRow(mark);
      const [px, py] = [x(path.x[i * lanes + k]), y(path.y[i * lanes + k])];
      if (!Number.isFinite(px + py)) continue;
      ctx.beginPath();
      ctx.arc(px, py, lanes > 8 ? 3.5 : 5.5, 0, 2 * Math.PI);
      ctx.fillStyle = theme.plus;
      ctx.fill();
      ctx.strokeStyle = theme.fg;
      ctx.lineWidth = 1;
      ctx.stroke();
    }
    ctx.restore();
  }

  function nearestRow(index) {
    let [low, high] = [0, path.index.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (path.index[middle] <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  function trace(ctx, k, x, y, until, color, width) {
    ctx.strokeStyle = color;
    ctx.lineWidth = width;
    ctx.beginPath();
    let down = false;
    for (let i = 0; i < path.index.length && path.index[i] <= until; i++) {
      const [px, py] = [x(path.x[i * lanes + k]), y(path.y[i * lanes + k])];
      if (!Number.isFinite(px + py)) down = false;
      else if (down) ctx.lineTo(px, py);
      else {
        ctx.moveTo(px, py);
        down = true;
      }
    }
    ctx.stroke();
  }

  function arrows(ctx, theme, x, y) {
    const { u, v, h, w } = field;
    const [[x0, x1], [y0, y1]] = [data.xrange || spans.x, data.yrange || spans.y];
    const step = Math.min((x(x1) - x(x0)) / w, (y(y0) - y(y1)) / h) * 0.8;
    ctx.strokeStyle = faint(theme.muted, 0.6);
    ctx.lineWidth = 1;
    for (let r = 0; r < h; r++)
      for (let c = 0; c < w; c++) {
        const [px, py] = [x(x0 + ((c + 0.5) / w) * (x1 - x0)), y(y0 + ((r + 0.5) / h) * (y1 - y0))];
        // Direction on the screen; length says nothing, fields span decades.
        const dx = (u[r * w + c] * (x(x1) - x(x0))) / (x1 - x0);
        const dy = (v[r * w + c] * (y(y1) - y(y0))) / (y1 - y0);
        const long = Math.hypot(dx, dy);
        if (!(long > 0)) continue;
        const [ex, ey] = [(dx / long) * step, (dy / long) * step];
        line(ctx, px - ex / 2, py - ey / 2, px + ex / 2, py + ey / 2);
        const turn = Math.atan2(ey, ex);
        for (const s of [2.6, -2.6]) line(ctx, px + ex / 2, py + ey / 2, px + ex / 2 + 3.5 * Math.cos(turn + s), py + ey / 2 + 3.5 * Math.sin(turn + s));
      }
  }

  function rest(ctx, theme, px, py, point) {
    ctx.beginPath();
    ctx.arc(px, py, 5, 0, 2 * Math.PI);
    ctx.lineWidth = 2;
    ctx.strokeStyle = theme.fg;
    ctx.fillStyle = point.stable === false ? theme.bg : theme.fg;
    ctx.fill();
    ctx.stroke();
    if (!point.label) return;
    ctx.fillStyle = theme.fg;
    ctx.textBaseline = "bottom";
    ctx.textAlign = "left";
    ctx.fillText(clipped(point.label, 40), px + 8, py - 4);
  }

  const fallback = values(root, "values now", () => {
    const i = path ? nearestRow(mark) : 0;
    const rows = path ? Array.from({ length: lanes }, (_, k) => [names ? names[k] : at(exhibit, mark), path.x[i * lanes + k], path.y[i * lanes + k]]) : [];
    return { columns: ["", data.xlabel || "x", data.ylabel || "y"], rows };
  });

  async function load() {
    try {
      const wanted = t.length > POINTS ? { points: POINTS, reduce: "mean" } : {};
      const [x, y] = await Promise.all([context.array("x", wanted), context.array("y", wanted)]);
      if (exhibit.arrays.u && exhibit.arrays.v) {
        const [u, v] = await Promise.all([context.array("u", {}), context.array("v", {})]);
        const [h, w] = exhibit.arrays.u.shape;
        field = { u: u.data, v: v.data, h, w };
      }
      const log = data.log || "";
      const resting = data.points || [];
      spans = {
        x: data.xrange ? range(data.xrange) : range([...x.data, ...resting.map((p) => p.x)], log.includes("x")),
        y: data.yrange ? range(data.yrange) : range([...y.data, ...resting.map((p) => p.y)], log.includes("y")),
      };
      path = { x: x.data, y: y.data, index: x.index };
      view.request();
      fallback.refresh();
    } catch (error) {
      failed(root, error);
    }
  }

  load();
  return {
    seek(index) {
      mark = index;
      if (path) {
        const i = nearestRow(mark);
        view.describe(`${exhibit.title}, ${at(exhibit, mark)}: ${data.xlabel || "x"} ${shown(path.x[i * lanes])}, ${data.ylabel || "y"} ${shown(path.y[i * lanes])}`);
      }
      view.request();
      fallback.refresh();
    },
    resize: view.resize,
    destroy: view.destroy,
  };
}
