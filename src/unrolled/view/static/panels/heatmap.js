// Maps of numbers, one an array: rows down, columns across. A map may have time along one of its own axes (`follow`).
import { format } from "../util.js";
import { diverging, onto, ramp, rgb, sequential } from "./_colors.js";
import { frames, latest } from "./_frames.js";
import { at, clipped, failed, shown, values } from "./_parts.js";
import { stage } from "./_stage.js";

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const maps = Object.keys(exhibit.arrays).map((name) => ({ ...frames(exhibit, context, name, 2), now: null, box: null }));
  const follow = data.follow || null;
  let mark = 0;
  let range = data.range || null;

  const words = (which, map) => {
    const found = data[which];
    return Array.isArray(found) ? found : found && found[map.name] ? found[map.name] : null;
  };
  const named = (map) => (data.names && data.names[map.name]) || map.name;
  const single = maps.length === 1;

  // Square cells where the columns have no names to make room for.
  function rowsOf(width) {
    const across = single ? 1 : Math.min(maps.length, Math.max(1, Math.floor(width / 150)));
    return { across, down: Math.ceil(maps.length / across) };
  }

  function tall(width) {
    const { across, down } = rowsOf(width);
    const each = width / across;
    const heights = maps.map(({ shape: [h, w] }) => {
      if (words("rows", { name: "" }) || single) return Math.max(60, Math.min(h * 20, 0.8 * each, 460));
      return Math.min(each * 0.8, Math.max(60, (each * h) / w));
    });
    return down * (Math.max(...heights) + (single ? 0 : 20)) + foot();
  }

  const view = stage(root, context, {
    height: tall,
    label: exhibit.title,
    draw,
    hover(x, y) {
      const place = where(x, y);
      if (!place) return null;
      const { map, r, c } = place;
      return `${single ? "" : `${clipped(named(map), 30)} `}${word("rows", map, r)}, ${word("columns", map, c)}: ${shown(map.now[r * map.shape[1] + c])}`;
    },
    pick(x, y) {
      const place = where(x, y);
      if (place && follow) context.onSeek(follow === "rows" ? place.r : place.c);
    },
  });

  function word(which, map, i) {
    const list = words(which, map);
    const axis = which === "rows" ? data.ylabel || "row" : data.xlabel || "column";
    return list && list[i] !== undefined ? clipped(list[i], 40) : `${axis} ${i}`;
  }

  function where(x, y) {
    for (const map of maps) {
      const b = map.box;
      if (!b || !map.now || x < b.x || y < b.y || x >= b.x + b.w || y >= b.y + b.h) continue;
      return { map, r: Math.floor(((y - b.y) / b.h) * map.shape[0]), c: Math.floor(((x - b.x) / b.w) * map.shape[1]) };
    }
    return null;
  }

  // Room below the maps: for the key, and for the names of the columns.
  function foot() {
    const side = words("columns", maps[0]);
    return 34 + (!side ? 0 : side.every((s) => s.length <= 2) ? 16 : 54);
  }

  function color(theme) {
    const ground = rgb(theme.bg);
    return data.diverging ? (s) => diverging(2 * s - 1, ground) : sequential;
  }

  function draw(ctx, width, height, theme) {
    const { across, down } = rowsOf(width);
    const named_rows = maps.some((m) => words("rows", m));
    const longest = Math.max(0, ...maps.flatMap((m) => (words("rows", m) || []).map((s) => ctx.measureText(clipped(s, 30)).width)));
    const left = named_rows ? Math.min(longest + 12, 130, width * 0.28) : 4;
    const under = foot();
    const [w, h] = [(width - 4) / across, (height - under) / down];
    const paint = color(theme);
    const colors = ramp(paint);
    maps.forEach((map, k) => {
      const [rows, columns] = map.shape;
      const x = 2 + (k % across) * w + left;
      const y = Math.floor(k / across) * h + (single ? 4 : 18);
      let [bw, bh] = [w - left - 8, h - (single ? 6 : 22)];
      if (!single && !named_rows) {
        const cell = Math.min(bw / columns, bh / rows);
        [bw, bh] = [cell * columns, cell * rows];
      }
      map.box = { x, y, w: bw, h: bh };
      ctx.fillStyle = theme.fg;
      ctx.textBaseline = "alphabetic";
      ctx.textAlign = "left";
      if (!single) ctx.fillText(clipped(named(map), 30), x, y - 5, w - 8);
      if (map.now && range) picture(ctx, map, colors, theme);
      labels(ctx, map, theme, left);
      if (follow) outline(ctx, map, theme);
    });
    key(ctx, width, height, theme, paint);
    if (data.xlabel) {
      ctx.fillStyle = theme.fg;
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      ctx.fillText(data.xlabel, width - 6, height - 12, width / 2);
    }
  }

  function picture(ctx, map, colors, theme) {
    const [rows, columns] = map.shape;
    const pixels = new ImageData(columns, rows);
    const [low, high] = range;
    for (let i = 0; i < rows * columns; i++) {
      const v = map.now[i];
      if (!Number.isFinite(v)) continue;
      const c = 4 * Math.max(0, Math.min(255, Math.round((255 * (v - low)) / (high - low || 1))));
      pixels.data.set(colors.subarray(c, c + 4), 4 * i);
    }
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows;
    small.getContext("2d").putImageData(pixels, 0, 0);
    const { x, y, w, h } = map.box;
    ctx.save();
    ctx.imageSmoothingEnabled = rows > h || columns > w;
    ctx.drawImage(small, x, y, w, h);
    ctx.restore();
    ctx.strokeStyle = theme.muted;
    ctx.lineWidth = 0.5;
    ctx.strokeRect(x, y, w, h);
    if ((!words("rows", map) && !words("columns", map)) || w / columns < 34 || h / rows < 15) return;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const v = map.now[r * columns + c];
        if (!Number.isFinite(v)) continue;
        const p = 4 * Math.max(0, Math.min(255, Math.round((255 * (v - low)) / (high - low || 1))));
        ctx.fillStyle = onto(colors.subarray(p, p + 3));
        ctx.fillText(format(v), x + ((c + 0.5) * w) / columns, y + ((r + 0.5) * h) / rows, w / columns - 4);
      }
  }

  function labels(ctx, map, theme, left) {
    const { x, y, w, h } = map.box;
    const [rows, columns] = map.shape;
    ctx.fillStyle = theme.fg;
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    const down = words("rows", map);
    const every = Math.max(1, Math.ceil((12 * rows) / h));
    if (down) for (let r = 0; r < rows; r += every) ctx.fillText(clipped(down[r] ?? r, 30), x - 5, y + ((r + 0.5) * h) / rows, left - 8);
    const side = words("columns", map);
    if (!side) return;
    const step = Math.max(1, Math.ceil((13 * columns) / w));
    const flat = side.every((s) => s.length <= 2);
    for (let c = 0; c < columns; c += step) {
      ctx.save();
      ctx.translate(x + ((c + 0.5) * w) / columns, y + h + (flat ? 10 : 5));
      if (!flat) ctx.rotate(-Math.PI / 2.6);
      ctx.textAlign = flat ? "center" : "right";
      ctx.fillText(clipped(side[c] ?? c, 14), 0, 0, 60);
      ctx.restore();
    }
  }

  function outline(ctx, map, theme) {
    const { x, y, w, h } = map.box;
    const [rows, columns] = map.shape;
    ctx.strokeStyle = theme.plus;
    ctx.lineWidth = 2.5;
    if (follow === "rows") ctx.strokeRect(x - 1, y + (Math.min(mark, rows - 1) * h) / rows, w + 2, h / rows);
    else ctx.strokeRect(x + (Math.min(mark, columns - 1) * w) / columns, y - 1, w / columns, h + 2);
  }

  function key(ctx, width, height, theme, paint) {
    if (!range) return;
    const long = Math.min(150, width / 3);
    for (let i = 0; i < long; i++) {
      const [r, g, b] = paint(i / long);
      ctx.fillStyle = `rgb(${r}, ${g}, ${b})`;
      ctx.fillRect(60 + i, height - 18, 1.5, 10);
    }
    ctx.fillStyle = theme.muted;
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    ctx.fillText(format(range[0]), 54, height - 12, 54);
    ctx.textAlign = "left";
    ctx.fillText(format(range[1]), 66 + long, height - 12, 70);
  }

  const fallback = values(root, "values now", () => {
    const map = maps[0];
    const [rows, columns] = map.shape;
    const wide = Math.min(columns, 40);
    const head = [single ? "" : named(map), ...Array.from({ length: wide }, (_, c) => word("columns", map, c))];
    if (!map.now) return { columns: head, rows: [] };
    const made = Array.from({ length: rows }, (_, r) => [word("rows", map, r), ...Array.from(map.now.subarray(r * columns, r * columns + wide))]);
    const left = maps.length > 1 ? `The first of ${maps.length} maps.` : "";
    return { columns: head, rows: made, note: wide < columns ? `${left} The first ${wide} of ${columns} columns.` : left };
  });

  const show = latest(
    async (index) => {
      if (!range) {
        const ends = await Promise.all(maps.map((m) => m.extent()));
        let [low, high] = [Math.min(...ends.map((e) => e[0])), Math.max(...ends.map((e) => e[1]))];
        if (data.diverging) [low, high] = [-Math.max(-low, high, 0), Math.max(-low, high, 0)];
        range = low < high ? [low, high] : [low - 0.5, low + 0.5];
      }
      const got = await Promise.all(maps.map((m) => m.at(index)));
      maps.forEach((m, k) => {
        m.now = got[k];
      });
      mark = index;
      const when = exhibit.t ? `, at ${at(exhibit, index)}` : "";
      view.describe(`${exhibit.title}: ${maps.map((m) => `${named(m)} ${m.shape[0]} by ${m.shape[1]}`).join(", ")}, from ${format(range[0])} to ${format(range[1])}${when}`);
      view.request();
      fallback.refresh();
    },
    (error) => failed(root, error),
  );
  show(0);
  return { seek: show, resize: view.resize, destroy: view.destroy };
}
