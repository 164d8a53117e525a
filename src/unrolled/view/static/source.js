// Where everything shown comes from: the server, or the files of a bundle. The rest of the app cannot tell which.

import { bundled } from "./bundled.js";
import { times } from "./util.js";

const KEPT = 96 * 2 ** 20;

export function connect() {
  return globalThis.unrolledBundle ? bundled(globalThis.unrolledBundle) : served();
}

function path(ref) {
  return `api/runs/${encodeURIComponent(ref.study)}/${encodeURIComponent(ref.id)}`;
}

function encoded(source) {
  return source.split("/").map(encodeURIComponent).join("/");
}

async function fetched(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: is `unrolled view` still running?");
  }
  if (response.ok) return response;
  let told = `the server answers ${response.status}`;
  try {
    told = (await response.clone().json()).error || told;
  } catch {
    told = (await response.text()) || told;
  }
  throw Object.assign(new Error(told), { status: response.status });
}

function served() {
  const kept = new Map();
  let bytes = 0;

  function remember(key, value) {
    bytes += value.data.byteLength;
    kept.set(key, { value });
    for (const [old, entry] of kept) {
      if (bytes <= KEPT) break;
      if (!entry.value || old === key) continue;
      bytes -= entry.value.data.byteLength;
      kept.delete(old);
    }
  }

  function array(url, options = {}, version = 0) {
    const query = new URLSearchParams();
    for (const key of ["start", "stop", "points", "reduce"]) if (options[key] !== undefined) query.set(key, options[key]);
    if (options.columns) query.set("columns", options.columns.join(":"));
    const asked = `${url}${query.size ? `?${query}` : ""}`;
    const key = `${version} ${asked}`;
    const known = kept.get(key);
    if (known) {
      kept.delete(key);
      kept.set(key, known); // the latest used is the last to go
      return known.promise || Promise.resolve(known.value);
    }
    const promise = fetched(asked)
      .then(unpacked)
      .then(
        (value) => {
          remember(key, value);
          return value;
        },
        (error) => {
          kept.delete(key);
          throw error;
        },
      );
    kept.set(key, { promise });
    return promise;
  }

  // The trajectory's records come in one answer.
  const trajectories = new Map();

  return {
    live: true,
    runs: async () => (await fetched("api/runs")).json(),
    run: async (ref) => (await fetched(path(ref))).json(),
    kinds: async () => (await fetched("api/panels")).json(),
    async exhibit(ref, source, version = 0) {
      if (!source.startsWith("trajectory/")) {
        return clocked(await (await fetched(`${path(ref)}/${encoded(source)}`)).json());
      }
      const key = `${version} ${path(ref)}`;
      if (!trajectories.has(key)) {
        const whole = fetched(`${path(ref)}/trajectory`).then((response) => response.json());
        trajectories.set(key, whole.then(async (told) => {
          const t = times(told.t) || Float64Array.from((await array(`${path(ref)}/trajectory/t`, {}, version)).data);
          return { ...told, t };
        }));
        trajectories.get(key).catch(() => trajectories.delete(key));
      }
      const told = await trajectories.get(key);
      const found = told.records.find((record) => `trajectory/${record.title}` === source);
      if (!found) throw new Error(`there is no record ${source}`);
      return { ...found, t: told.t };
    },
    array(ref, source, name, options, version) {
      const where = source.startsWith("trajectory/") ? encoded(source) : `${encoded(source)}/arrays/${encoded(name)}`;
      return array(`${path(ref)}/${where}`, options, version);
    },
    figure: (ref, file) => `${path(ref)}/figures/${encodeURIComponent(file)}`,
    report: (ref) => `${path(ref)}/report`,
    async post(url, body, signal) {
      const sent = await fetched(url.replace(/^\//, ""), {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal,
      });
      return sent.json();
    },
    events(refs, handlers) {
      const query = refs.map((ref) => `run=${encodeURIComponent(`${ref.study}/${ref.id}`)}`).join("&");
      const stream = new EventSource(`api/events${query ? `?${query}` : ""}`);
      stream.addEventListener("open", () => handlers.open());
      stream.addEventListener("error", () => handlers.lost());
      stream.addEventListener("runs", (event) => handlers.runs(JSON.parse(event.data)));
      stream.addEventListener("run", (event) => handlers.run(JSON.parse(event.data)));
      return () => stream.close();
    },
  };
}

function clocked(exhibit) {
  return { ...exhibit, t: exhibit.t ? times(exhibit.t) : null };
}

async function unpacked(response) {
  const shape = (response.headers.get("x-shape") || "").split(",").filter(Boolean).map(Number);
  const decimated = response.headers.get("x-decimated") === "1";
  const buffer = await response.arrayBuffer();
  const rows = shape[0] || 0;
  const offset = decimated ? 8 * rows : 0;
  const Kind = response.headers.get("x-dtype") === "float64" ? Float64Array : Float32Array;
  const start = Number(response.headers.get("x-start") || 0);
  const index = decimated ? new Float64Array(buffer, 0, rows) : Float64Array.from({ length: rows }, (_, i) => start + i);
  return { shape, data: new Kind(buffer, offset), index, decimated, start, stop: rows ? index[rows - 1] + 1 : start };
}
