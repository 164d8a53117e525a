// Small things that every module uses. Text always goes in as text: what a log says is never markup.

export function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "text") node.textContent = String(value);
    else if (key.startsWith("on") && typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "hidden" || key === "disabled") node[key] = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (child === undefined || child === null || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// A number as a reader wants it: four digits, no trailing zeros, a thin exponent for the very large and small.
export function format(value, digits = 4) {
  if (value === null || value === undefined || value === "") return "—";
  const number = Number(value);
  if (typeof value === "string" && Number.isNaN(number) && value !== "NaN") return value;
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "-∞";
  if (Number.isInteger(number) && Math.abs(number) < 1e7) return String(number);
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return number.toExponential(Math.max(0, digits - 2)).replace(/\.?0+e/, "e");
  return String(Number(number.toPrecision(digits)));
}

// Index of the last entry that is not above the value; 0 when all are. Looks in O(log n).
export function nearest(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sorted[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The sorted union of sorted arrays; one that is alone comes back as it is.
export function union(arrays) {
  const given = arrays.filter((array) => array && array.length);
  if (given.length === 0) return new Float64Array(0);
  let made = given[0];
  for (const other of given.slice(1)) {
    if (other === made || (other.length === made.length && other.every((value, i) => value === made[i]))) continue;
    const merged = new Float64Array(made.length + other.length);
    let i = 0;
    let j = 0;
    let n = 0;
    while (i < made.length || j < other.length) {
      const a = i < made.length ? made[i] : Infinity;
      const b = j < other.length ? other[j] : Infinity;
      merged[n++] = Math.min(a, b);
      if (a <= b) i++;
      if (b <= a) j++;
    }
    made = merged.slice(0, n);
  }
  return made;
}

// Times as numbers: from a list, or from a start and a step; null where they lie in an array of their own.
export function times(told) {
  if (Array.isArray(told)) return Float64Array.from(told, Number);
  if (!told || told.step === undefined) return null;
  const made = new Float64Array(told.count);
  for (let i = 0; i < made.length; i++) made[i] = told.start + told.step * i;
  return made;
}

export function duration(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 90) return `${format(seconds, 2)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${format(seconds / 3600, 2)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function ago(unixSeconds) {
  return unixSeconds ? `${duration(Math.max(0, Date.now() / 1000 - unixSeconds))} ago` : "";
}

// One call a frame at most, with the latest arguments.
export function perFrame(fn) {
  let waiting = null;
  let request = 0;
  const asked = (...args) => {
    waiting = args;
    if (!request) {
      request = requestAnimationFrame(() => {
        request = 0;
        fn(...waiting);
      });
    }
  };
  asked.cancel = () => cancelAnimationFrame(request);
  return asked;
}

let region = null;

export function say(text) {
  region = region || document.getElementById("live");
  if (region) region.textContent = text;
}
