"""What looping can do in theory: rank T instead of 1, reflections, no expansion, and how far windows reach.

A delta-rule step multiplies the state by A = alpha (I - beta k k^T). T of them, one after another on one state, move it by a
matrix I - prod A of rank up to T. Everything here is measured on the package's own operators and model in float64, the
caveats included: standard looping keeps T separate states, and a state carried from the end of a sequence into the next
loop leaks the future.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments.reading import COLORS, axes
from unrolled.looped import LT2, LT2Config, ops
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped

PAPER = looped.PAPER
CASES = {"orthonormal": 1.0, "same key": 1.0, "same key, reflected": 2.0, "orthonormal, reflected": 2.0}
"""Case -> beta."""
EXPECTED = {"orthonormal": 4, "same key": 1, "same key, reflected": 0, "orthonormal, reflected": 4}
"""Rank of I - prod A after four loops (LT2 fact sheet, section 2)."""


@dataclass(frozen=True)
class Config:
    """How much is drawn."""

    preset: str = "tiny"
    seed: int = 0
    dim: int = 16
    """dk of the state"""
    loops: int = 4
    """T"""
    draws: int = 2000
    """products of random steps whose norm is taken"""
    window: int = 4
    """of the stacked windows, itself included"""
    reach_loops: tuple[int, ...] = (1, 2, 3, 4, 5)
    """T of the stacked windows"""


def tiny() -> Config:
    """Seconds."""
    return Config()


def small() -> Config:
    """More draws, larger states."""
    return Config(preset="small", dim=64, draws=20_000)


def product(keys: Tensor, beta: Tensor | float, decay: Tensor | float = 1.0) -> Tensor:
    """A_T ... A_1 of the gated delta rule, as its operator applies it: `[B, T, d]` keys to `[B, d, d]`.

    With v = 0 and the identity as the state, the state that comes out is the product.

    Args:
        keys: one per loop.
        beta: of each loop, `[B, T]` or a number.
        decay: alpha of each loop, `[B, T]` or a number.

    Example:
        >>> k = torch.eye(2, dtype=torch.float64)[:1, None]
        >>> product(k, 2.0)[0].tolist()  # a reflection
        [[-1.0, 0.0], [0.0, 1.0]]
    """
    B, T, d = keys.shape
    k = keys[:, :, None]
    betas = torch.as_tensor(beta, dtype=k.dtype).expand(B, T)[..., None]
    g = torch.as_tensor(decay, dtype=k.dtype).log().expand(B, T)[..., None]
    state = torch.eye(d, dtype=k.dtype).expand(B, 1, d, d).clone()
    return ops.gated_delta.chunk(k, k, torch.zeros_like(k), g, betas, state)[1][:, 0]


def keys_of(case: str, config: Config, rng: torch.Generator) -> Tensor:
    """`[1, T, d]` unit keys of a case."""
    Q = torch.linalg.qr(torch.randn(config.dim, config.dim, generator=rng, dtype=torch.float64))[0]
    return (Q[: config.loops] if case.startswith("orthonormal") else Q[:1].expand(config.loops, -1))[None]


def reach(window: int, loops: int, distance: int) -> Tensor:
    """|d out_t / d x_s| of a one-layer window model at the last t, by distance t - s: `[distance + 1]`, float64."""
    config = LT2Config(width=16, heads=2, layers=1, loops=loops, pattern="window", window=window, hidden=16)
    model = LT2(config, rng=0).double()
    x = torch.randn(
        1,
        distance + 1,
        16,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
        requires_grad=True,
    )
    out = model(inputs_embeds=x, logits=False).hidden[0, -1]
    total = torch.zeros(distance + 1, dtype=torch.float64)
    for channel in out:
        total += torch.autograd.grad(channel, x, retain_graph=True)[0][0].abs().sum(-1)
    return total.flip(0)


def carried(second: float, how: str) -> float:
    """Loop 2's first output of the worked example with tokens 1 and `second` (q = k = 1, beta = 1/2, alpha = 1, v = h).

    Args:
        second: the later token, which the first output must not know.
        how: "fresh" states in each loop; "end", loop 2 begins with loop 1's last state.
    """
    one = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    half = torch.full((1, 2, 1), 0.5, dtype=torch.float64)
    h, state = torch.tensor([1.0, second], dtype=torch.float64).view(1, 2, 1, 1), None
    for _ in range(2):
        h, state = ops.deltanet.chunk(one, one, h, half, state if how == "end" else None)
    return float(h[0, 0, 0, 0])


def study(config: Config, run: Run) -> list[Claim]:
    """Measure, judge."""
    rng = torch.Generator().manual_seed(config.seed)
    records: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    dets: dict[str, float] = {}
    for case, beta in CASES.items():
        keys = keys_of(case, config, rng)
        moved = torch.eye(config.dim, dtype=torch.float64) - torch.stack(
            [product(keys[:, :t], beta)[0] for t in range(1, config.loops + 1)]
        )
        values = torch.linalg.svdvals(moved)
        records[f"rank/{case}"] = (values > 1e-9).sum(-1)
        ranks[case], dets[case] = int(records[f"rank/{case}"][-1]), float(torch.linalg.det(product(keys, beta)[0]))  # fmt: skip
        run.log(case=case, beta=beta, rank=ranks[case], det=dets[case])
    keys = torch.nn.functional.normalize(
        torch.randn(config.draws, config.loops, config.dim, generator=rng, dtype=torch.float64), dim=-1
    )
    betas = 2 * torch.rand(config.draws, config.loops, generator=rng, dtype=torch.float64)
    alphas = torch.rand(config.draws, config.loops, generator=rng, dtype=torch.float64)
    norms = torch.cat([
        torch.linalg.matrix_norm(product(keys, b, a), ord=2)
        for b, a in ((betas, 1.0), (betas, alphas), (2.0, 1.0))
    ])  # fmt: skip
    least = float(torch.linalg.det(product(keys, betas / 2)).min())
    run.log(norm=float(norms.max()), least_det=least)
    reached: list[int] = []
    distance = max(config.reach_loops) * (config.window - 1) + 3
    for loops in config.reach_loops:
        seen = reach(config.window, loops, distance)
        records[f"reach/{loops}"] = seen
        reached.append(int(seen.nonzero().max()))
        run.log(loops=loops, reach=reached[-1])
    # Cut off before the last layer: residual paths and a wide window could hide a hole inside the field.
    whole = all(bool((records[f"reach/{t}"][: r + 1] > 0).all()) for t, r in zip(config.reach_loops, reached))
    run.save_trajectory(
        Trajectory.from_records(torch.arange(1), {n: v[None] for n, v in records.items()}, meta={})
    )
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    made = [
        Claim(
            f"rank-{i}", f"rank of I - prod A after {config.loops} loops: {case}", paper=float(min(EXPECTED[case], config.loops) if EXPECTED[case] != 4 else config.loops),
            ours=float(ranks[case]),
            status="reproduced" if ranks[case] == (config.loops if EXPECTED[case] == 4 else EXPECTED[case]) else "not reproduced",
            note=f"d = {config.dim}, beta = {beta:g}; det of the product {dets[case]:+.3f}", source="2605.20670, rank argument; A8", **common,
        )
        for i, (case, beta) in enumerate(CASES.items(), 1)
    ]  # fmt: skip
    made.append(Claim(
        "non-expansion", "no product of steps with beta in [0, 2] and alpha in [0, 1] makes a state grow (largest spectral norm)",
        paper=1.0, ours=float(norms.max()), status="reproduced" if norms.max() <= 1 + 1e-6 else "not reproduced",
        note=f"{len(norms)} random products of {config.loops} steps", source="A8", **common,
    ))  # fmt: skip
    made.append(Claim(
        "no-reflection", "with beta in [0, 1] no product of steps is a reflection (least determinant)", paper="at least 0",
        ours=least, status="reproduced" if least >= -1e-12 else "not reproduced", note=f"{config.draws} random products",
        source="LT2 fact sheet, section 2", **common,
    ))  # fmt: skip
    wanted = [t * (config.window - 1) for t in config.reach_loops]
    made.append(Claim(
        "reach", f"T loops over a window of {config.window} see exactly T (w - 1) back (T for which they do)",
        paper=float(len(wanted)), ours=float(sum(a == b for a, b in zip(wanted, reached))), unit=f"of {len(wanted)}",
        status="reproduced" if wanted == reached and whole else "not reproduced",
        note=f"reach {', '.join(map(str, reached))} for T = {', '.join(map(str, config.reach_loops))}, from gradients of the model",
        source="2605.20670, appendix B.2; A9", **common,
    ))  # fmt: skip
    fresh, leaks = [carried(x, "fresh") for x in (2.0, 4.0)], [carried(x, "end") for x in (2.0, 4.0)]
    made.append(Claim(
        "leak", "a state carried from the end of a sequence into the next loop leaks the future (change of loop 2's first output)",
        paper=0.5, ours=leaks[1] - leaks[0],
        status="reproduced" if abs(leaks[1] - leaks[0] - 0.5) < 1e-12 and fresh == [0.25, 0.25] else "not reproduced",
        note=f"tokens (1, 2) then (1, 4): {leaks[0]:g} becomes {leaks[1]:g}; with fresh states it stays {fresh[0]:g}", source="A5", **common,
    ))  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Rank over loops, and how far windows reach."""
    from matplotlib.figure import Figure

    saved, config = run.trajectory(), run.config_as(Config)
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    left, right = map(axes, figure.subplots(1, 2))
    for i, case in enumerate(CASES):
        rank = saved[f"rank/{case}"][0]
        # Two cases coincide: the dashes leave both to be seen.
        left.plot(range(1, len(rank) + 1), rank, color=COLORS[i], marker="o", ls="-" if i < 2 else "--", label=case)  # fmt: skip
    left.set(xlabel="loops", ylabel="rank of I - prod A", xticks=range(1, config.loops + 1))
    left.legend(frameon=False)
    for i, loops in enumerate(config.reach_loops):
        seen = saved[f"reach/{loops}"][0]
        far = int(seen.nonzero().max())
        right.semilogy(
            range(far + 1), seen[: far + 1] / seen[0], color=COLORS[i], marker=".", label=f"T = {loops}"
        )
        right.plot(far, seen[far] / seen[0], "|", color=COLORS[i], ms=14)
    right.set(
        xlabel="tokens back",
        ylabel="influence on the output, relative",
        xticks=[t * (config.window - 1) for t in (0, *config.reach_loops)],
    )
    right.legend(frameon=False)
    return {
        "rank": (
            figure,
            "Left: the rank by which T delta-rule steps on one state move it. Right: |gradient| of an output with respect to "
            f"inputs further back, one layer with a window of {config.window}; beyond each bar it is exactly zero.",
        )
    }
