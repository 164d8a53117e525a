// Who said what, and who moved whom. What was said is hostile until shown otherwise: it is only ever text, clipped, with
// control and direction characters spelled out.
import { element, format } from "../util.js";
import { clipped } from "./_parts.js";

const SHORT = 1200; // characters of an entry before it is folded
const LONG = 20000; // characters shown at most
const PAGE = 60; // entries at once

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const entries = data.entries || [];
  const speakers = data.speakers || [...new Set(entries.map((e) => e.speaker))];
  let [first, mark] = [0, 0];
  const list = element("ol", { class: "transcript", tabindex: "0", "aria-label": exhibit.title });
  const place = element("span", { class: "panel-note" });
  const earlier = element("button", { type: "button", class: "panel-button", text: "earlier" });
  const later = element("button", { type: "button", class: "panel-button", text: "later" });
  const bar = element("div", { class: "panel-bar" }, earlier, later, place);
  root.append(list, bar);
  earlier.addEventListener("click", () => page(first - PAGE));
  later.addEventListener("click", () => page(first + PAGE));

  function said(entry) {
    const text = String(entry.text);
    const body = element("p", { class: "transcript-text", dir: "auto", text: clipped(text, SHORT) });
    if (text.length <= SHORT) return [body];
    const more = element("button", { type: "button", class: "panel-button", text: `show more (${text.length.toLocaleString("en")} characters)` });
    more.addEventListener("click", (event) => {
      event.stopPropagation();
      body.textContent = clipped(text, LONG);
      if (text.length > LONG) more.replaceWith(element("span", { class: "panel-note", text: `the first ${LONG.toLocaleString("en")} of ${text.length.toLocaleString("en")} characters` }));
      else more.remove();
    });
    return [body, more];
  }

  function moved(entry) {
    const by = Object.entries(entry.moved_by || {}).filter(([, w]) => Number.isFinite(w) && w > 0.005);
    if (!by.length) return [];
    by.sort((a, b) => b[1] - a[1]);
    const total = Math.max(1, by.reduce((sum, [, w]) => sum + w, 0));
    const parts = by.slice(0, 4).map(([who, weight]) => {
      const bar = element("span", { class: "transcript-weight", "aria-hidden": "true" });
      bar.style.width = `${Math.max(2, (60 * weight) / total)}px`;
      bar.style.background = color(who);
      return element("span", { class: "transcript-by" }, bar, element("bdi", { text: `${clipped(who, 40)} ${format(weight, 2)}` }));
    });
    return [element("p", { class: "transcript-moved" }, element("span", { text: "moved by " }), ...parts)];
  }

  function color(who) {
    const { series } = context.theme();
    const k = speakers.indexOf(who);
    return k < 0 ? context.theme().muted : series[k % series.length];
  }

  function row(entry) {
    const who = element("bdi", { class: "transcript-who", text: clipped(entry.speaker, 60) });
    const dot = element("span", { class: "swatch", "aria-hidden": "true" });
    dot.style.background = color(entry.speaker);
    const timed = exhibit.t && Number.isInteger(entry.index);
    const when = timed ? element("button", { type: "button", class: "panel-link", text: `${exhibit.unit} ${format(exhibit.t[Math.min(entry.index, exhibit.t.length - 1)])}` }) : null;
    if (when) when.addEventListener("click", () => context.onSeek(entry.index));
    const note = entry.note ? [element("span", { class: "transcript-note", dir: "auto", text: clipped(entry.note, 300) })] : [];
    const head = element("p", { class: "transcript-head" }, dot, who, ...(when ? [when] : []), ...note);
    const made = element("li", {}, head, ...said(entry), ...moved(entry));
    made.dataset.index = timed ? entry.index : "";
    return made;
  }

  function page(wanted) {
    first = Math.max(0, Math.min(wanted, Math.max(0, entries.length - 1)));
    first -= first % PAGE;
    list.replaceChildren(...entries.slice(first, first + PAGE).map(row));
    const last = Math.min(first + PAGE, entries.length);
    place.textContent = entries.length > PAGE ? `${first + 1}–${last} of ${entries.length}` : entries.length ? "" : "Nothing was said.";
    bar.hidden = entries.length > 0 && entries.length <= PAGE;
    earlier.disabled = first === 0;
    later.disabled = last >= entries.length;
    light();
  }

  function light() {
    let one = null;
    for (const node of list.children) {
      const now = node.dataset.index !== "" && Number(node.dataset.index) === mark;
      node.classList.toggle("now", now);
      node.classList.toggle("future", node.dataset.index !== "" && Number(node.dataset.index) > mark);
      if (now) node.setAttribute("aria-current", "time");
      else node.removeAttribute("aria-current");
      if (now && !one) one = node;
    }
    if (one) list.scrollTop = one.offsetTop - list.offsetTop - 8;
  }

  page(0);
  return {
    seek(index) {
      mark = index;
      const k = entries.findIndex((e) => e.index === index);
      if (k >= 0 && (k < first || k >= first + PAGE)) page(k);
      else light();
    },
    resize() {},
    destroy() {
      list.replaceChildren();
    },
  };
}
