// What a state would say if asked at every time: words and their probabilities. With one row, a line a time and its
// likeliest words side by side; with several rows (tokens), a line a time and the likeliest word of each.
import { element, format } from "../util.js";
import { faint } from "./_colors.js";
import { at, clipped, failed, grid, shown } from "./_parts.js";

export default function panel(root, exhibit, context) {
  const { data, t } = exhibit;
  const shape = exhibit.arrays.probability.shape;
  const timed = shape.length === 3;
  const [times, rows, k] = timed ? shape : [1, ...shape];
  const text = timed ? data.text : [data.text];
  const single = rows === 1;
  let [chances, mark, chosen] = [null, 0, 0];
  const box = element("div", { class: "lens", tabindex: "0", role: "region", "aria-label": exhibit.title });
  const under = element("div", { class: "lens-detail", "aria-live": "polite" });
  root.append(box, under);
  let lines = [];

  const p = (i, r, j) => (chances ? chances[(i * rows + r) * k + j] : NaN);

  function cell(i, r, j) {
    const chance = p(i, r, j);
    const made = element("td", { class: "lens-cell" });
    if (chance < 1e-4) return made; // as good as not said
    made.title = `${clipped(text[i][r][j], 60)}: ${shown(chance)}`;
    made.append(element("bdi", { text: word(text[i][r][j]) }));
    if (single) made.append(element("small", { text: Number.isFinite(chance) ? chance.toFixed(2) : "" }));
    made.style.background = Number.isFinite(chance) ? faint(context.theme().minus, Math.min(0.85, 0.05 + 0.7 * chance)) : "";
    if (data.chosen && data.chosen[r] === text[i][r][j]) made.classList.add("right");
    return made;
  }

  function word(s) {
    return s === "" ? "∅" : clipped(s.replaceAll("\n", "↵"), 24);
  }

  function build() {
    const heads = single ? Array.from({ length: k }, (_, j) => `${j + 1}.`) : data.rows || Array.from({ length: rows }, (_, r) => String(r));
    const head = element("tr", {}, element("th", { scope: "col", text: exhibit.unit }), ...heads.map((h) => element("th", { scope: "col", text: word(h) })));
    lines = Array.from({ length: times }, (_, i) => {
      const name = element("th", { scope: "row" });
      const button = element("button", { type: "button", class: "panel-link", text: t ? format(t[i]) : "" });
      button.addEventListener("click", () => context.onSeek(i));
      name.append(button);
      const made = element("tr", {}, name);
      for (let c = 0; c < (single ? k : rows); c++) {
        const one = single ? cell(i, 0, c) : cell(i, c, 0);
        if (!single)
          one.addEventListener("click", () => {
            chosen = c;
            context.onSeek(i);
            detail(i);
          });
        made.append(one);
      }
      return made;
    });
    box.replaceChildren(element("table", { class: "panel-table" }, element("thead", {}, head), element("tbody", {}, ...lines)));
    light();
  }

  function detail(i) {
    if (single || !chances) return;
    const name = data.rows ? data.rows[chosen] : chosen;
    const list = Array.from({ length: k }, (_, j) => [text[i][chosen][j], p(i, chosen, j)]);
    under.replaceChildren(
      element("p", { class: "panel-note", text: `${data.row || "row"} ${word(String(name))}, ${at(exhibit, i)}: likeliest first` }),
      grid(["word", "probability"], list),
    );
  }

  function light() {
    lines.forEach((line, i) => {
      line.classList.toggle("now", i === mark && times > 1);
      if (i === mark) line.setAttribute("aria-current", "time");
      else line.removeAttribute("aria-current");
    });
    const line = lines[mark];
    if (line && box.scrollHeight > box.clientHeight) box.scrollTop = Math.max(0, line.offsetTop - box.clientHeight / 2);
  }

  build();
  context
    .array("probability", {})
    .then((got) => {
      chances = got.data;
      build();
    })
    .catch((error) => failed(root, error));
  const off = context.onTheme ? context.onTheme(build) : null;
  return {
    seek(index) {
      mark = Math.min(Math.max(index, 0), times - 1);
      light();
      if (under.childElementCount) detail(mark);
    },
    resize() {},
    destroy() {
      if (off) off();
      box.remove();
    },
  };
}
