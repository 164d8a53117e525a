// The list of runs: searched and filtered where it stands, because a thousand rows are few.

import { ago, element } from "./util.js";

const FILTERS = [["system", "System"], ["study", "Study"], ["status", "Status"], ["preset", "Preset"]];
const SIGNS = { finished: "✓", running: "▶", queued: "…", failed: "✕", interrupted: "‖", lost: "?" };

export function badge(state) {
  return element("span", { class: `badge ${SIGNS[state] ? state : "lost"}` },
    element("span", { "aria-hidden": "true", text: `${SIGNS[state] || "?"} ` }), state || "unknown");
}

export function runsList(root, { link, onOpen, onCompare, onFilter }) {
  let rows = [];
  let state = {};
  const shown = new Map();
  const search = element("input", {
    type: "search", id: "search", placeholder: "Search runs", "aria-label": "Search runs", autocomplete: "off", spellcheck: "false",
    oninput: () => onFilter({ q: search.value }),
  });
  const selects = Object.fromEntries(FILTERS.map(([key, label]) => [
    key, element("select", { "aria-label": label, onchange: () => onFilter({ [key]: selects[key].value }) }),
  ]));
  const count = element("p", { class: "count", "aria-live": "polite" });
  const list = element("ul", { class: "list" });
  root.append(
    element("div", { class: "filters" }, search, element("div", { class: "selects" }, ...Object.values(selects))), count, list);

  function set(given) {
    rows = given;
    for (const row of rows) {
      row.words = [row.study, row.id, row.state, row.preset, row.system, row.hash, `seed=${row.seed ?? ""}`, row.phase].join(" ").toLowerCase();
    }
    options();
    const keys = new Set(rows.map(key));
    for (const [old, item] of shown) {
      if (!keys.has(old)) {
        item.node.remove();
        shown.delete(old);
      }
    }
    let before = null;
    for (const row of rows) {
      const text = JSON.stringify([row.state, row.step, row.steps, row.phase, row.claims, row.ended]);
      let item = shown.get(key(row));
      if (!item || item.text !== text) {
        const node = draw(row);
        if (item) item.node.replaceWith(node);
        item = { node, text };
        shown.set(key(row), item);
      }
      const wanted = before ? before.nextSibling : list.firstChild;
      if (item.node !== wanted) list.insertBefore(item.node, wanted);
      before = item.node;
    }
    apply();
  }

  function key(row) {
    return `${row.study}/${row.id}`;
  }

  function options() {
    for (const [name, label] of FILTERS) {
      const values = [...new Set(rows.map((row) => (name === "status" ? row.state : row[name])).filter(Boolean))].sort();
      const chosen = state[name];
      if (chosen && !values.includes(chosen)) values.push(chosen);
      selects[name].replaceChildren(element("option", { value: "", text: `${label}: all` }), ...values.map((value) => element("option", { value, text: value })));
      selects[name].value = chosen || "";
    }
  }

  function draw(row) {
    const done = row.state === "running" && row.steps ? ` ${Math.floor((100 * (row.step || 0)) / row.steps)} %` : "";
    const tally = Object.entries(row.claims || {}).map(([status, n]) => `${n} ${status}`).join(", ");
    const anchor = element("a", {
      href: link(row),
      onclick: (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
        event.preventDefault();
        onOpen(row);
      },
    },
      element("span", { class: "study", text: row.study }),
      element("span", { class: "facts" }, badge(row.state), done, row.preset ? ` ${row.preset}` : "", row.seed === null || row.seed === undefined ? "" : ` · seed ${row.seed}`, ` · ${ago(row.created)}`),
      tally ? element("span", { class: "tally", text: tally }) : null,
    );
    const name = `${row.study} ${row.id}`;
    const compare = element("button", { type: "button", class: "compare", "aria-label": `Compare with ${name}`, title: "Compare with this run", onclick: () => onCompare(row) }, "⇄");
    return element("li", { title: row.id }, anchor, compare);
  }

  function apply() {
    const words = (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const fits = FILTERS.every(([name]) => !state[name] || (name === "status" ? row.state : row[name]) === state[name]) &&
        words.every((word) => row.words.includes(word));
      const { node } = shown.get(key(row));
      node.hidden = !fits;
      n += fits;
      const mark = key(row) === state.run ? "page" : key(row) === state.with ? "true" : null;
      const anchor = node.firstChild;
      if (mark) anchor.setAttribute("aria-current", mark);
      else anchor.removeAttribute("aria-current");
      node.classList.toggle("second", mark === "true");
    }
    count.textContent = n === rows.length ? `${n} run${n === 1 ? "" : "s"}` : `${n} of ${rows.length} runs`;
  }

  return {
    set,
    focus: () => search.focus(),
    show(given) {
      state = given;
      if (search.value !== (state.q || "")) search.value = state.q || "";
      for (const [name] of FILTERS) if (selects[name].value !== (state[name] || "")) options();
      apply();
    },
    // Links hold the filters of the moment: they are made anew when somebody is about to use one.
    relink() {
      for (const row of rows) shown.get(key(row))?.node.firstChild.setAttribute("href", link(row));
    },
  };
}
