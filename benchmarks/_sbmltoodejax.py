"""sbmltoodejax as a peer, in a process and an environment of its own: reads a job per line, answers with a line.

`python benchmarks/_sbmltoodejax.py` under a Python that has sbmltoodejax 0.4.3 and jax. Jobs (JSON):
`{"do": "make", "file", "x0" (.npy, by `names`), "names", "t_end", "points", "rtol", "atol", "way"}` compiles and answers with
the seconds that took and an id; `{"do": "run", "id", "out" or null}` runs once and answers with the seconds.

Two ways: `"rollout"` is the tool's own ModelRollout (an odeint call per output time); `"odeint"` calls jax's odeint once for
all output times with the tool's rate, which is the fastest the tool's parts can do. The generated module says float32
throughout, so that tolerances below 1e-6 mean nothing; here it is read with float64 instead, which can only help its error.
"""

import importlib
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    np: Any = importlib.import_module("numpy")
    odeint: Any = importlib.import_module("jax.experimental.ode").odeint
    parse: Any = importlib.import_module("sbmltoodejax.parse").ParseSBMLFile
    generate: Any = importlib.import_module("sbmltoodejax.modulegeneration").GenerateModel
    made: list[tuple[Any, Any]] = []
    modules: dict[str, Any] = {}

    def module_of(file: str) -> Any:
        if file not in modules:
            path = Path(tempfile.mkdtemp()) / f"generated_{len(modules)}.py"
            generate(parse(file), str(path))
            path.write_text(path.read_text().replace("float32", "float64"))
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            modules[file] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[file])
        return modules[file]

    def make(job: dict[str, Any]) -> dict[str, Any]:
        module = module_of(job["file"])
        given = dict(zip(job["names"], np.load(job["x0"]).T))
        rows = [
            given[n] if n in given else np.full(len(given[job["names"][0]]), float(module.y0[i]))
            for n, i in module.y_indexes.items()
        ]
        y0 = jnp.asarray(np.stack(rows, 1))
        times = jnp.linspace(0.0, job["t_end"], job["points"])
        options = {"rtol": job["rtol"], "atol": job["atol"], "mxstep": 5_000_000}
        if job["way"] == "rollout":
            rollout = module.ModelRollout(deltaT=job["t_end"] / (job["points"] - 1), **options)
            one = lambda y: rollout(job["points"], y, module.w0, module.c, 0.0)[0].T  # noqa: E731 - [points, d]
        else:
            rate = module.RateofSpeciesChange()
            one = lambda y: odeint(rate, y, times, module.w0, module.c, **options)  # noqa: E731
        batch = jax.jit(jax.vmap(one))
        start = time.perf_counter()
        batch(y0).block_until_ready()
        made.append((batch, y0))
        return {
            "id": len(made) - 1,
            "compile_seconds": time.perf_counter() - start,
            "names": list(module.y_indexes),
        }

    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "make":
                answer = make(job)
            else:
                batch, y0 = made[job["id"]]
                start, busy = time.perf_counter(), time.process_time()
                found = batch(y0).block_until_ready()
                answer = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - busy}
                if job.get("out"):
                    np.save(job["out"], np.asarray(found))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
