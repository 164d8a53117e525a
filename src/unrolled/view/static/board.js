// One run: what it is, what it claims, the command that made it, and its panels.

import { ago, duration, element, format, nearest, say } from "./util.js";
import { badge } from "./runs.js";
import { load } from "./loader.js";
import { onTheme, theme } from "./theme.js";

let serial = 0;

export function board(root, ref, { source, kinds, scrubber, onClose, second }) {
  const owner = `${second ? "b" : "a"}|${ref.study}/${ref.id}`;
  const prefix = `run${++serial}`;
  const live = new Map(); // source of an exhibit -> its panel
  const versions = new Map();
  const reduced = matchMedia("(prefers-reduced-motion: reduce)");
  let gone = false;
  let detail = null;
  let place = scrubber.place();

  const head = element("header", { class: "about" });
  const claims = element("div", { class: "claims" });
  const problems = element("div");
  const panels = element("div", { class: "panels" });
  const figures = element("div", { class: "figures" });
  root.append(head, problems, claims, panels, figures);

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) live.get(entry.target.dataset.source)?.make();
  }, { rootMargin: "600px 0px" });

  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) live.get(entry.target.parentElement?.dataset.source)?.resize();
  });

  async function refresh() {
    detail = await source.run(ref);
    if (gone) return;
    head.replaceChildren(...about(detail));
    problems.replaceChildren(...detail.problems.map((text) => element("p", { class: "problem", text })));
    claims.replaceChildren(...claimTable(detail.claims, claims.querySelector("details")?.open ?? false));
    const wanted = new Set(detail.panels.map((panel) => panel.source));
    for (const [name, panel] of live) if (!wanted.has(name)) panel.remove();
    for (const { source: name } of detail.panels) if (!live.has(name)) live.set(name, host(name));
    for (const { source: name } of detail.panels) panels.append(live.get(name).node);
    drawFigures();
    if (!detail.panels.length && !detail.figures.length) {
      panels.replaceChildren(element("p", { class: "note", text: "This run has left nothing to look at yet: no metrics, no trajectory, no exhibits." }));
    }
  }

  function about(run) {
    const progress = run.steps ? `${run.phase ? `${run.phase}: ` : ""}step ${format(run.step || 0)} of ${format(run.steps)}` : run.phase || "";
    const facts = [ago(run.created), run.spent ? `${duration(run.spent)} of work` : "", run.state === "running" ? progress : ""].filter(Boolean);
    const told = {
      lost: `This run is lost: its process ended without a word${progress ? `, at ${progress}` : ""}.`,
      failed: run.error || "This run failed.",
      interrupted: `This run was interrupted${progress ? ` at ${progress}` : ""}.`,
      queued: "This run has not started.",
    }[run.state];
    return [
      element("h1", { id: `${prefix}-title` }, element("span", { text: run.study }), " ", badge(run.state)),
      element("p", { class: "facts" }, element("code", { text: run.id }), " ", facts.join(" · "),
        run.report ? element("a", { class: "report", href: source.report(ref), target: "_blank", rel: "noopener", text: "report" }) : null,
        onClose ? element("button", { type: "button", class: "close", onclick: onClose, "aria-label": `Stop comparing with ${run.study} ${run.id}` }, "✕ close") : null),
      told ? element("p", { class: `problem ${run.state}`, text: told }) : null,
      run.traceback ? element("details", {}, element("summary", { text: "Traceback" }), element("pre", { text: run.traceback })) : null,
      command(run.command, "The command that made this run"),
      resumes(run) ? element("p", { class: "note" }, "To go on with it:") : null,
      resumes(run) ? command(`unrolled resume ${run.folder}`, "The command that goes on with this run") : null,
      element("details", { class: "settings" }, element("summary", { text: "Settings and environment" }),
        element("div", { class: "scroll" }, pairs(run.config), pairs(run.environment))),
    ].filter(Boolean);
  }

  function resumes(run) {
    return run.folder && ["lost", "failed", "interrupted"].includes(run.state);
  }

  function command(words, label) {
    if (!words) return element("p", { class: "note", text: "The command that made this run was not recorded." });
    const code = element("code", { text: words, tabindex: "0", role: "region", "aria-label": label });
    const copy = element("button", {
      type: "button", class: "copy", "aria-label": `Copy: ${label.toLowerCase()}`,
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(words);
          say("copied");
          copy.textContent = "copied";
        } catch {
          getSelection().selectAllChildren(code); // no clipboard here: ready for Ctrl-C
          copy.textContent = "selected";
        }
        setTimeout(() => { copy.textContent = "copy"; }, 1500);
      },
    }, "copy");
    return element("div", { class: "command" }, element("span", { class: "prompt", "aria-hidden": "true", text: "$" }), code, copy);
  }

  function host(name) {
    const title = element("h2", { text: name.split("/").pop() });
    const unit = element("span", { class: "unit" });
    const body = element("div", { class: "body" });
    const caption = element("p", { class: "caption" });
    const node = element("section", { class: "panel", "data-source": name, "aria-label": name }, element("div", { class: "bar" }, title, unit), body, caption);
    let exhibit = null;
    let made = null;
    let making = null;
    let index = -1;
    let asked = 0;

    async function fetch() {
      const version = versions.get(name) || 0;
      exhibit = await source.exhibit(ref, name, version);
      if (gone) return;
      title.textContent = exhibit.title || name;
      unit.textContent = exhibit.t && exhibit.t.length > 1 ? `by ${exhibit.unit || "index"}` : "";
      caption.textContent = exhibit.caption || "";
      node.setAttribute("aria-label", exhibit.title || name);
      node.dataset.kind = exhibit.kind;
      node.classList.toggle("wide", Boolean(exhibit.data?.wide));
      node.style.order = String(Number(exhibit.data?.order) || 0);
      scrubber.set(`${owner}|${name}`, exhibit.unit, exhibit.t);
    }

    const context = {
      array: (array, options) => source.array(ref, name, array, options, versions.get(name) || 0),
      theme,
      onTheme,
      onSeek: (to) => { if (exhibit.t && exhibit.t.length) scrubber.go(exhibit.unit, exhibit.t[Math.min(Math.max(to, 0), exhibit.t.length - 1)]); },
      get t() { return exhibit.t; },
      get reduced() { return reduced.matches; },
      id: `${prefix}-${serial}-${name.replace(/[^A-Za-z0-9]+/g, "-")}`,
      run: ref,
      live: source.live,
      figure: (file) => source.figure(ref, file),
      post: (url, body, signal) => source.post(url, body, signal),
      say,
    };

    async function build() {
      const turn = ++asked;
      try {
        if (!exhibit) await known;
        const make = await load(exhibit.kind, kinds);
        if (gone || turn !== asked) return;
        made?.destroy?.();
        body.replaceChildren();
        body.className = `body kind-${exhibit.kind.replace(/[^a-z]/g, "")}`;
        made = make(body, exhibit, context);
        index = -1;
        follow(place);
      } catch (error) {
        fail(error);
      }
    }

    function fail(error) {
      made?.destroy?.();
      made = null;
      body.replaceChildren(element("p", { class: "problem", role: "alert", text: `This panel cannot be drawn: ${error.message}` }));
    }

    function follow({ unit: now, value }) {
      if (!made || !exhibit.t || !exhibit.t.length) return;
      const to = now === exhibit.unit && value !== undefined ? nearest(exhibit.t, value) : Math.max(index, 0);
      if (to === index) return;
      index = to;
      try {
        made.seek(index);
      } catch (error) {
        fail(error);
      }
    }

    const known = fetch();
    known.catch(fail);
    near.observe(node);
    sized.observe(body);
    return {
      node,
      follow,
      make() {
        making ??= build();
      },
      resize() {
        try {
          made?.resize?.();
        } catch (error) {
          fail(error);
        }
      },
      async renew() {
        versions.set(name, (versions.get(name) || 0) + 1);
        try {
          await fetch();
          if (gone || !making) return;
          if (made?.update) {
            made.update(exhibit);
            index = -1;
            follow(place);
          } else await build();
        } catch (error) {
          fail(error);
        }
      },
      remove() {
        near.unobserve(node);
        sized.unobserve(body);
        made?.destroy?.();
        scrubber.unset(`${owner}|${name}`);
        node.remove();
        live.delete(name);
      },
    };
  }

  function drawFigures() {
    const names = detail.figures;
    const known = [...figures.querySelectorAll("figure")].map((node) => node.dataset.file);
    if (JSON.stringify(known) === JSON.stringify(names)) return;
    figures.replaceChildren(
      ...(names.length ? [element("h2", { text: "Figures" })] : []),
      ...names.map((file) =>
        element("figure", { "data-file": file },
          picture(file),
          element("figcaption", { text: file }))),
    );
  }

  // The server shows a figure by itself in a sandbox; a file has none, so there it is only part of the page.
  function picture(file) {
    const image = element("img", { src: source.figure(ref, file), alt: `Figure ${file}`, loading: "lazy" });
    return source.live ? element("a", { href: source.figure(ref, file), target: "_blank", rel: "noopener" }, image) : image;
  }

  const ready = refresh().catch((error) => {
    head.replaceChildren(element("h1", { text: `${ref.study} ${ref.id}` }), element("p", { class: "problem", role: "alert", text: error.message }));
  });

  return {
    ref,
    ready,
    refresh,
    seek(to) {
      place = to;
      for (const panel of live.values()) panel.follow(to);
    },
    async changed(parts) {
      if (parts.some((part) => part === "run" || !live.has(part)) ) await refresh().catch(() => {});
      const touched = new Set(parts);
      for (const [name, panel] of live) {
        if (touched.has(name) || (touched.has("trajectory") && name.startsWith("trajectory/"))) await panel.renew();
      }
    },
    destroy() {
      gone = true;
      near.disconnect();
      sized.disconnect();
      for (const panel of [...live.values()]) panel.remove();
      root.replaceChildren();
    },
  };
}

function pairs(rows) {
  return element("table", { class: "pairs" },
    element("tbody", {}, ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row", text: name }), element("td", { text: value })))));
}

function claimTable(claims, open) {
  if (!claims.length) return [];
  const tally = {};
  for (const claim of claims) tally[claim.status] = (tally[claim.status] || 0) + 1;
  const word = (status) => String(status || "").replace(/[^a-z]+/g, "-");
  const value = (number, unit) => `${format(number)}${unit && unit !== "1" && number !== null && number !== undefined && typeof number !== "string" ? ` ${unit}` : ""}`;
  const rows = claims.map((claim) => {
    const spread = claim.spread === null || claim.spread === undefined ? "" : ` ± ${format(claim.spread, 2)}`;
    const seeds = claim.ours === null || claim.ours === undefined ? "" : `${claim.seeds} seed${claim.seeds === 1 ? "" : "s"}`;
    return element("tr", {},
      element("td", {}, element("span", { text: claim.statement }),
        claim.note ? element("small", { text: claim.note }) : null,
        claim.source ? element("small", { class: "source", text: claim.source }) : null),
      element("td", { "data-label": "paper", text: value(claim.paper, claim.unit) }),
      element("td", { "data-label": "ours" }, element("span", { text: `${value(claim.ours, "")}${spread}${claim.unit && claim.unit !== "1" && seeds ? ` ${claim.unit}` : ""}` }), seeds ? element("small", { text: seeds }) : null),
      element("td", {}, element("span", { class: `verdict ${word(claim.status)}`, text: claim.status })));
  });
  return [element("details", { open },
    element("summary", {}, element("h2", { text: "Claims" }), ...Object.entries(tally).map(([status, n]) => element("span", { class: `verdict ${word(status)}`, text: `${n} ${status}` }))),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Claims" },
      element("table", { class: "claim-table" },
        element("thead", {}, element("tr", {}, ...["Claim", "Paper", "Ours", "Verdict"].map((text) => element("th", { scope: "col", text })))),
        element("tbody", {}, ...rows))))];
}
