// A bundle's data: scripts beside the page, because a page from a file may load scripts and nothing else.

import { times } from "./util.js";

export function bundled(index) {
  const waiting = new Map();
  const loaded = new Map();

  globalThis.unrolledData = (key, value) => {
    loaded.set(key, value);
  };

  function load(file) {
    if (loaded.has(file)) return Promise.resolve(loaded.get(file));
    if (!waiting.has(file)) {
      waiting.set(file, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${file}`;
        script.onload = () => {
          script.remove();
          if (loaded.has(file)) resolve(loaded.get(file));
          else reject(new Error(`data/${file} is damaged`));
        };
        script.onerror = () => {
          waiting.delete(file);
          reject(new Error(`data/${file} is not in this bundle`));
        };
        document.head.append(script);
      }));
    }
    return waiting.get(file);
  }

  const entry = (ref) => {
    const found = index.files[`${ref.study}/${ref.id}`];
    if (!found) throw new Error(`the run ${ref.study}/${ref.id} is not in this bundle`);
    return found;
  };

  return {
    live: false,
    runs: async () => index.runs,
    run: async (ref) => load(entry(ref).run),
    kinds: async () => index.kinds,
    async exhibit(ref, source) {
      const file = entry(ref).exhibits[source];
      if (!file) throw new Error(`${source} is not in this bundle`);
      const told = await load(file);
      const { t } = told.exhibit;
      const known = times(t);
      return { ...told.exhibit, t: t && !known ? Float64Array.from((await whole(told.arrays.t)).data) : known };
    },
    async array(ref, source, name, options = {}) {
      const told = await load(entry(ref).exhibits[source]);
      if (!told.arrays[name]) throw new Error(`there is no array ${name}`);
      return part(await whole(told.arrays[name]), options);
    },
    figure: (ref, file) => `data/${entry(ref).figures[file]}`,
    report: (ref) => `data/${entry(ref).report}`,
    post: () => Promise.reject(new Error("this is a copy of the results: to talk, open the run with `unrolled view`")),
    events: () => () => {},
  };

  // Chunks of rows, put together once. `index` says at which rows they stand, when some were left out.
  function whole(told) {
    if (!told.promise) {
      told.promise = Promise.all([...told.files, ...(told.index || [])].map(load)).then((parts) => {
        const Kind = told.dtype === "float64" ? Float64Array : Float32Array;
        const data = new Kind(joined(parts.slice(0, told.files.length)).buffer);
        const rows = told.shape[0] ?? 1;
        const places = told.index
          ? new Float64Array(joined(parts.slice(told.files.length)).buffer)
          : Float64Array.from({ length: rows }, (_, i) => i);
        return { shape: told.shape, data, index: places, decimated: Boolean(told.index) };
      });
    }
    return told.promise;
  }
}

function joined(texts) {
  const pieces = texts.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  const made = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    made.set(piece, offset);
    offset += piece.length;
  }
  return made;
}

// What the server does for a part of an array, for arrays that are here whole.
export function part(array, { start = 0, stop = Infinity, points = Infinity, reduce = "minmax", columns } = {}) {
  const width = array.shape.slice(1).reduce((product, n) => product * n, 1);
  const [a, b] = columns || [0, width];
  const shape = columns ? [b - a] : array.shape.slice(1);
  let first = array.index.findIndex((row) => row >= start);
  if (first < 0) first = array.index.length;
  let last = first;
  while (last < array.index.length && array.index[last] < stop) last++;
  // A single row of a thinned array: the one that stands for it.
  if (array.decimated && last === first && stop > start) {
    first = Math.max(0, first - 1);
    last = Math.min(array.index.length, first + 1);
  }
  const rows = last - first;
  const Kind = array.data.constructor;
  if (rows <= points) {
    const data = columns || rows < array.index.length ? new Kind(rows * (b - a)) : array.data;
    if (data !== array.data) {
      for (let row = 0; row < rows; row++) {
        data.set(array.data.subarray((first + row) * width + a, (first + row) * width + b), row * (b - a));
      }
    }
    return result([rows, ...shape], data, array.index.slice(first, last), array.decimated);
  }
  const buckets = Math.max(1, reduce === "minmax" ? Math.ceil(points / 2) : points);
  const each = reduce === "minmax" ? 2 : 1;
  const data = new Kind(buckets * each * (b - a)).fill(NaN);
  const index = new Float64Array(buckets * each);
  for (let bucket = 0; bucket < buckets; bucket++) {
    const from = first + Math.floor((bucket * rows) / buckets);
    const to = first + Math.floor(((bucket + 1) * rows) / buckets);
    for (let k = 0; k < each; k++) index[bucket * each + k] = array.index[from];
    for (let column = a; column < b; column++) {
      let low = NaN;
      let high = NaN;
      let sum = 0;
      let n = 0;
      for (let row = from; row < to; row++) {
        const value = array.data[row * width + column];
        if (Number.isNaN(value)) continue;
        low = value >= low ? low : value;
        high = value <= high ? high : value;
        sum += value;
        n++;
      }
      const place = bucket * each * (b - a) + column - a;
      if (reduce === "minmax") {
        data[place] = low;
        data[place + b - a] = high;
      } else data[place] = reduce === "max" ? high : n ? sum / n : NaN;
    }
  }
  return result([buckets * each, ...shape], data, index, true);
}

function result(shape, data, index, decimated) {
  return { shape, data, index, decimated, start: index[0] ?? 0, stop: index.length ? index[index.length - 1] + 1 : 0 };
}
