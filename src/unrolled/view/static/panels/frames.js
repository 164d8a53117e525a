// Pictures side by side: what an environment looked like, before and after.
import { element } from "../util.js";
import { ramp, sequential } from "./_colors.js";
import { frames, latest } from "./_frames.js";
import { at, clipped, failed } from "./_parts.js";

export default function panel(root, exhibit, context) {
  const { data } = exhibit;
  const colors = ramp(sequential);
  const box = element("div", { class: "frames" });
  root.append(box);
  const pictures = Object.entries(exhibit.arrays).map(([name, { shape, dtype }]) => {
    const colored = shape[shape.length - 1] === 3 && shape.length - (exhibit.t ? 1 : 0) >= 3;
    const source = frames(exhibit, context, name, colored ? 3 : 2);
    const [h, w] = source.shape;
    const title = (data.names && data.names[name]) || name;
    const canvas = element("canvas", { width: w, height: h, role: "img", "aria-label": title });
    canvas.classList.toggle("coarse", w < 150);
    box.append(element("figure", {}, canvas, element("figcaption", { text: clipped(title, 60) })));
    return { source, colored, canvas, title, h, w, bytes: dtype === "uint8", range: data.range || null };
  });

  async function paint(picture, index) {
    const { source, colored, canvas, h, w, bytes } = picture;
    const values = await source.at(index);
    if (!picture.range) picture.range = bytes ? [0, 255] : colored ? [0, 1] : await source.extent();
    const [low, high] = picture.range;
    const pixels = new ImageData(w, h);
    const level = (v) => Math.max(0, Math.min(255, Math.round((255 * (v - low)) / (high - low || 1))));
    for (let i = 0; i < h * w; i++) {
      if (colored) for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = level(values[3 * i + c]);
      else if (bytes) pixels.data.fill(level(values[i]), 4 * i, 4 * i + 3);
      else pixels.data.set(colors.subarray(4 * level(values[i]), 4 * level(values[i]) + 3), 4 * i);
      pixels.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    canvas.setAttribute("aria-label", `${picture.title}${exhibit.t ? `, ${at(exhibit, index)}` : ""}`);
  }

  const show = latest(
    async (index) => {
      for (const picture of pictures) await paint(picture, index);
    },
    (error) => failed(root, error),
  );
  show(0);
  return { seek: show, resize() {}, destroy: () => box.remove() };
}
