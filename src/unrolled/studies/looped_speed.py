"""What linear time buys: time and memory against length, gated delta rule against softmax attention, and where they cross.

Forward and forward + backward of one operator (batch 1, float32), interleaved in one process; the token loop as the naive
alternative; the memory that a looped model keeps of its text, held to the formula; and the time of one decoding step after texts
of growing length.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.instruments.reading import axes
from unrolled.looped import LT2, Cache, LT2Config, ops
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped
from unrolled.studies import _looped_exhibits as exhibits

PAPER = looped.PAPER
PATTERNS = {"softmax": "full", "hybrid": "interleaved:4:1", "gated delta": "gated_delta"}


@dataclass(frozen=True)
class Config:
    """Which lengths, how often."""

    preset: str = "tiny"
    seed: int = 0
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)
    heads: int = 8
    size: int = 64
    """channels of a head"""
    rounds: int = 3
    """of which the median is taken"""
    texts: tuple[int, ...] = (64, 256, 1024)
    """lengths that models decode after"""
    width: int = 64
    layers: int = 5
    loops: int = 4
    decode: int = 25
    """tokens decoded, of which the median time is taken"""


def tiny() -> Config:
    """To 8,192 tokens; a minute or two."""
    return Config()


def small() -> Config:
    """To 16,384 tokens, and a model of width 256."""
    return Config(preset="small", lengths=(256, 512, 1024, 2048, 4096, 8192, 16384), rounds=7, texts=(64, 256, 1024, 4096), width=256)  # fmt: skip


def inputs(config: Config, length: int) -> dict[str, Tensor]:
    """Unit keys, decay near 1, beta in [0, 1]: `[1, length, heads, size]` and `[1, length, heads]`."""
    rng = torch.Generator().manual_seed(config.seed)
    shape = (1, length, config.heads, config.size)
    q, k, v = (torch.randn(shape, generator=rng) for _ in range(3))
    rates = torch.rand(2, *shape[:3], generator=rng)
    return {
        "q": F.normalize(q, dim=-1),
        "k": F.normalize(k, dim=-1),
        "v": v,
        "g": -0.1 * rates[0],
        "beta": rates[1],
    }


def gated_delta(x: dict[str, Tensor]) -> Tensor:
    """The chunked form."""
    return ops.gated_delta.chunk(x["q"], x["k"], x["v"], x["g"], x["beta"])[0]


def token_loop(x: dict[str, Tensor]) -> Tensor:
    """The naive alternative, one token after another."""
    return ops.gated_delta.recurrent(x["q"], x["k"], x["v"], x["g"], x["beta"])[0]


def softmax(x: dict[str, Tensor]) -> Tensor:
    """Causal attention, torch's fused one."""
    q, k, v = (x[name].transpose(1, 2) for name in ("q", "k", "v"))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def clock() -> float:
    """Processor time with one thread, which other load on the machine does not stretch; wall time with more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(fn: Callable[[dict[str, Tensor]], Tensor], x: dict[str, Tensor], *, backward: bool) -> float:
    """Of one call."""
    if backward:
        x = {name: value.detach().requires_grad_() for name, value in x.items()}
    began = clock()
    if backward:
        fn(x).sum().backward()
    else:
        with torch.no_grad():
            fn(x)
    return clock() - began


def measure(config: Config, run: Run) -> None:
    """Time the operators at every length, interleaved."""
    for number, length in enumerate(config.lengths):
        x = inputs(config, length)
        forms: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
            "gated delta": gated_delta,
            "softmax": softmax,
        }
        if length == config.lengths[0]:
            forms["token loop"] = token_loop
        found: dict[tuple[str, bool], list[float]] = {(n, b): [] for n in forms for b in (False, True)}
        for turn in range(config.rounds + 1):
            for (name, backward), times in found.items():
                took = seconds(forms[name], x, backward=backward)
                if turn:  # the first warms up
                    times.append(took)
        for (name, backward), times in found.items():
            run.log(form=name, backward=backward, length=length, seconds=statistics.median(times), threads=torch.get_num_threads())  # fmt: skip
        run.progress(number + 1, len(config.lengths))


def formula(config: LT2Config, length: int, loops: int) -> int:
    """Bytes that a model keeps of `length` tokens, batch 1, float32 (acceptance A10).

    T N [H dk dv + (2 H dk + H dv)(taps - 1)] 4 for gated delta layers, T N L 2 H_kv d_h 4 for full ones.
    """
    H, dk, dv = config.heads, config.linear_head_dim, config.linear_value_dim
    linear = H * dk * dv + (2 * H * dk + H * dv) * (config.conv - 1)
    full = length * 2 * config.kv_heads * config.head_dim
    return 4 * loops * sum(full if kind == "full" else linear for kind in config.mixers)


@torch.no_grad()
def decode(config: Config, run: Run) -> None:
    """Memory of the text and time per token, after texts of growing length; models take turns."""
    shapes = {
        name: LT2Config(
            width=config.width, layers=config.layers, heads=4, loops=config.loops, pattern=pattern
        )
        for name, pattern in PATTERNS.items()
    }
    models = {name: LT2(shape, rng=config.seed).eval() for name, shape in shapes.items()}
    cases: dict[tuple[str, int], tuple[Tensor, Cache, int]] = {}
    for name, model in models.items():
        for length in config.texts:
            tokens = torch.randint(256, (1, length), generator=torch.Generator().manual_seed(config.seed))
            cache = Cache()
            model(tokens, cache=cache, logits=False)
            cases[name, length] = tokens, cache, cache.bytes()
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for turn in range(config.decode + 1):
        for (name, length), (tokens, cache, _) in cases.items():
            began = clock()
            models[name](tokens[:, :1], cache=cache)
            if turn:  # the first warms up
                times[name, length].append(clock() - began)
    for (name, length), (_, _, kept) in cases.items():
        run.log(
            model=name, text=length, bytes=kept, formula=formula(shapes[name], length, config.loops),
            step_seconds=statistics.median(times[name, length]),
        )  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Measure, judge."""
    if not looped.rows(run, "form"):
        run.status(phase="operators", step=0, steps=len(config.lengths))
        measure(config, run)
        run.commit()
    if not looped.rows(run, "model"):
        run.status(phase="decoding")
        decode(config, run)
        run.commit()
    exhibits.cost(run, run.metrics())
    return claims(config, run)


def timed(run: Run, form: str, backward: bool) -> dict[int, float]:
    """Length -> seconds."""
    return {r["length"]: r["seconds"] for r in looped.rows(run, "form", form=form, backward=backward)}


def slope(times: dict[int, float], least: int) -> float:
    """Exponent of time in length, by least squares on logarithms, from `least` tokens on; NaN with fewer than two.

    Example:
        >>> round(slope({1: 1.0, 10: 5.0, 100: 500.0}, 10), 6)
        2.0
    """
    points = [(math.log(n), math.log(s)) for n, s in times.items() if n >= least]
    if len(points) < 2:
        return math.nan
    mx, my = (statistics.fmean(c) for c in zip(*points))
    return sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)


def crossover(fast: dict[int, float], slow: dict[int, float]) -> float:
    """The length from which on `fast` takes less time, between lengths measured by a line on logarithms; NaN if it never does.

    Example:
        >>> crossover({1: 4.0, 4: 4.0, 16: 4.0}, {1: 1.0, 4: 4.0, 16: 16.0}), crossover({1: 1.0}, {1: 2.0})
        (4.0, 1.0)
    """
    lengths = sorted(fast)
    gap = [math.log(fast[n] / slow[n]) for n in lengths]
    if gap[-1] > 0:
        return math.nan
    first = len(gap) - 1
    while first > 0 and gap[first - 1] <= 0:
        first -= 1
    if first == 0 or gap[first] == 0:
        return float(lengths[first])
    share = gap[first - 1] / (gap[first - 1] - gap[first])
    return math.exp(math.log(lengths[first - 1]) * (1 - share) + math.log(lengths[first]) * share)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    ours = {b: timed(run, "gated delta", b) for b in (False, True)}
    theirs = {b: timed(run, "softmax", b) for b in (False, True)}
    threads = looped.rows(run, "form")[0]["threads"]
    setting = f"{config.heads} heads of {config.size}, batch 1, float32, {threads} thread{'s' if threads > 1 else ''}, {'processor' if threads == 1 else 'wall'} time, medians of {config.rounds}"
    made: list[Claim] = []
    longest, middle = max(config.lengths), min(config.lengths, key=lambda n: abs(n - 2048))
    for length, backward, bar, id in ((middle, False, 1.0, "forward-middle"), (longest, False, 0.5, "forward-long"), (longest, True, 0.4, "backward-long")):  # fmt: skip
        ratio = ours[backward][length] / theirs[backward][length]
        work = "forward and backward" if backward else "forward"
        made.append(Claim(
            id, f"{work} over {length:,} tokens: gated delta over fused softmax attention (time)", paper=f"at most {bar:g}", ours=ratio,
            status="reproduced" if ratio <= bar else "direction only" if ratio < 1 else "not reproduced",
            note=f"{1e3 * ours[backward][length]:.0f} against {1e3 * theirs[backward][length]:.0f} ms; {setting}", source="A13", **common,
        ))  # fmt: skip
    where = crossover(ours[False], theirs[False])
    made.append(Claim(
        "crossover", "length from which on the gated delta rule is the faster (forward)", paper=448.0, ours=where, unit="tokens",
        status="reproduced" if where <= 2 * 448 else "direction only" if where < longest else "not reproduced",
        note=f"forward and backward: {crossover(ours[True], theirs[True]):.0f}; the 448 is where floating-point operations are equal; reproduced: at most "
        "twice that", source="LT2 fact sheet, 6.4", **common,
    ))  # fmt: skip
    least = min(2048, sorted(config.lengths)[-2])
    one, two = slope(ours[False], least), slope(theirs[False], least)
    made.append(Claim(
        "slope", f"time grows linearly with length (exponent from {least:,} tokens on)", paper="at most 1.15", ours=one,
        status="reproduced" if one <= 1.15 and two > one else "not reproduced", note=f"softmax attention {two:.2f}", source="A13", **common,
    ))  # fmt: skip
    short = min(config.lengths)
    loop = timed(run, "token loop", False)[short] / ours[False][short]
    made.append(Claim(
        "token-loop", f"chunks beat the loop over tokens at {short} (times)", paper="at least 3", ours=loop,
        status="reproduced" if loop >= 3 else "direction only" if loop > 1 else "not reproduced",
        note=f"forward and backward: {timed(run, 'token loop', True)[short] / ours[True][short]:.1f}", source="A13", **common,
    ))  # fmt: skip
    kept = looped.rows(run, "model")
    exact = sum(r["bytes"] == r["formula"] for r in kept)
    made.append(Claim(
        "memory", "what a model keeps of its text is what the formula says, byte for byte (cases)", paper=float(len(kept)), ours=float(exact),
        unit=f"of {len(kept)}", status="reproduced" if exact == len(kept) else "not reproduced", note=_memory(config, run), source="A10", **common,
    ))  # fmt: skip
    first, last = min(config.texts), max(config.texts)
    at = {(r["model"], r["text"]): r["step_seconds"] for r in kept}
    growth = {name: at[name, last] / at[name, first] for name in PATTERNS}
    made.append(Claim(
        "decoding", f"a token costs gated delta the same after {last:,} tokens as after {first} (time, ratio)", paper="constant", ours=growth["gated delta"],
        status="reproduced" if growth["gated delta"] <= 1.25 else "not reproduced",
        note=f"hybrid {growth['hybrid']:.2f}, softmax {growth['softmax']:.2f}; {1e3 * at['gated delta', last]:.1f} ms a token; reproduced: at most 1.25",
        source="A10", **common,
    ))  # fmt: skip
    made.append(Claim.not_attempted(
        "h100", "decoding at 8k is 5 times (hybrid with attention) or 5.7 times (with DSA) as fast as a looped transformer's", paper=5.0,
        why="needs the 1.3 B shape on a GPU with the paper's batch of 8", command="python -m benchmarks looped_decode", **common,
    ))  # fmt: skip
    return made


def _memory(config: Config, run: Run) -> str:
    last = max(config.texts)
    kept = {r["model"]: r["bytes"] for r in looped.rows(run, "model") if r["text"] == last}
    return f"after {last:,} tokens: " + ", ".join(
        f"{name} {size / 2**10:,.0f} KiB" for name, size in kept.items()
    )


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Time against length with the crossover; memory against length."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    left, middle, right = map(axes, figure.subplots(1, 3))
    colors = {"gated delta": looped.ORANGE, "softmax": looped.BLUE, "hybrid": "#009E73"}
    for backward, style in ((False, "-"), (True, "--")):
        both = {name: timed(run, name, backward) for name in ("gated delta", "softmax")}
        for name, times in both.items():
            label = f"{name}{', with backward' if backward else ''}"
            left.loglog(
                list(times),
                [1e3 * s for s in times.values()],
                color=colors[name],
                ls=style,
                marker="o",
                ms=3,
                label=label,
            )
        where = crossover(both["gated delta"], both["softmax"])
        if math.isfinite(where):
            left.axvline(where, color="#1c1e21", lw=0.8, ls="-" if not backward else "--", alpha=0.6)
            if not backward:
                left.annotate(
                    f" {where:,.0f}",
                    (where, 0.0),
                    xycoords=("data", "axes fraction"),
                    va="bottom",
                    fontsize=8,
                )
    _tokens(left, config.lengths)
    left.set(xlabel="tokens", ylabel="ms")
    left.legend(frameon=False, fontsize=7)
    kept = looped.rows(run, "model")
    for name in PATTERNS:
        mine = [r for r in kept if r["model"] == name]
        x = [r["text"] for r in mine]
        middle.loglog(x, [r["bytes"] / 2**10 for r in mine], color=colors[name], marker="o", ms=3, label=name)
        right.semilogx(x, [1e3 * r["step_seconds"] for r in mine], color=colors[name], marker="o", ms=3)
    for ax in (middle, right):
        _tokens(ax, config.texts)
    middle.set(xlabel="tokens read", ylabel="KiB kept of the text")
    middle.legend(frameon=False)
    right.set(xlabel="tokens read", ylabel="ms per further token", ylim=(0, None))
    return {
        "speed": (
            figure,
            f"Left: one operator, {config.heads} heads of {config.size}, batch 1; the vertical lines mark where the gated delta rule becomes the faster. "
            f"Middle and right: what models of {config.layers} layers and {config.loops} loops keep of a text, and what a further token takes.",
        )
    }


def _tokens(ax: Any, lengths: tuple[int, ...]) -> None:
    """Ticks at the lengths measured, every other one where they are many."""
    shown = lengths[:: 2 if len(lengths) > 4 else 1]
    ax.set_xticks(shown, [f"{n:,}" for n in shown])
    ax.minorticks_off()
