// The one clock: a value of one unit. Panels that count in it follow; the others keep their place.

import { clamp, element, format, nearest, say, union } from "./util.js";

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const SHOWS = 10; // seconds that a whole recording takes at speed 1, within the limits of rates below
const RATES = [2, 60];

export function scrubber(root, { onMove }) {
  const clocks = new Map(); // unit -> Map(owner -> t)
  let unit = "";
  let t = new Float64Array(0);
  let position = 0;
  let playing = false;
  let speed = 1;
  let frame = 0;

  const icon = element("span", { "aria-hidden": "true", text: "▶" });
  const play = element("button", { class: "play", type: "button", "aria-label": "Play", title: "Play (space)", onclick: toggle }, icon);
  const back = button("‹", "One back", "One back (←)", () => step(-1));
  const on = button("›", "One on", "One on (→)", () => step(1));
  const range = element("input", { type: "range", min: "0", max: "0", step: "1", "aria-label": "Time", oninput: () => { pause(); move(Number(range.value)); } });
  const told = element("output", { class: "when" });
  const units = element("select", { "aria-label": "Unit of time", onchange: () => choose(units.value) });
  const unitBox = element("label", { class: "unit" }, "by ", units);
  const speeds = element("select", { "aria-label": "Speed", title: "Speed ([ and ])", onchange: () => { speed = Number(speeds.value); } },
    ...SPEEDS.map((value) => element("option", { value: String(value), text: `${value}×` })));
  speeds.value = "1";
  const bar = element("div", { class: "scrubber", role: "group", "aria-label": "Time" }, play, back, on, range, told, unitBox, speeds);
  root.append(bar);

  function button(text, label, title, onclick) {
    return element("button", { type: "button", class: "step", "aria-label": label, title, onclick }, text);
  }

  // The units are known only as exhibits arrive; the one with the most panels leads until somebody chooses.
  let wanted = null;
  let chosen = false;

  function refresh() {
    const names = [...clocks.keys()];
    if (!chosen && wanted && wanted.unit && clocks.has(wanted.unit)) unit = wanted.unit;
    else if (!names.includes(unit) || !chosen) unit = leading(names);
    units.replaceChildren(...names.map((name) => element("option", { value: name, text: name || "index" })));
    units.value = unit;
    unitBox.hidden = names.length < 2;
    const atEnd = t.length > 1 && position === t.length - 1;
    const value = t[position];
    const last = t.length;
    t = clocks.has(unit) ? union(counted(clocks.get(unit))) : new Float64Array(0);
    const target = wanted && wanted.t !== undefined && (!wanted.unit || wanted.unit === unit) ? wanted.t : value;
    bar.hidden = t.length < 2;
    range.max = String(Math.max(0, t.length - 1));
    // Whoever looks at the newest of a live run goes on doing so.
    if (atEnd && !wanted && t.length > last) move(t.length - 1, true);
    else move(target === undefined || Number.isNaN(target) ? 0 : nearest(t, target), true);
  }

  // A run's log may count in steps of its own beside a system that counts in steps: then the system's are the clock.
  function counted(owners) {
    const systems = [...owners].filter(([owner]) => !owner.endsWith("|metrics"));
    return (systems.length ? systems : [...owners]).map(([, times]) => times);
  }

  function leading(names) {
    // Exhibits were made to be looked at; metrics are a run's log book and lead only when there is nothing else.
    const rank = (owner) => (owner.includes("|exhibits/") ? 1000 : owner.endsWith("|metrics") ? 0.001 : 1);
    const weight = (name) => [...clocks.get(name).keys()].reduce((sum, owner) => sum + rank(owner), 0);
    return names.reduce((best, name) => (best === null || weight(name) > weight(best) ? name : best), null) ?? "";
  }

  function move(to, quiet = false) {
    position = clamp(Math.round(to), 0, Math.max(0, t.length - 1));
    range.value = String(position);
    const now = t.length ? format(t[position]) : "";
    const end = t.length ? format(t[t.length - 1]) : "";
    told.textContent = t.length ? `${unit || "index"} ${now} / ${end}` : "";
    range.setAttribute("aria-valuetext", `${unit || "index"} ${now} of ${end}`);
    onMove({ unit, value: t[position], quiet });
    if (!quiet && wanted) wanted = null;
  }

  function step(by) {
    pause();
    move(position + by);
  }

  function toggle() {
    if (playing) pause();
    else start();
  }

  function start() {
    if (t.length < 2) return;
    if (position >= t.length - 1) move(0);
    playing = true;
    paint();
    const rate = () => speed * clamp(t.length / SHOWS, ...RATES) * Math.max(1, t.length / (SHOWS * RATES[1] * 3));
    let exact = position;
    let before = performance.now();
    const tick = (now) => {
      exact += ((now - before) / 1000) * rate();
      before = now;
      if (Math.floor(exact) !== position) move(Math.floor(exact));
      if (position >= t.length - 1) pause();
      else if (playing) frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
  }

  function pause() {
    if (!playing) return;
    playing = false;
    cancelAnimationFrame(frame);
    paint();
    say(told.textContent);
  }

  function paint() {
    icon.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
    play.setAttribute("title", playing ? "Pause (space)" : "Play (space)");
  }

  function choose(name) {
    pause();
    chosen = true;
    wanted = null;
    unit = name;
    t = new Float64Array(0);
    position = 0;
    refresh();
    move(0);
  }

  function key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -Math.ceil(t.length / 10), PageDown: Math.ceil(t.length / 10) }[event.key];
    if (event.key === " ") toggle();
    else if (by) step(by * (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") step(-Infinity);
    else if (event.key === "End") step(Infinity);
    else if (event.key === "[" || event.key === "]") {
      speed = SPEEDS[clamp(SPEEDS.indexOf(speed) + (event.key === "]" ? 1 : -1), 0, SPEEDS.length - 1)];
      speeds.value = String(speed);
      say(`speed ${speed}`);
    } else return false;
    return true;
  }

  return {
    element: bar,
    key,
    pause,
    // Where an address says to be; kept until the exhibits with that clock are there.
    want(place) {
      wanted = place;
      chosen = false;
      refresh();
    },
    set(owner, name, times) {
      this.unset(owner, true);
      if (times && times.length) {
        if (!clocks.has(name)) clocks.set(name, new Map());
        clocks.get(name).set(owner, times);
      }
      refresh();
    },
    unset(owner, quiet = false) {
      for (const [name, owners] of clocks) {
        owners.delete(owner);
        if (owners.size === 0) clocks.delete(name);
      }
      if (!quiet) refresh();
    },
    clear() {
      pause();
      clocks.clear();
      refresh();
    },
    // A panel asks for a time of its own clock.
    go(name, value) {
      pause();
      if (name !== unit && clocks.has(name)) choose(name);
      move(nearest(t, value));
    },
    place: () => ({ unit, value: t[position] }),
  };
}
