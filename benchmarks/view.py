"""The view at real sizes: 10 million recorded values under the scrubber, a folder of 1,000 runs, in a headless Chromium.

Peers: for a window of the 10 million values, loading the file or taking safetensors' own slice, and thinning that; for the list,
opening each run.
"""

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import _record
from unrolled.core import Trajectory
from unrolled.runs import Run
from unrolled.view import folders
from unrolled.view.arrays import File

SCRUB = """async (seconds) => {
  const range = document.querySelector('.scrubber input[type=range]');
  const most = Number(range.max);
  const gaps = [];
  let [before, place] = [performance.now(), 0];
  const end = before + 1000 * seconds;
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    gaps.push(now - before);
    before = now;
    place = (place + Math.max(1, Math.round(most / 331))) % most;
    range.value = String(place);
    range.dispatchEvent(new Event('input', {bubbles: true}));
  }
  return gaps;
}"""


def timed(fn: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def recorded(root: Path) -> Run:
    rng = torch.Generator().manual_seed(0)
    with Run.create("bench-wide", {"preset": "bench", "seed": 0}, root=root) as run:
        x = torch.randn(10_000, 1000, generator=rng)
        run.save_trajectory(Trajectory.from_records(torch.arange(10_000), {"x": x}, meta={"unit": "cycle"}))
    return run


def long(root: Path) -> Run:
    rng = torch.Generator().manual_seed(0)
    with Run.create("bench-long", {"preset": "bench", "seed": 0}, root=root) as run:
        x = torch.randn(10_000_000, generator=rng).cumsum(0)
        run.save_trajectory(Trajectory.from_records(torch.arange(10_000_000), {"x": x}))
    return run


def thousand(root: Path) -> None:
    for number in range(1000):
        folder = root / f"study-{number % 7}" / f"20260101-000000-{number:08x}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"preset": "tiny", "seed": number}))
        (folder / "status.json").write_text(json.dumps({"state": "finished", "created": float(number)}))
        (folder / "environment.json").write_text(json.dumps({"study": f"study-{number % 7}"}))
        claims = [{"id": "a", "statement": "s", "status": "reproduced", "ours": 1.0}]
        (folder / "claims.json").write_text(json.dumps(claims))


def serve(root: Path) -> str:
    import uvicorn

    from unrolled.view.server import app

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(root, port=port), log_level="error", ws="none"))
    threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{port}/"


def windows(run: Run) -> dict[str, float]:
    """One screen of a recording: ours against loading the file, interleaved."""
    from safetensors import safe_open
    from safetensors.numpy import load_file

    root, path = run.path.parent.parent, run.path / "trajectory.safetensors"
    file = File.open(root, run.study, run.id, "trajectory.safetensors")
    start = time.perf_counter()
    file.part("records/x", points=2000)
    first = time.perf_counter() - start

    def thin(x: np.ndarray) -> np.ndarray:
        buckets = x.reshape(1000, -1)
        return np.stack((buckets.min(1), buckets.max(1)), 1)

    def whole(a: int) -> np.ndarray:
        return thin(load_file(path)["records/x"][a : a + 1_000_000])

    def sliced(a: int) -> np.ndarray:
        with safe_open(path, framework="np") as opened:
            return thin(opened.get_slice("records/x")[a : a + 1_000_000])

    rng = np.random.default_rng(0)
    ours, wholes, slices = [], [], []
    for _ in range(9):
        a = int(rng.integers(0, 9_000_000))
        ours.append(timed(lambda a=a: file.part("records/x", a, a + 1_000_000, 2000), 1))
        wholes.append(timed(lambda a=a: whole(a), 1))
        slices.append(timed(lambda a=a: sliced(a), 1))
    over_whole = median(t / o for t, o in zip(wholes, ours))
    over_slice = median(t / o for t, o in zip(slices, ours))
    print(f"first look at 10,000,000 values: {1e3 * first:.0f} ms, once per file")
    print(f"a window of 1,000,000 of them in 2,000 points: {1e3 * median(ours):.2f} ms; loading the file {over_whole:.0f} x as long, safetensors' own slice {over_slice:.0f} x")  # fmt: skip
    return {
        "first_look_s": first,
        "window_s": median(ours),
        "over_whole_file": over_whole,
        "over_slice": over_slice,
    }


def listing(root: Path) -> dict[str, float]:
    start = time.perf_counter()
    folders.runs(root)
    cold = time.perf_counter() - start
    warm, each = [], []
    for _ in range(5):
        warm.append(timed(lambda: folders.runs(root), 1))
        paths = [path.parent for path in root.glob("*/*/config.json")]
        each.append(
            timed(lambda paths=paths: [(Run.open(path).state, Run.open(path).claims()) for path in paths], 1)
        )
    ratio = median(e / w for e, w in zip(each, warm))
    print(
        f"list of 1,000 runs: {cold:.2f} s the first time, {1e3 * median(warm):.0f} ms after; opening each: {ratio:.1f} x as long"
    )
    return {"list_first_s": cold, "list_s": median(warm), "list_over_opening_each": ratio}


def browser(root: Path, wide: Run, tall: Run) -> dict[str, Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("in the browser: not measured, playwright is not installed")
        return {}
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("in the browser: not measured, there is no Chromium")
        return {}
    address = serve(root)
    found: dict[str, Any] = {}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1440, "height": 900})
        page.goto("about:blank")
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            page.goto(address, wait_until="commit")
            page.wait_for_selector(".list li:nth-child(1000)", state="attached")
            page.evaluate("() => new Promise(requestAnimationFrame)")
            seconds.append(time.perf_counter() - start)
        print(
            f"page with 1,000 runs: {seconds[0]:.2f} s the first time, {median(seconds):.2f} s median, to the drawn list"
        )
        found |= {"page_first_s": seconds[0], "page_s": median(seconds)}
        for name, run in (("10,000 cycles x 1,000 units", wide), ("10,000,000 steps of one value", tall)):
            page.goto("about:blank")
            page.goto(f"{address}#run={run.study}/{run.id}")
            page.wait_for_selector(".panel canvas", timeout=60_000)
            page.wait_for_timeout(3000)
            gaps = sorted(page.evaluate(SCRUB, 5)[1:])
            rate, slow = 1000 * len(gaps) / sum(gaps), gaps[int(0.95 * len(gaps))]
            print(f"scrubbing {name}: {rate:.0f} frames/s, 95 % of frames within {slow:.0f} ms")
            found[name] = {"frames_per_s": rate, "frame_95_ms": slow}
        opened.close()
    return found


def main(argv: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        thousand(root)
        load = os.getloadavg()[0]  # of others: they share the cores with what is measured
        found = listing(root)
        tall = long(root)
        found |= windows(tall)
        found |= browser(root, recorded(root), tall)
    print(
        f"{os.cpu_count()} cores, load average {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end"
    )
    if "--no-record" not in argv:
        _record.write("view", {"load": load, **found})


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
