// The page: runs on the left, one scrubber on top, boards below; what is looked at stands in the address.

import { connect } from "./source.js";
import { board } from "./board.js";
import { runsList } from "./runs.js";
import { scrubber as makeScrubber } from "./scrubber.js";
import * as address from "./state.js";
import * as colours from "./theme.js";
import { element, say } from "./util.js";

const HELP = [
  ["space", "play, pause"], ["← →", "one back, one on; with shift ten"], ["PageUp PageDown", "a tenth of the recording"], ["Home End", "first, last"],
  ["[ ]", "slower, faster"], ["/", "search runs"], ["?", "this list"],
];

async function start() {
  const source = connect();
  const top = document.getElementById("top");
  const nav = document.getElementById("runs");
  const main = document.getElementById("main");
  let state = address.read();
  let rows = [];
  let boards = [];
  let closeEvents = () => {};
  let kinds = [];

  const menu = element("button", { type: "button", class: "menu", "aria-expanded": "false", "aria-controls": "runs", onclick: () => drawer() }, "☰ Runs");
  const status = element("span", { class: "connection", role: "status" });
  const themeButton = element("button", { type: "button", class: "theme", onclick: () => { colours.next(); themeText(); } });
  const help = element("dialog", { class: "help", "aria-label": "Keys" },
    element("h2", { text: "Keys" }),
    element("dl", {}, ...HELP.flatMap(([keys, what]) => [element("dt", {}, element("kbd", { text: keys })), element("dd", { text: what })])),
    element("button", { type: "button", onclick: () => help.close() }, "close"));
  nav.append(element("button", { type: "button", class: "shut", onclick: () => { drawer(false); menu.focus(); } }, "✕ close"));
  main.addEventListener("click", () => drawer(false));
  top.append(menu, element("a", { href: "#", class: "brand", onclick: (event) => { event.preventDefault(); go({ ...state, run: null, with: null, unit: null, t: null }); } }, "unrolled ", element("span", { text: "view" })),
    status, element("button", { type: "button", class: "theme", "aria-label": "Keys", title: "Keys (?)", onclick: () => help.showModal() }, "?"), themeButton);
  document.body.append(help);
  themeText();

  const clock = element("div", { id: "clock" });
  const place = element("div", { class: "boards" });
  main.append(clock, place);
  const scrub = makeScrubber(clock, {
    onMove({ unit, value, quiet }) {
      for (const one of boards) one.seek({ unit, value });
      if (quiet || value === undefined) return;
      state = { ...state, unit, t: value };
      address.replace(state);
    },
  });
  const list = runsList(nav, {
    link: (row) => address.href({ ...state, run: name(row), with: null, unit: null, t: null }),
    onOpen: (row) => { drawer(false); go({ ...state, run: name(row), with: null, unit: null, t: null }); main.focus({ preventScroll: true }); },
    onCompare: (row) => {
      drawer(false);
      if (!state.run || state.run === name(row)) go({ ...state, run: name(row), with: null });
      else go({ ...state, with: name(row) });
    },
    onFilter: (change) => { state = { ...state, ...change }; address.replace(state); list.show(state); },
  });

  function name(row) {
    return `${row.study}/${row.id}`;
  }

  function reference(text) {
    const cut = text.indexOf("/");
    return { study: text.slice(0, cut), id: text.slice(cut + 1) };
  }

  function themeText() {
    const word = { auto: "as the system", light: "light", dark: "dark" }[colours.current()];
    themeButton.textContent = { auto: "◐", light: "☀", dark: "☾" }[colours.current()];
    themeButton.setAttribute("aria-label", `Colours: ${word}`);
    themeButton.title = `Colours: ${word}`;
  }

  function drawer(open = !document.body.classList.contains("drawer")) {
    document.body.classList.toggle("drawer", open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) list.focus();
  }

  function go(next) {
    state = next;
    address.push(state);
    show();
  }

  function show() {
    list.show(state);
    list.relink();
    const wanted = [state.run, state.with && state.with !== state.run ? state.with : null].filter((text) => text && text.includes("/"));
    const there = boards.map((one) => name(one.ref));
    if (JSON.stringify(wanted) !== JSON.stringify(there)) {
      // The first run stays as it is when a second one joins or leaves.
      const kept = wanted[0] === there[0] ? boards.slice(0, 1) : [];
      for (const one of boards) if (!kept.includes(one)) one.destroy();
      if (!kept.length) place.replaceChildren();
      else while (place.children.length > 1) place.lastChild.remove();
      boards = kept;
      for (const text of wanted.slice(kept.length)) {
        const second = boards.length === 1;
        const node = element("article", { class: "board", "aria-label": text });
        place.append(node);
        boards.push(board(node, reference(text), {
          source, kinds, scrubber: scrub, second,
          onClose: second ? () => go({ ...state, with: null }) : null,
        }));
      }
      place.classList.toggle("two", boards.length === 2);
      if (!boards.length) scrub.clear();
      document.title = wanted.length ? `${wanted.map((text) => reference(text).study).join(" and ")} · unrolled view` : "unrolled view";
      listen();
    }
    if (!boards.length) place.replaceChildren(welcome());
    scrub.want({ unit: state.unit, t: state.t === undefined || state.t === null ? undefined : Number(state.t) });
  }

  function welcome() {
    if (rows.length) {
      const open = element("button", { type: "button", class: "menu", onclick: (event) => { event.stopPropagation(); drawer(true); } }, "Show the list");
      return element("div", { class: "welcome" }, element("p", { text: "Choose a run from the list. ⇄ puts a second one beside it." }), open);
    }
    return element("div", { class: "welcome" }, element("p", { text: "There are no runs here yet. Make one:" }), element("pre", { text: "unrolled run debate-recorded --preset tiny" }));
  }

  async function reload(asked = source.runs()) {
    rows = (await asked).runs;
    list.set(rows);
    if (!boards.length) show();
  }

  function listen() {
    closeEvents();
    closeEvents = source.events(boards.map((one) => one.ref), {
      open() {
        if (status.textContent) status.textContent = "";
        reload().catch(() => {});
        for (const one of boards) {
          const row = rows.find((candidate) => name(candidate) === name(one.ref));
          if (row && row.state === "running") one.changed(["run", "metrics"]);
        }
      },
      lost() {
        status.textContent = "no connection; trying again";
      },
      runs({ changed, gone }) {
        const fresh = new Map(changed.map((row) => [name(row), row]));
        const kept = rows.filter((row) => !gone.includes(name(row))).map((row) => fresh.get(name(row)) || row);
        const known = new Set(kept.map(name));
        rows = [...changed.filter((row) => !known.has(name(row))), ...kept].sort((a, b) => (b.created || 0) - (a.created || 0));
        list.set(rows);
        for (const row of changed) {
          for (const one of boards) if (name(one.ref) === name(row)) one.changed(["run"]);
          if (["lost", "failed", "finished"].includes(row.state)) say(`${row.study} is ${row.state}`);
        }
      },
      run({ study, id, parts }) {
        for (const one of boards) if (one.ref.study === study && one.ref.id === id) one.changed(parts);
      },
    });
  }

  address.onChange((read) => {
    state = read;
    show();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.classList.contains("drawer")) {
      drawer(false);
      menu.focus();
      return;
    }
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest("input:not([type=range]), textarea, select, [contenteditable], dialog")) return;
    if (event.key === " " && at.closest("button, summary, a")) return;
    if (at.closest("[data-keys]") && event.key.startsWith("Arrow")) return;
    if (event.key === "/") list.focus();
    else if (event.key === "?") help.showModal();
    else if (at.matches("input[type=range]") && !at.closest(".scrubber")) return;
    else if (!scrub.key(event)) return;
    event.preventDefault();
  });

  try {
    const asked = [source.kinds(), source.runs()];
    kinds = await asked[0];
    await reload(asked[1]);
  } catch (error) {
    place.replaceChildren(element("p", { class: "problem", role: "alert", text: error.message }));
    return;
  }
  if (!source.live) document.body.classList.add("bundle");
  list.show(state);
  show();
  if (!boards.length) listen();
}

start();
