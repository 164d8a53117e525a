// A record of any trajectory: curves where it is narrow, every unit over time where it is wide, a map where it is one.
import { element } from "../util.js";
import heatmap from "./heatmap.js";
import lines from "./lines.js";
import raster from "./raster.js";

export default function panel(root, exhibit, context) {
  const [times, ...rest] = exhibit.arrays.values.shape;
  const size = rest.reduce((a, b) => a * b, 1);
  const flat = { ...exhibit.arrays.values, shape: [times, size] };
  const views = [];
  if (size <= 24) views.push("curves");
  if (size > 1) views.push("all units");
  const inner = rest.filter((n) => n > 1);
  if (inner.length >= 2 && size <= 500_000) views.push("map");
  let [inside, mark] = [null, 0];
  const host = element("div");
  const pick = element("select", { "aria-label": `how to show ${exhibit.title}` }, ...views.map((v) => element("option", { value: v, text: v })));
  if (views.length > 1) root.append(element("div", { class: "panel-bar" }, pick));
  root.append(host);
  pick.addEventListener("change", build);

  function build() {
    if (inside) inside.destroy();
    host.replaceChildren();
    const view = pick.value || views[0] || "curves";
    const base = { title: exhibit.title, unit: exhibit.unit, t: exhibit.t };
    if (view === "map") {
      // The last two axes that are wider than one; the first of what is before them.
      const [h, w] = inner.slice(-2);
      const first = { ...context, array: (name, q) => context.array(name, q).then((got) => cut(got, h * w)) };
      inside = heatmap(host, { ...base, data: {}, arrays: { values: { ...exhibit.arrays.values, shape: [times, h, w] } } }, first);
    } else if (view === "curves") {
      inside = lines(host, { ...base, data: { names: { values: exhibit.title } }, arrays: { values: size === 1 ? { ...flat, shape: [times] } : flat } }, context);
    } else inside = raster(host, { ...base, data: {}, arrays: { values: flat } }, context);
    inside.seek(mark);
  }

  function cut(got, wanted) {
    const rows = got.shape[0];
    const wide = got.data.length / rows;
    if (wide === wanted) return got;
    const data = new Float32Array(rows * wanted);
    for (let i = 0; i < rows; i++) data.set(got.data.subarray(i * wide, i * wide + wanted), i * wanted);
    return { ...got, data, shape: [rows, wanted] };
  }

  build();
  return {
    seek(index) {
      mark = index;
      inside.seek(index);
    },
    resize: () => inside.resize(),
    destroy: () => inside.destroy(),
  };
}
