// What an instrument read: its definition, whether it succeeded, single numbers, curves along its index, matrices as maps.
import { element } from "../util.js";
import heatmap from "./heatmap.js";
import lines from "./lines.js";
import { clipped, finite, grid } from "./_parts.js";

export default function panel(root, exhibit, context) {
  const { data, t } = exhibit;
  const inside = [];
  const facts = [];
  if (data.units && data.units !== "1") facts.push(`unit: ${data.units}`);
  if (data.method) facts.push(`method: ${data.method}`);
  if (facts.length) root.append(element("p", { class: "panel-note", text: clipped(facts.join(" · "), 400) }));
  if (data.status && data.status !== "ok") root.append(element("p", { class: "panel-error", role: "status", text: clipped(`${data.status}: ${data.reason || "no reason given"}`, 500) }));
  else if (data.reason) root.append(element("p", { class: "panel-note", text: clipped(data.reason, 500) }));
  for (const note of data.notes || []) root.append(element("p", { class: "panel-note", text: clipped(note, 500) }));

  const [numbers, columns, maps] = [[], {}, {}];
  const loose = new Map();
  for (const [name, value] of Object.entries(data.values || {})) {
    const key = value && typeof value === "object" && !Array.isArray(value) && value.array;
    const shape = key ? exhibit.arrays[key].shape : Array.isArray(value) ? dims(value) : null;
    if (shape === null || shape.length === 0) numbers.push([name, scalar(value)]);
    else if (t && shape[0] === t.length && shape.slice(1).reduce((a, b) => a * b, 1) <= 12) columns[name] = put(name, key, value, [shape[0], ...(shape.length > 1 ? [shape.slice(1).reduce((a, b) => a * b, 1)] : [])]);
    else if (shape.length === 1 && shape[0] <= 64 && !key) numbers.push(...value.map((v, i) => [`${name} ${i}`, scalar(v)]));
    else if (shape.length === 2 || (shape.length === 3 && t && shape[0] === t.length)) maps[name] = put(name, key, value, shape);
    else numbers.push([name, `${shape.join(" × ")} values`]);
  }

  function put(name, key, value, shape) {
    if (!key) loose.set(name, Float32Array.from(value.flat(Infinity), (v) => finite(v) ?? NaN));
    return { spec: { shape, dtype: "float32" }, key: key || null };
  }

  function source(group) {
    return {
      ...context,
      async array(name, wanted) {
        const { key, spec } = group[name];
        if (key) return context.array(key, wanted);
        const whole = loose.get(name);
        const width = spec.shape.slice(1).reduce((a, b) => a * b, 1);
        const [start, stop] = [wanted.start ?? 0, wanted.stop ?? spec.shape[0]];
        const rows = stop - start;
        return { shape: [rows, ...spec.shape.slice(1)], data: whole.subarray(start * width, stop * width), index: Float64Array.from({ length: rows }, (_, i) => start + i), decimated: false, start, stop };
      },
    };
  }

  const arraysOf = (group) => Object.fromEntries(Object.entries(group).map(([name, { spec }]) => [name, spec]));
  if (numbers.length) root.append(grid(["", "value"], numbers));
  if (Object.keys(columns).length) inside.push(lines(root, { title: exhibit.title, unit: exhibit.unit, t, data: {}, arrays: arraysOf(columns) }, source(columns)));
  for (const [name, map] of Object.entries(maps)) {
    const timed = map.spec.shape.length === 3;
    const one = { [name]: map };
    inside.push(heatmap(root, { title: `${exhibit.title}: ${name}`, unit: exhibit.unit, t: timed ? t : null, data: { names: { [name]: name } }, arrays: arraysOf(one) }, source(one)));
  }

  return {
    seek: (index) => inside.forEach((p) => p.seek(index)),
    resize: () => inside.forEach((p) => p.resize()),
    destroy: () => inside.forEach((p) => p.destroy()),
  };
}

function dims(value) {
  const made = [];
  for (let v = value; Array.isArray(v); v = v[0]) made.push(v.length);
  return made;
}

function scalar(value) {
  if (value === null || typeof value === "number" || typeof value === "string") return value;
  return typeof value === "boolean" ? (value ? "yes" : "no") : JSON.stringify(value);
}
