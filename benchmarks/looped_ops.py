r"""What a chunked token mixer costs beside attention, beside transformers' fallback, and beside a loop over tokens.

Run with `python -m benchmarks looped_ops` (`--quick` for a look). Peers, in one process, one after another in every round:

* SDPA: `torch.nn.functional.scaled_dot_product_attention(is_causal=True)` on `[B, H, L, d]`, the layout it likes best;
* fallback: `torch_chunk_gated_delta_rule` of transformers' Qwen3-Next, what a CPU user of that model runs (pip install transformers);
* loop: `ops.gated_delta.recurrent`, one token after another.

Batch 1, 8 heads of 64 channels, float32, g in [-0.1, 0], unit keys. A ratio is the median over rounds of the ratio within a
round, so that other load on the machine falls on both. One thread is timed by the CPU seconds it spent, more threads by the wall. Every number of threads has a process of its own; threads wait as
OpenMP's default has it. That suits an idle machine; on a busy one set OMP_WAIT_POLICY=passive for all, or look at one thread only.
The slope is fitted to the fastest round of every length. Peak memory
is of a fresh process: the kernel's high-water mark during one forward and backward, less what was resident before it.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import _record
from unrolled.looped import ops

H, D = 8, 64
MIXERS = ["linear", "retnet", "mamba2", "gla", "hgrn2", "deltanet", "gated_delta", "kda"]
Call = Callable[[dict[str, Tensor]], Any]


def inputs(L: int, dtype: torch.dtype = torch.float32, *, grad: bool = False) -> dict[str, Tensor]:
    """All that any mixer takes; `channel` is g for gates per channel."""
    rng = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, L, H, D, generator=rng, dtype=dtype)
    made = {"q": q, "k": F.normalize(k, dim=-1), "v": v}
    made["g"] = -0.1 * torch.rand(1, L, H, generator=rng, dtype=dtype)
    made["beta"] = torch.rand(1, L, H, generator=rng, dtype=dtype)
    made["channel"] = -0.1 * torch.rand(1, L, H, D, generator=rng, dtype=dtype)
    made |= {f"{name} heads first": made[name].transpose(1, 2).contiguous() for name in "qkv"}
    return {name: x.requires_grad_(grad) for name, x in made.items()}


def mixer(name: str, form: str = "chunk", **options: Any) -> Call:
    op = getattr(getattr(ops, name), form)
    takes = {
        "linear": "q k v",
        "retnet": "q k v",
        "mamba2": "q k v g",
        "gla": "q k v channel",
        "hgrn2": "q v channel",
        "deltanet": "q k v beta",
        "gated_delta": "q k v g beta",
        "kda": "q k v channel beta",
    }[name].split()
    return lambda x: op(*(x[key] for key in takes), **options)[0]


def sdpa(x: dict[str, Tensor]) -> Tensor:
    q, k, v = (x[f"{name} heads first"] for name in "qkv")
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def fallback() -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule as run
    return lambda x: run(*(x[name] for name in ("q", "k", "v", "g", "beta")), output_final_state=True)[0]


def backward(call: Call) -> Call:
    """The forward and the gradient of everything that requires one."""

    def run(x: dict[str, Tensor]) -> None:
        o = call(x)
        torch.autograd.grad(o, list(x.values()), torch.ones_like(o), allow_unused=True)

    return run


def seconds(calls: dict[str, Call], x: dict[str, Tensor], rounds: int) -> dict[str, list[float]]:
    """Interleaved: every call once per round, after one round of warm-up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call(x)
            if i:
                found[name].append(clock() - start)
    return found


def ratio(found: dict[str, list[float]], a: str, b: str) -> float:
    """Median over rounds of a / b."""
    return statistics.median(x / y for x, y in zip(found[a], found[b]))


def milliseconds(found: dict[str, list[float]]) -> dict[str, float]:
    """Median over rounds."""
    return {name: 1e3 * statistics.median(times) for name, times in found.items()}


def slope(times: dict[int, float]) -> float:
    """Least squares of log time on log length."""
    x, y = ([math.log(n) for n in times], [math.log(t) for t in times.values()])
    return statistics.linear_regression(x, y).slope


def speed(threads: int, rounds: int, lengths: Sequence[int], peers: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    calls: dict[str, Call] = {"chunk": mixer("gated_delta"), "SDPA": sdpa}
    if peers:
        calls["fallback"] = fallback()
    rows: dict[str, Any] = {}
    fastest: dict[str, dict[int, float]] = {name: {} for name in calls}
    for L in lengths:
        x = inputs(L)
        with torch.no_grad():
            forward = seconds(calls, x, rounds)
        for name, times in forward.items():
            fastest[name][L] = min(times)
        rows[str(L)] = {"forward": milliseconds(forward)}
        both = {}
        if L <= 8192:
            x = inputs(L, grad=True)
            both = seconds({name: backward(call) for name, call in calls.items()}, x, rounds)
            rows[str(L)]["forward and backward"] = milliseconds(both)
        for kind, found in (("forward", forward), ("forward and backward", both)):
            for peer in list(calls)[1:] if found else []:
                rows[str(L)][f"{kind}: chunk over {peer}"] = ratio(found, "chunk", peer)
        print(
            f"  {L}: {json.dumps({k: v for k, v in rows[str(L)].items() if ':' in k})}",
            file=sys.stderr,
            flush=True,
        )
    long = {name: {L: t for L, t in times.items() if L >= 2048} for name, times in fastest.items()}
    found = {"lengths": rows, "slope": {name: slope(times) for name, times in long.items() if len(times) > 1}}

    x = inputs(256)
    with torch.no_grad():
        loop = seconds(
            {"chunk": mixer("gated_delta"), "loop": mixer("gated_delta", "recurrent")}, x, 3 * rounds
        )
        one = {name: t[:, :1] for name, t in inputs(1).items() if t.ndim < 4 or t.shape[1] == 1}
        step = seconds({"step": mixer("gated_delta", "recurrent")}, one, 100)
    found["256 tokens: loop over chunk"] = ratio(loop, "loop", "chunk")
    found["one decode step, microseconds"] = 1e6 * statistics.median(step["step"])
    return found


def apart(threads: int, rounds: int, lengths: Sequence[int]) -> dict[str, Any]:
    """`speed` in a process of its own."""
    words = ["--only-speed", "--threads", threads, "--rounds", rounds, "--lengths", *lengths]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.looped_ops", *map(str, words)],
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        text=True,
        check=True,
    )
    return json.loads(made.stdout.splitlines()[-1])


def table(rounds: int, L: int) -> dict[str, Any]:
    """Every mixer beside SDPA at one length."""
    calls = {name: mixer(name) for name in MIXERS} | {"SDPA": sdpa}
    with torch.no_grad():
        forward = seconds(calls, inputs(L), rounds)
    both = seconds({name: backward(call) for name, call in calls.items()}, inputs(L, grad=True), rounds)
    return {
        name: {
            "forward, ms": milliseconds(forward)[name],
            "both, ms": milliseconds(both)[name],
            "forward over SDPA": ratio(forward, name, "SDPA"),
            "both over SDPA": ratio(both, name, "SDPA"),
        }
        for name in calls
    }


def memory(L: int, peers: bool) -> dict[str, float]:
    """MiB above what was resident before, of one forward and backward, each in a process of its own."""
    found = {}
    for name in ["chunk", "SDPA", *(["fallback"] if peers else [])]:
        made = subprocess.run(
            [sys.executable, "-m", "benchmarks.looped_ops", "--peak", name, "--lengths", str(L)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[name] = float(made.stdout.split()[-1])
    return found


def peak(name: str, L: int) -> float:
    call = backward(
        {"chunk": lambda: mixer("gated_delta"), "SDPA": lambda: sdpa, "fallback": fallback}[name]()
    )
    call(inputs(64, grad=True))  # what is loaded or built once is not what it costs
    x = inputs(L, grad=True)
    before, high = _record.peak_bytes(lambda: call(x))
    return (high - before) / 2**20


def errors() -> dict[str, float]:
    """Largest error over largest entry of o, against a float64 loop over tokens."""
    rng = torch.Generator().manual_seed(0)
    wide = inputs(256, torch.float64)

    def error(name: str, x: dict[str, Tensor]) -> float:
        exact = mixer(name, "recurrent")({key: t.double() for key, t in x.items()})
        return float((mixer(name)(x).double() - exact).abs().max() / exact.abs().max())

    narrow = {key: t.float() for key, t in wide.items()}
    found = {f"{name}, float64": error(name, wide) for name in MIXERS}
    found |= {f"{name}, float32": error(name, narrow) for name in MIXERS}
    one = F.normalize(torch.randn(1, 1, H, D, generator=rng), dim=-1)
    near = F.normalize(torch.randn(1, 256, H, D, generator=rng), dim=-1)
    near = F.normalize(near - (near * one).sum(-1, keepdim=True) * one, dim=-1)
    for told, k in (
        ("identical", one.expand(1, 256, H, D)),
        ("cosine 0.9", 0.9**0.5 * one + 0.1**0.5 * near),
    ):
        for beta in (1.0, 2.0):
            x = narrow | {"k": k.contiguous(), "beta": torch.full((1, 256, H), beta)}
            found[f"gated_delta, float32, {told} keys, beta {beta:g}"] = error("gated_delta", x)
    strong = -12 * torch.rand(1, 256, H, D, generator=rng)
    found["kda, float32, g per channel down to -12"] = error("kda", narrow | {"channel": strong})
    return found


def markdown(record: dict[str, Any]) -> str:
    """The record as a page."""
    L = str(record["length"])
    lines = [
        f"# {record['date']}: chunked token mixers",
        "",
        f"{record['hardware']}; torch {record['torch']}; transformers {record['transformers']}; batch 1, {H} heads of {D}, float32. "
        f"`python -m benchmarks looped_ops`, {record['rounds']} rounds. One thread is timed in CPU seconds, more in wall seconds; load on the machine over the last minute: {record['load']:.1f}.",
        "",
        f"## Gated delta rule, {L} tokens",
        "",
        "| threads | pass | chunk, ms | SDPA, ms | fallback, ms | chunk / SDPA | chunk / fallback |",
        "|---|---|---|---|---|---|---|",
    ]

    def number(x: float | None, form: str) -> str:
        return "" if x is None else format(x, form)

    for threads, found in record["speed"].items():
        row = found["lengths"][L]
        for kind in ("forward", "forward and backward"):
            ms = row[kind]
            lines.append(
                f"| {threads} | {kind} | {ms['chunk']:.0f} | {ms['SDPA']:.0f} | {number(ms.get('fallback'), '.0f')} "
                f"| {row[f'{kind}: chunk over SDPA']:.2f} | {number(row.get(f'{kind}: chunk over fallback'), '.2f')} |"
            )
    lines += [
        "",
        "| threads | slope of log time | SDPA's | loop / chunk at 256 | decode step, us |",
        "|---|---|---|---|---|",
    ]
    for threads, found in record["speed"].items():
        lines.append(
            f"| {threads} | {found['slope']['chunk']:.2f} | {found['slope']['SDPA']:.2f} | "
            f"{found['256 tokens: loop over chunk']:.1f} | {found['one decode step, microseconds']:.0f} |"
        )
    lines += ["", "| threads | tokens | forward: chunk / SDPA | both: chunk / SDPA |", "|---|---|---|---|"]
    for threads, found in record["speed"].items():
        for n, row in found["lengths"].items():
            both = number(row.get("forward and backward: chunk over SDPA"), ".2f")
            lines.append(f"| {threads} | {n} | {row['forward: chunk over SDPA']:.2f} | {both} |")
    lines += ["", f"## Peak memory of forward and backward, {L} tokens, above what was resident", ""]
    lines += [f"* {name}: {mib:.0f} MiB" for name, mib in record["peak, MiB"].items()]
    lines += ["", f"## Every mixer, {L} tokens, 1 thread", ""]
    lines += ["| mixer | forward, ms | both, ms | forward / SDPA | both / SDPA |", "|---|---|---|---|---|"]
    for name, row in record["mixers"].items():
        lines.append(
            f"| {name} | "
            + " | ".join(format(x, ".0f" if "ms" in k else ".2f") for k, x in row.items())
            + " |"
        )
    lines += [
        "",
        "## Largest error of o, as a fraction of its largest entry, against a float64 loop; 256 tokens",
        "",
    ]
    lines += [f"* {told}: {x:.0e}" for told, x in record["errors"].items()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Measure, print, write a dated record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.looped_ops", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="2 rounds, up to 2,048 tokens, no record")
    parser.add_argument("--only-speed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", choices=["chunk", "SDPA", "fallback"], help=argparse.SUPPRESS)
    options = parser.parse_args(list(argv))
    if options.peak:
        print(peak(options.peak, options.lengths[0]))
        return 0
    if options.only_speed:
        peers = importlib.util.find_spec("transformers") is not None
        print(json.dumps(speed(options.threads[0], options.rounds, options.lengths, peers)))
        return 0
    peers = importlib.util.find_spec("transformers") is not None
    if not peers:
        print("without transformers' fallback; to get it: pip install transformers", file=sys.stderr)
    lengths, rounds = ([1024, 2048], 2) if options.quick else (options.lengths, options.rounds)
    length = max(L for L in lengths if L <= 8192)
    found: dict[str, Any] = {"length": length, "rounds": rounds, "speed": {}}
    found["transformers"] = __import__("transformers").__version__ if peers else "absent"
    for threads in options.threads:
        print(f"{threads} thread(s)", flush=True)
        found["speed"][str(threads)] = apart(threads, rounds, lengths)
    torch.set_num_threads(1)
    found["peak, MiB"] = memory(length, peers)
    found["mixers"] = table(rounds, length)
    found["errors"] = errors()
    found["load"] = os.getloadavg()[0]
    if options.quick:
        print(json.dumps(found, indent=1))
        return 0
    path = _record.write("looped-ops", found)
    text = markdown(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
