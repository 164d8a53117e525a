// Curves: arrays over the exhibit's times, or over an x of their own.
import { chart, column } from "./_chart.js";
import { element } from "../util.js";

const MOST = 24;

export default function panel(root, exhibit, context) {
  const { data, t } = exhibit;
  const own = !t;
  const all = [];
  for (const [name, { shape }] of Object.entries(exhibit.arrays)) {
    if (own && name === "x") continue;
    const label = (data.names && data.names[name]) || name;
    const role = data.roles && data.roles[name];
    const width = shape.length > 1 ? shape[1] : 1;
    for (let k = 0; k < width; k++) {
      const part = data.columns && data.columns[name] ? data.columns[name][k] : `${label} ${k}`;
      all.push({ name, k, width, role, label: shape.length > 1 ? part : label });
    }
  }
  const series = all.slice(0, MOST);
  if (all.length > MOST) root.append(element("p", { class: "panel-note", text: `The first ${MOST} of ${all.length} curves.` }));

  async function load(start, stop, points) {
    const wanted = start === null ? { points } : { start, stop, points };
    const need = [...new Set(series.map((s) => s.name))];
    const got = Object.fromEntries(await Promise.all(need.map(async (name) => [name, await context.array(name, wanted)])));
    const first = got[need[0]];
    const x = own
      ? column((await context.array("x", wanted)).data, 1, 0)
      : Array.from(first.index, (i) => t[i]);
    return { x, columns: series.map((s) => column(got[s.name].data, s.width, s.k)), fine: !first.decimated };
  }

  async function exact(index) {
    const need = [...new Set(series.map((s) => s.name))];
    const got = Object.fromEntries(await Promise.all(need.map(async (name) => [name, (await context.array(name, { start: index, stop: index + 1 })).data])));
    return series.map((s) => got[s.name][s.k]);
  }

  const label = `${exhibit.title}: ${series.map((s) => s.label).join(", ")} over ${data.xlabel || exhibit.unit || "x"}`;
  return chart(root, context, {
    series,
    load,
    exact: own ? null : exact,
    t,
    bands: data.bands,
    log: data.log,
    xlabel: data.xlabel || (own ? "" : exhibit.unit),
    ylabel: data.ylabel,
    label,
  });
}
