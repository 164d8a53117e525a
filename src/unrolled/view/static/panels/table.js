// Numbers and words in rows; a click on a column sorts by it; the row of the current time is marked.
import { element } from "../util.js";
import { clipped, finite, shown } from "./_parts.js";

const PAGE = 200;

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  let order = data.rows.map((_, i) => i);
  let [sorted, up, most, mark] = [-1, true, PAGE, 0];
  const body = element("tbody");
  const heads = data.columns.map((name, c) => {
    const button = element("button", { type: "button", class: "panel-link", text: clipped(name, 60) });
    button.addEventListener("click", () => sort(c));
    return element("th", { scope: "col" }, button);
  });
  const more = element("button", { type: "button", class: "panel-button", text: "more rows" });
  more.addEventListener("click", () => {
    most += PAGE;
    fill();
  });
  const table = element("table", { class: "panel-table", "aria-label": exhibit.title }, element("thead", {}, element("tr", {}, ...heads)), body);
  root.append(element("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": exhibit.title }, table), more);

  function sort(c) {
    up = sorted === c ? !up : true;
    sorted = c;
    const key = (i) => data.rows[i][c];
    order.sort((i, j) => {
      const [a, b] = [key(i), key(j)];
      if (finite(a) === null && typeof a !== "string") return 1;
      if (finite(b) === null && typeof b !== "string") return -1;
      const way = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return up ? way : -way;
    });
    heads.forEach((h, k) => {
      if (k === c) h.setAttribute("aria-sort", up ? "ascending" : "descending");
      else h.removeAttribute("aria-sort");
    });
    fill();
  }

  function fill() {
    body.replaceChildren(
      ...order.slice(0, most).map((i) => {
        const line = element(
          "tr",
          {},
          ...data.rows[i].map((v) =>
            typeof v === "number" || v === null ? element("td", { class: "number", text: shown(v) }) : element("td", { text: clipped(typeof v === "boolean" ? (v ? "yes" : "no") : v, 400) }),
          ),
        );
        if (data.index) {
          line.dataset.index = data.index[i];
          line.addEventListener("click", () => context.onSeek(data.index[i]));
        }
        return line;
      }),
    );
    more.hidden = order.length <= most;
    light();
  }

  function light() {
    for (const line of body.children) line.classList.toggle("now", Boolean(exhibit.t) && line.dataset.index !== undefined && Number(line.dataset.index) === mark);
  }

  fill();
  return {
    seek(index) {
      mark = index;
      light();
    },
    resize() {},
    destroy() {},
  };
}
