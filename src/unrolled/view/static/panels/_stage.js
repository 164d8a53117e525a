// A canvas that is sharp on every screen, drawn once a frame, and named for those who cannot see it.
import { element } from "../util.js";
import { tooltip } from "./_parts.js";

/**
 * @param root where it goes.
 * @param options height: of the box in px, or a function of its width; draw(ctx, width, height, theme);
 *   hover(x, y) -> text or null; pick(x, y); label: what is seen.
 */
export function stage(root, context, { height = 220, draw, hover, pick, label }) {
  const canvas = element("canvas", { class: "panel-canvas", role: "img", "aria-label": label });
  const box = element("div", { class: "panel-stage" }, canvas);
  root.append(box);
  const tip = hover ? tooltip(box) : null;
  let asked = 0;
  let gone = false;
  let width = 0;
  let tall = 0;

  function measure() {
    width = Math.max(120, Math.floor(box.clientWidth || root.clientWidth || 300));
    tall = Math.round(typeof height === "function" ? height(width) : height);
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    const [w, h] = [Math.round(width * ratio), Math.round(tall * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.height = `${tall}px`;
    }
    return ratio;
  }

  function paint() {
    asked = 0;
    if (gone) return;
    const ratio = measure();
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, tall);
    ctx.font = "12px system-ui, sans-serif";
    draw(ctx, width, tall, context.theme());
  }

  function request() {
    if (!asked && !gone) asked = requestAnimationFrame(paint);
  }

  if (hover) {
    canvas.addEventListener("pointermove", (event) => {
      const text = hover(event.offsetX, event.offsetY);
      if (text) tip.show(event.offsetX, event.offsetY, text);
      else tip.hide();
    });
    canvas.addEventListener("pointerleave", () => tip.hide());
  }
  if (pick) canvas.addEventListener("click", (event) => pick(event.offsetX, event.offsetY));
  const off = context.onTheme ? context.onTheme(request) : null;

  return {
    request,
    canvas,
    box,
    /** Pixels from side to side. */
    width: () => width || box.clientWidth || root.clientWidth || 300,
    describe(text) {
      if (canvas.getAttribute("aria-label") !== text) canvas.setAttribute("aria-label", text);
    },
    resize: request,
    destroy() {
      gone = true;
      if (asked) cancelAnimationFrame(asked);
      if (off) off();
      box.remove();
    },
  };
}
