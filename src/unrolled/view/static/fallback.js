// For a kind that has no panel: what the exhibit holds, as text and tables.

import { element, format } from "./util.js";

const ROWS = 30;

export default function panel(root, exhibit, context) {
  const names = Object.keys(exhibit.arrays || {});
  const data = JSON.stringify(exhibit.data ?? {}, null, 1);
  const where = element("p", { class: "note" });
  const boxes = names.slice(0, 6).map((name) => ({ name, body: element("tbody") }));
  root.append(
    element("p", { class: "note", text: `There is no panel for the kind “${exhibit.kind}”; this is what it holds.` }),
    where,
    ...boxes.map(({ name, body }) =>
      element("div", { class: "scroll" },
        element("table", { class: "numbers" },
          element("caption", { text: `${name}, shape ${exhibit.arrays[name].shape.join(" × ") || "one number"}` }), body))),
    data === "{}" ? null : element("pre", { class: "wrap", text: data.length > 4000 ? `${data.slice(0, 4000)} …` : data }),
  );
  let turn = 0;

  async function show(index) {
    const mine = ++turn;
    if (exhibit.t) where.textContent = `${exhibit.unit} ${format(exhibit.t[index])}`;
    for (const { name, body } of boxes) {
      const timed = exhibit.t && exhibit.arrays[name].shape[0] === exhibit.t.length;
      const part = await context.array(name, timed ? { start: index, stop: index + 1 } : { points: ROWS });
      if (mine !== turn) return;
      const width = timed ? Math.min(part.data.length, 8) : Math.max(1, part.data.length / Math.max(1, part.shape[0]));
      const rows = [];
      for (let i = 0; i < part.data.length && rows.length < ROWS; i += width) {
        rows.push(element("tr", {}, ...Array.from(part.data.slice(i, i + Math.min(width, 8)), (v) => element("td", { text: format(v) }))));
      }
      body.replaceChildren(...rows);
    }
  }

  show(0).catch((error) => { where.textContent = error.message; });
  return {
    seek: (index) => { show(index).catch((error) => { where.textContent = error.message; }); },
    resize() {},
    destroy() { turn = -1; },
  };
}
