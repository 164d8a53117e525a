// One array of an exhibit at one time after another: whole in memory when it is small, frame by frame when it is not.

const SMALL = 2_000_000; // values

/**
 * @param axes how many axes a frame has; an array with one more moves.
 * @return {shape, moves, at(index) -> Promise<Float32Array>, extent() -> Promise<[low, high]>}
 */
export function frames(exhibit, context, name, axes) {
  const { shape } = exhibit.arrays[name];
  const moves = Boolean(exhibit.t) && shape.length === axes + 1;
  const frame = moves ? shape.slice(1) : shape;
  const size = frame.reduce((a, b) => a * b, 1);
  const total = shape.reduce((a, b) => a * b, 1);
  let whole = null;

  function load() {
    if (!whole) {
      whole = context.array(name, {}).then((got) => got.data);
      whole.catch(() => {
        whole = null;
      });
    }
    return whole;
  }

  async function at(index) {
    if (!moves) return load();
    const i = Math.min(Math.max(index, 0), shape[0] - 1);
    if (total <= SMALL) {
      const data = await load();
      return data.subarray(i * size, (i + 1) * size);
    }
    return (await context.array(name, { start: i, stop: i + 1 })).data;
  }

  /** Lowest and highest value: of all when small, else of up to 256 frames spread over time. */
  async function extent() {
    let data;
    if (!moves || total <= SMALL) data = await load();
    else data = (await context.array(name, { points: Math.max(2, Math.min(256, Math.floor(SMALL / size))) })).data;
    let [low, high] = [Infinity, -Infinity];
    for (const v of data) {
      if (!Number.isFinite(v)) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    return low > high ? [0, 1] : [low, high];
  }

  return { name, shape: frame, size, moves, at, extent };
}

/** Call `show(index)` with the newest index only, one at a time. */
export function latest(show, report) {
  let [busy, next] = [false, null];
  async function run() {
    busy = true;
    while (next !== null) {
      const index = next;
      next = null;
      try {
        await show(index);
      } catch (error) {
        report(error);
      }
    }
    busy = false;
  }
  return (index) => {
    next = index;
    if (!busy) run();
  };
}
