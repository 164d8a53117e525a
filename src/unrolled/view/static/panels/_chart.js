// Curves over time or over x: uPlot, with bands, a line at the scrubber, a legend that switches curves off, and zoom that
// asks for more detail.
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { element, format, nearest } from "../util.js";
import { faint, tone } from "./_colors.js";
import { latest } from "./_frames.js";
import { clipped, failed, shown, values } from "./_parts.js";

const DASH = [[], [6, 4], [2, 3], [8, 3, 2, 3]];

/** Colours and dashes that tell `count` curves apart. */
export function styles(theme, count) {
  return Array.from({ length: count }, (_, i) => ({
    color: theme.series[i % theme.series.length],
    dash: DASH[Math.floor(i / theme.series.length) % DASH.length],
  }));
}

/**
 * @param spec series: [{label, role?}]; load(start, stop, points) -> Promise<{x: [number], columns: [[number|null]], fine: bool}>
 *   (start and stop count rows; null: all); exact(index) -> Promise of a value a series, for when x and columns are thinned; t: times of the rows or null; bands; log; xlabel, ylabel; label: for screen readers;
 *   height.
 */
export function chart(root, context, spec) {
  const { series, t } = spec;
  const host = element("div", { class: "panel-chart", role: "img", "aria-label": spec.label });
  const bar = element("div", { class: "panel-bar" });
  const names = element("div", { class: "panel-legend", role: "group", "aria-label": "curves" });
  root.append(host, bar, names);
  let log = spec.log || "";
  const off = new Set();
  let plot = null;
  let data = null;
  let loaded = null;
  let rows = null; // [start, stop] when zoomed in on times
  let mark = 0;
  let gone = false;
  let turn = 0;
  const cursor = element("div", { class: "panel-cursor", "aria-hidden": "true" });
  const now = [];
  const fallback = values(root, "values", table);

  function look() {
    const theme = context.theme();
    const made = styles(theme, series.length);
    const used = { minus: 0, plus: 0 };
    return series.map((s, i) => (s.role in used ? { color: tone(theme, s.role), dash: DASH[used[s.role]++ % DASH.length] } : made[i]));
  }

  function build() {
    if (gone || !data) return;
    const theme = context.theme();
    const styled = look();
    const width = Math.max(160, host.clientWidth || root.clientWidth || 300);
    const xs = data[0];
    const positive = (column) => (log.includes("y") ? column.map((v) => (v !== null && v > 0 ? v : null)) : column);
    const axis = { stroke: theme.muted, grid: { stroke: faint(theme.muted, 0.2), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 18 };
    const options = {
      width,
      height: spec.height || 200,
      legend: { show: false },
      cursor: { drag: { x: true, y: false }, points: { show: false }, y: false },
      scales: { x: { time: false, distr: log.includes("x") ? 3 : 1 }, y: { distr: log.includes("y") ? 3 : 1 } },
      axes: [
        { ...axis, label: spec.xlabel || undefined, size: 28, values: (_, ticks) => ticks.map((v) => (v === null ? "" : format(v))) },
        { ...axis, label: spec.ylabel || undefined, size: 54, values: (_, ticks) => ticks.map((v) => (v === null ? "" : format(v))) },
      ],
      series: [
        {},
        ...series.map((s, i) => ({
          label: s.label,
          show: !off.has(i),
          stroke: styled[i].color,
          dash: styled[i].dash,
          width: 1.5,
          spanGaps: false,
          points: { show: xs.length <= 40, size: 5, fill: styled[i].color },
        })),
      ],
      hooks: { drawClear: [bands], setSelect: [zoomed], draw: [place] },
    };
    if (plot) plot.destroy();
    plot = new uPlot(options, [xs, ...data.slice(1).map(positive)], host);
    plot.over.append(cursor);
    plot.over.addEventListener("click", pick);
    plot.over.addEventListener("dblclick", () => whole());
    place();
  }

  function bands(u) {
    const { ctx } = u;
    const theme = context.theme();
    for (const band of spec.bands || []) {
      const from = Math.max(u.valToPos(band.start, "x", true), u.bbox.left);
      const to = Math.min(u.valToPos(band.stop, "x", true), u.bbox.left + u.bbox.width);
      if (!(to > from)) continue;
      ctx.save();
      ctx.fillStyle = faint(theme[band.role] || theme.muted, 0.14);
      ctx.fillRect(from, u.bbox.top, to - from, u.bbox.height);
      ctx.fillStyle = tone(theme, band.role);
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textBaseline = "top";
      ctx.fillText(clipped(band.label, 30), from + 4 * devicePixelRatio, u.bbox.top + 2 * devicePixelRatio, to - from);
      ctx.restore();
    }
  }

  function pick(event) {
    if (!t || !plot || plot.select.width > 2) return;
    context.onSeek(nearest(t, plot.posToVal(event.offsetX, "x")));
  }

  function zoomed(u) {
    if (u.select.width < 3 || !t || (loaded && loaded.fine)) return;
    const low = nearest(t, u.posToVal(u.select.left, "x"));
    const high = nearest(t, u.posToVal(u.select.left + u.select.width, "x"));
    if (high > low) load([low, high + 1]);
  }

  /** Show all there is. */
  function whole() {
    if (rows) load(null);
    else if (plot && data) plot.setData(plot.data, true);
  }

  /** Half of what is seen, around the scrubber. */
  function closer() {
    if (!plot || !data) return;
    const { min, max } = plot.scales.x;
    const middle = t ? t[mark] : (min + max) / 2;
    const quarter = (max - min) / 4;
    const [from, to] = [Math.max(min, middle - quarter), Math.min(max, middle + quarter)];
    if (t && !loaded.fine) load([nearest(t, from), nearest(t, to) + 1]);
    else plot.setScale("x", { min: from, max: to });
  }

  function place() {
    if (!plot || !t || !data) return;
    const value = t[Math.min(mark, t.length - 1)];
    const left = plot.valToPos(value, "x");
    const seen = left >= -1 && left <= plot.over.clientWidth + 1;
    cursor.hidden = !seen;
    if (seen) cursor.style.transform = `translateX(${left}px)`;
    if (!loaded.fine) {
      if (spec.exact) exact(mark);
      else for (const node of now) node.textContent = "";
      return;
    }
    const i = nearest(data[0], value);
    now.forEach((node, k) => {
      node.textContent = shown(data[k + 1][i]);
    });
  }

  // What is drawn is thinned: the value itself is asked for.
  const exact = latest(
    async (index) => {
      const got = await spec.exact(Math.min(index, t.length - 1));
      if (!gone) now.forEach((node, k) => (node.textContent = shown(got[k])));
    },
    () => {},
  );

  function table() {
    const columns = [spec.xlabel || "x", ...series.map((s) => s.label)];
    const step = data ? Math.max(1, Math.ceil(data[0].length / 100)) : 1;
    const lines = [];
    if (data) for (let i = 0; i < data[0].length; i += step) lines.push(data.map((column) => column[i]));
    return { columns, rows: lines, note: loaded && !loaded.fine ? "Thinned to the least and largest of each stretch." : "" };
  }

  async function load(range) {
    const mine = ++turn;
    try {
      const points = 2 * Math.max(300, Math.min(2000, host.clientWidth || 600));
      const got = await spec.load(range ? range[0] : null, range ? range[1] : null, points);
      if (gone || mine !== turn) return;
      rows = range;
      loaded = got;
      data = [got.x, ...got.columns];
      root.querySelector(":scope > .panel-error")?.remove();
      build();
      fallback.refresh();
    } catch (error) {
      if (!gone && mine === turn) failed(root, error);
    }
  }

  function button(text, title, act) {
    const made = element("button", { type: "button", class: "panel-button", title, text });
    made.addEventListener("click", act);
    bar.append(made);
    return made;
  }

  button("closer", "half of what is seen, around the scrubber; or drag over the curves", closer);
  button("all", "show all; or double click", whole);
  const logs = button("log", "logarithmic axis up", () => {
    log = log.includes("y") ? log.replace("y", "") : `${log}y`;
    logs.setAttribute("aria-pressed", String(log.includes("y")));
    build();
  });
  logs.setAttribute("aria-pressed", String(log.includes("y")));

  function entries() {
    const styled = look();
    now.length = 0;
    names.replaceChildren(
      ...series.map((s, i) => {
        const swatch = element("span", { class: "swatch line", "aria-hidden": "true" });
        swatch.style.background = styled[i].color;
        const number = element("span", { class: "panel-now" });
        now.push(number);
        const made = element("button", { type: "button", class: "panel-name", "aria-pressed": String(!off.has(i)) }, swatch, element("span", { text: clipped(s.label, 60) }), number);
        made.addEventListener("click", () => {
          if (off.has(i)) off.delete(i);
          else off.add(i);
          made.setAttribute("aria-pressed", String(!off.has(i)));
          if (plot) plot.setSeries(i + 1, { show: !off.has(i) });
        });
        return made;
      }),
    );
  }

  entries();
  load(null);
  const silent = context.onTheme
    ? context.onTheme(() => {
        entries();
        build();
      })
    : null;

  return {
    seek(index) {
      mark = index;
      place();
    },
    resize() {
      const width = Math.max(160, host.clientWidth);
      if (plot && Math.abs(plot.width - width) > 1) plot.setSize({ width, height: spec.height || 200 });
      place();
    },
    reload() {
      load(rows);
    },
    destroy() {
      gone = true;
      if (silent) silent();
      if (plot) plot.destroy();
    },
  };
}

/** Typed array with gaps -> array with nulls, which uPlot leaves out. */
export function column(data, width, k) {
  const made = new Array(data.length / width);
  for (let i = 0; i < made.length; i++) {
    const v = data[i * width + k];
    made[i] = Number.isFinite(v) ? v : null;
  }
  return made;
}
