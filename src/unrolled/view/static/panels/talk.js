// A conversation with what a run has trained: words in, a reply, and what moved inside while it was worked out.
import { element } from "../util.js";
import frames from "./frames.js";
import lines from "./lines.js";
import phase from "./phase.js";
import { clipped } from "./_parts.js";

const LONGEST = 500;

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  let [session, busy, count] = [null, null, 0];
  const inside = [];
  const log = element("ol", { class: "talk-log", "aria-live": "polite", "aria-label": "conversation" });
  const field = element("input", { type: "text", maxlength: String(LONGEST), placeholder: data.examples?.[0] || "say something", "aria-label": "what to say", autocomplete: "off" });
  const send = element("button", { type: "submit", class: "panel-button", text: "say" });
  const form = element("form", { class: "talk-form" }, field, send);
  const tips = element("div", { class: "panel-names", role: "group", "aria-label": "examples" });
  const inner = element("div", { class: "talk-inside" });
  root.append(element("p", { class: "panel-note", text: clipped(data.about || "", 600) }), log, tips, form, inner);
  for (const text of (data.examples || []).slice(0, 12)) {
    const made = element("button", { type: "button", class: "panel-name", text: clipped(text, 60) });
    made.addEventListener("click", () => ask(text));
    tips.append(made);
  }
  for (const entry of data.opening || []) say(entry.speaker, entry.text);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text) ask(text);
  });

  function say(who, text, kind) {
    const line = element("li", { class: kind || "" }, element("bdi", { class: "transcript-who", text: clipped(who, 40) }), element("span", { dir: "auto", text: clipped(text, 2000) }));
    log.append(line);
    while (log.childElementCount > 200) log.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
    return line;
  }

  function settle(on) {
    send.disabled = on;
    for (const tip of tips.children) tip.disabled = on;
    form.setAttribute("aria-busy", String(on));
  }

  async function ask(text) {
    if (busy) return;
    busy = new AbortController();
    settle(true);
    say("you", text, "mine");
    field.value = "";
    const wait = say("…", "it is moving", "waiting");
    try {
      const answer = await context.post("/api/talk", { ...context.run, exhibit: exhibit.name || "talk", text, session }, busy.signal);
      wait.remove();
      session = answer.session ?? session;
      say("it", answer.reply ?? "(it moved, and said nothing)");
      show(answer);
    } catch (error) {
      wait.remove();
      if (error.name !== "AbortError") say("page", error.message || String(error), "failed");
    } finally {
      busy = null;
      settle(false);
    }
  }

  function show(answer) {
    while (inside.length) inside.pop().destroy();
    inner.replaceChildren();
    count += 1;
    const traces = Object.entries(answer.traces || {});
    const unit = answer.unit || exhibit.unit;
    if (traces.length && answer.t) {
      const arrays = Object.fromEntries(traces.map(([name, v]) => [name, Float32Array.from(v, (x) => (typeof x === "number" ? x : NaN))]));
      mount(lines, { title: "what moved", unit, t: answer.t, data: {}, arrays });
    }
    if (answer.phase && answer.t) mount(phase, { title: "phase portrait", unit, t: answer.t, data: { xlabel: answer.phase.xlabel, ylabel: answer.phase.ylabel }, arrays: { x: Float32Array.from(answer.phase.x), y: Float32Array.from(answer.phase.y) } });
    const pictures = {};
    for (const name of ["before", "after"]) if (answer[name]) pictures[name] = answer[name];
    if (Object.keys(pictures).length) mount(frames, { title: "the environment", unit, t: null, data: {}, arrays: pictures }, true);
    for (const one of inside) one.resize();
  }

  function mount(kind, spec, bytes) {
    const box = element("div", { class: "talk-panel" }, element("h4", { text: spec.title }));
    inner.append(box);
    const held = {};
    const arrays = {};
    for (const [name, value] of Object.entries(spec.arrays)) {
      held[name] = bytes ? Float32Array.from(value.data) : value;
      arrays[name] = bytes ? { shape: value.shape, dtype: "uint8" } : { shape: [value.length], dtype: "float32" };
    }
    const own = {
      ...context,
      onSeek: (i) => made.seek(i),
      async array(name) {
        const rows = arrays[name].shape[0];
        return { shape: arrays[name].shape, data: held[name], index: Float64Array.from({ length: rows }, (_, i) => i), decimated: false, start: 0, stop: rows };
      },
    };
    const t = spec.t ? Float64Array.from(spec.t) : null;
    const made = kind(box, { ...spec, t, arrays }, own);
    if (t) made.seek(t.length - 1);
    inside.push(made);
  }

  return {
    seek() {},
    resize: () => inside.forEach((p) => p.resize()),
    destroy() {
      if (busy) busy.abort();
      inside.forEach((p) => p.destroy());
    },
  };
}
