// Logged numbers: one small chart a name, one curve for each set of labels.
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { chart, column } from "./_chart.js";
import { element } from "../util.js";
import { clipped } from "./_parts.js";

const FIRST = 4; // charts that are open from the start

export default function panel(root, exhibit, context) {
  const { series } = exhibit.data;
  const byName = new Map();
  for (const s of series) {
    if (!byName.has(s.name)) byName.set(s.name, []);
    byName.get(s.name).push(s);
  }
  // Losses first; what only tells runs apart last.
  const rank = (name) => (/loss|error|accuracy|reward/.test(name) ? 0 : /^(seed|trials?|step|epoch|tokens)$/.test(name) ? 2 : 1);
  const names = [...byName.keys()].sort((a, b) => rank(a) - rank(b));
  const open = new Map();
  let mark = 0;
  const choice = element("div", { class: "panel-names", role: "group", "aria-label": "numbers to show" });
  const host = element("div", { class: "metrics" });
  root.append(choice, host);

  function told(s) {
    const text = Object.entries(s.labels || {}).map(([k, v]) => `${k} ${v}`).join(", ");
    return clipped(text || s.name, 80);
  }

  function show(name) {
    const parts = byName.get(name).slice(0, 24);
    const box = element("div", { class: "metric" }, element("h4", { text: clipped(name, 60) }));
    host.append(box);
    const made = chart(box, context, {
      series: parts.map((s) => ({ label: told(s) })),
      t: exhibit.t,
      xlabel: exhibit.unit,
      height: 170,
      label: `${name} over ${exhibit.unit || "rows"}: ${parts.map(told).join("; ")}`,
      async load(start, stop, points) {
        const low = start === null ? -Infinity : exhibit.t[start];
        const high = stop === null ? Infinity : exhibit.t[Math.min(stop, exhibit.t.length) - 1];
        const tables = await Promise.all(
          parts.map(async (s) => {
            const x = (await context.array(s.x, {})).data;
            let [a, b] = [0, x.length];
            while (a < b && x[a] < low) a++;
            while (b > a && x[b - 1] > high) b--;
            const y = await context.array(s.array, { start: a, stop: b, points });
            return { x: Array.from(y.index, (i) => x[i]), y: column(y.data, 1, 0), decimated: y.decimated };
          }),
        );
        // Rows of one step, and of several runs of the clock, are joined on x; the same x twice keeps its last.
        const joined = tables.length === 1 ? [tables[0].x, tables[0].y] : uPlot.join(tables.map(({ x, y }) => unique(x, y)), tables.map(() => [2, 2]));
        return { x: joined[0], columns: joined.slice(1), fine: !tables.some((table) => table.decimated) };
      },
    });
    open.set(name, { box, made });
    made.seek(mark);
  }

  function hide(name) {
    const { box, made } = open.get(name);
    made.destroy();
    box.remove();
    open.delete(name);
  }

  names.forEach((name, k) => {
    const made = element("button", { type: "button", class: "panel-name", "aria-pressed": String(k < FIRST), text: clipped(name, 40) });
    made.addEventListener("click", () => {
      if (open.has(name)) hide(name);
      else show(name);
      made.setAttribute("aria-pressed", String(open.has(name)));
    });
    choice.append(made);
    if (k < FIRST) show(name);
  });

  function unique(x, y) {
    const order = x.map((_, i) => i).sort((a, b) => x[a] - x[b] || a - b);
    const [xs, ys] = [[], []];
    for (const i of order) {
      if (xs.length && xs[xs.length - 1] === x[i]) ys[ys.length - 1] = y[i];
      else {
        xs.push(x[i]);
        ys.push(y[i]);
      }
    }
    return [xs, ys];
  }

  return {
    seek(index) {
      mark = index;
      for (const { made } of open.values()) made.seek(index);
    },
    resize() {
      for (const { made } of open.values()) made.resize();
    },
    destroy() {
      for (const name of [...open.keys()]) hide(name);
    },
  };
}
