// Small parts that panels share: words made safe to see, a table of what is drawn, a tooltip, a fallback for errors.
import { element, format } from "../util.js";

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text whose control and direction characters show as what they are. */
export function visible(text) {
  return String(text).replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** The first characters of a text, and whether that was all. */
export function clipped(text, most) {
  const whole = String(text);
  return whole.length <= most ? visible(whole) : `${visible(whole.slice(0, most))}…`;
}

/** A finite number, or null for a gap ("NaN", null, infinities). */
export function finite(value) {
  const number = typeof value === "number" ? value : Number.NaN;
  return Number.isFinite(number) ? number : null;
}

/** A number for people; a gap is a dash. */
export function shown(value) {
  return finite(value) === null ? "–" : format(value);
}

/** Times with their unit: "cycle 12". */
export function at(exhibit, index) {
  if (!exhibit.t || exhibit.t.length === 0) return "";
  const i = Math.min(Math.max(index, 0), exhibit.t.length - 1);
  return `${exhibit.unit || "t"} ${format(exhibit.t[i])}`;
}

/**
 * What is drawn, as a table behind a summary; made only when opened, and again at each seek while open.
 * `fill` gives {columns: [text], rows: [[text | number]]}, or a promise of it.
 */
export function values(root, label, fill) {
  const body = element("div", { class: "panel-values" });
  const details = element("details", { class: "panel-details" }, element("summary", { text: label }), body);
  let turn = 0;
  async function refresh() {
    if (!details.open) return;
    const mine = ++turn;
    const table = await fill();
    if (mine !== turn) return;
    body.replaceChildren(grid(table.columns, table.rows));
    if (table.note) body.append(element("p", { class: "panel-note", text: table.note }));
  }
  details.addEventListener("toggle", refresh);
  root.append(details);
  return { refresh };
}

/** An HTML table; numbers are aligned, at most 200 rows. */
export function grid(columns, rows) {
  const head = element("tr", {}, ...columns.map((c) => element("th", { scope: "col", text: visible(c) })));
  const lines = rows.slice(0, 200).map((row) => element("tr", {}, ...row.map(cell)));
  const table = element("table", { class: "panel-table" }, element("thead", {}, head), element("tbody", {}, ...lines));
  if (rows.length > 200) lines[199].after(element("tr", {}, element("td", { text: `… ${rows.length - 200} more` })));
  return table;
}

function cell(value) {
  if (typeof value === "number" || value === null) return element("td", { class: "number", text: shown(value) });
  return element("td", { text: clipped(value, 400) });
}

/** A line of text that follows the pointer within a box. */
export function tooltip(root) {
  const tip = element("div", { class: "panel-tip", "aria-hidden": "true" });
  tip.hidden = true;
  root.append(tip);
  return {
    show(x, y, text) {
      tip.hidden = false;
      tip.textContent = text;
      const right = root.clientWidth - tip.offsetWidth - 4;
      tip.style.left = `${Math.max(0, Math.min(x + 12, right))}px`;
      tip.style.top = `${Math.max(0, y - 30)}px`;
    },
    hide() {
      tip.hidden = true;
    },
  };
}

/** Names with their colours. */
export function legend(items) {
  return element(
    "ul",
    { class: "panel-legend" },
    ...items.map(({ label, color, shape }) => {
      const swatch = element("span", { class: `swatch ${shape || ""}`, "aria-hidden": "true" });
      swatch.style.background = color;
      return element("li", {}, swatch, element("span", { text: clipped(label, 80) }));
    }),
  );
}

/** Say in the panel why it cannot be drawn. */
export function failed(root, error) {
  const text = error && error.message ? error.message : String(error);
  root.querySelector(":scope > .panel-error")?.remove();
  root.prepend(element("p", { class: "panel-error", role: "alert", text: clipped(text, 500) }));
}
