"""Is depth without parameters worth its time? Character models on real text: looped and not, linear, softmax and hybrid.

The same parameters once and T times; attention, the gated delta rule, and both; then one trained model is read loop by loop: how much
the residual stream still moves, what each loop would have said, how full the memory of each loop is, and how good the model is when
it is given fewer or more loops than it was trained with. The paper's own scale (1.3 B parameters, 100 B tokens) is out of reach.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.instruments import lens, settling
from unrolled.instruments.reading import COLORS, axes
from unrolled.looped import LT2, Cache, LT2Config
from unrolled.runs import Claim, Run
from unrolled.studies import _looped as looped
from unrolled.studies import _looped_exhibits as exhibits
from unrolled.training import corpus

PAPER = looped.PAPER


@dataclass(frozen=True)
class Config:
    """What is trained, on how much, and how it is read."""

    preset: str = "tiny"
    seed: int = 0
    seeds: int = 1
    width: int = 64
    layers: int = 2
    heads: int = 4
    pattern: str = "interleaved:1:1"
    """of the hybrid"""
    loops: int = 4
    steps: int = 250
    batch: int = 8
    context: int = 64
    lr: float = 3e-3
    text_bytes: int = 8_000_000
    curve: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    """loops to test the trained hybrid with"""
    shown: int = 40
    """tokens in the figures of one text"""


def tiny() -> Config:
    """Two layers of width 64, one seed; two minutes."""
    return Config()


def small() -> Config:
    """Five layers of width 128, four to one."""
    return Config(preset="small", width=128, layers=5, pattern="interleaved:4:1", steps=400, context=128)


def paper() -> Config:
    """31 M parameters on 100 M bytes, for one GPU. The paper's scale needs some 2,000 GPU hours."""
    return Config(
        preset="paper", seeds=1, width=512, layers=8, heads=8, pattern="interleaved:3:1", steps=3000, batch=64, context=512, lr=1e-3,
        text_bytes=2**30,
    )  # fmt: skip


def shapes(config: Config) -> dict[str, LT2Config]:
    """Arm -> model. All have the same width and depth; numbers of parameters differ by the mixers' own."""
    base: dict[str, Any] = {"width": config.width, "layers": config.layers, "heads": config.heads}
    return {
        "hybrid": LT2Config(**base, loops=config.loops, pattern=config.pattern),
        "hybrid, once": LT2Config(**base, loops=1, pattern=config.pattern),
        "softmax": LT2Config(**base, loops=config.loops, pattern="full"),
        "gated delta": LT2Config(**base, loops=config.loops, pattern="gated_delta"),
    }


def study(config: Config, run: Run) -> list[Claim]:
    """Train every arm and seed, read the first hybrid loop by loop, judge."""
    text, held_out = corpus(max_bytes=config.text_bytes).split(0.05)
    run.log(corpus=text.source, tokens=len(text), sha256=text.sha256)
    tests = held_out.batches(batch=16, context=config.context, seed=0, device=looped.device())
    for arm, shape in shapes(config).items():
        for seed in range(config.seed, config.seed + config.seeds):
            model, _ = looped.train(
                run, {"arm": arm, "seed": seed}, shape, text.batches(batch=config.batch, context=config.context, seed=seed, device=looped.device()),
                steps=config.steps, lr=config.lr, seed=seed, warmup=config.steps // 20, weight_decay=0.1, floor=0.1,
                evaluate=looped.validation(tests, 4), every=max(1, config.steps // 5),
            )  # fmt: skip
            if arm == "hybrid":
                curve(config, run, model, tests, seed)
                if seed == config.seed:
                    saved = watched(model, varied(tests(0)[0])[None, : config.shown], max(config.curve))
                    exhibits.show(run, saved, residuals(saved), letter)
                    run.save_trajectory(saved)
    return claims(config, run)


@torch.no_grad()
def curve(config: Config, run: Run, model: LT2, tests: looped.Batches, seed: int) -> None:
    """Held-out loss with other numbers of loops than in training."""
    if looped.rows(run, "at_loops", seed=seed):
        return
    model.eval()
    loss = torch.zeros(max(config.curve), dtype=torch.float64)
    for index in range(4):
        tokens, targets = tests(index)
        states = model(tokens, loops=max(config.curve), logits=False).hidden_per_loop
        for t, h in enumerate(states):
            loss[t] += (
                torch.nn.functional.cross_entropy(model.read_out(h).flatten(0, 1), targets.flatten()).double()
                / 4
            )
    for T in config.curve:  # loop t does not know how many follow: one pass has read them all
        run.log(at_loops=T, seed=seed, curve_loss=float(loss[T - 1]))


def varied(rows: Tensor) -> Tensor:
    """The row `[L]` of `[B, L]` with the most different tokens: a ruled line has little to show."""
    return max(rows, key=lambda row: len(row.unique()))


@torch.no_grad()
def watched(model: LT2, tokens: Tensor, loops: int) -> Trajectory:
    """One text, loop by loop: residual stream, read-out, and the singular values of every memory.

    Args:
        model: in eval mode.
        tokens: `[1, L]`.
        loops: how many to watch.

    Returns:
        Records over loops 0 to `loops`: `h` `[L, d]`; `logits` `[L, vocab]`; `S/<layer>` `[H, dk]`, singular values of the memory after the
        last token (NaN at 0).
    """
    model.eval()
    tokens, cache = tokens.to(model.embed.weight.device), Cache()
    states = model(tokens, loops=loops, cache=cache, logits=False).hidden_per_loop
    h = torch.stack([model.embed(tokens)[0], *(state[0] for state in states)])
    records = {"h": h, "logits": model.read_out(h)}
    for layer in range(model.config.layers):
        if "S" in cache.slot(layer, 0).fixed:
            values = torch.stack(
                [torch.linalg.svdvals(cache.slot(layer, t).fixed["S"][0].float()) for t in range(loops)]
            )
            records[f"S/{layer}"] = torch.cat([torch.full_like(values[:1], math.nan), values])
    return Trajectory.from_records(
        torch.arange(loops + 1),
        {name: value.cpu() for name, value in records.items()},
        meta={
            "tokens": tokens[0].tolist(),
            "loops": model.config.loops,
            "mixers": list(model.config.mixers),
            "unit": "loop",
        },
    )


def effective_rank(values: Tensor) -> Tensor:
    """exp(entropy of the singular values as shares), over the last axis (Roy and Vetterli 2007).

    Example:
        >>> effective_rank(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])).round(decimals=6).tolist()
        [2.0, 1.0]
    """
    share = values / values.sum(-1, keepdim=True).clamp_min(1e-30)
    return torch.special.entr(share).sum(-1).exp()


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    ends = {arm: looped.last(run, "val_loss", arm=arm) for arm in shapes(config)}
    told = "; ".join(f"{arm}: {looped.listed(found)}" for arm, found in ends.items())
    setting = f"{config.steps} steps of {config.batch} x {config.context} bytes, width {config.width}, {config.layers} layers; nats per byte: {told}"
    made: list[Claim] = []
    for id, statement, worse, better, paper, source in (
        ("looping", f"the same parameters {config.loops} times instead of once lower the loss (difference)", "hybrid, once", "hybrid", math.log(10.65 / 9.87), "table of 4.1, softmax 10.65 to 9.87"),
        ("hybrid", "a looped hybrid has a lower loss than looped softmax attention (difference)", "softmax", "hybrid", math.log(9.87 / 9.31), "table of 4.2, ratio 1:4"),
        ("linear", "looped gated delta has a lower loss than looped softmax attention (difference)", "softmax", "gated delta", math.log(9.87 / 9.75), "table of 4.1; at 0.6 B it is higher"),
    ):  # fmt: skip
        gained = [a - b for a, b in zip(ends[worse], ends[better])]
        mean, spread = looped.summarize(gained)
        made.append(Claim(
            id, statement, paper=round(paper, 4), ours=mean, spread=spread, unit="nats",
            status="direction only" if min(gained) > 0 else "not reproduced",
            note=f"{setting}. The paper's number is per token at 1.3 B parameters and 100 B tokens: the sign is what compares",
            source=f"2605.20670, {source}", **common,
        ))  # fmt: skip
    by_seed = [looped.rows(run, "at_loops", seed=s) for s in range(config.seed, config.seed + config.seeds)]
    peaks = [float(min(found, key=lambda r: r["curve_loss"])["at_loops"]) for found in by_seed]
    mean, spread = looped.summarize(peaks)
    first = ", ".join(f"{r['at_loops']}: {r['curve_loss']:.3f}" for r in by_seed[0])
    made.append(Claim(
        "peak", "quality is best at the number of loops in training (loops at the least loss)", paper=float(config.loops), ours=mean, spread=spread,
        unit="loops", status="reproduced" if all(p == config.loops for p in peaks) else "not reproduced",
        note=f"held-out loss by loops, first seed: {first}", source="2510.25741 (Ouro: best at T = 4, worse at 5 to 8)", **common,
    ))  # fmt: skip
    saved = run.trajectory()
    residual = residuals(saved)
    T = int(saved.meta["loops"])
    shrinks = float(residual[T].mean() / residual[1].mean())
    kind = settling(saved, of="h")["kind"]
    made.append(Claim(
        "settles", f"the residual stream moves less in loop {T} than in loop 1 (rms change, ratio)", paper="below 1", ours=shrinks,
        status="reproduced" if shrinks < 1 else "not reproduced",
        note=f"loop {len(residual) - 1}: {float(residual[-1].mean() / residual[1].mean()):.3f}; settling says: {kind}; one text of {residual.shape[1]} tokens",
        source="LT2 fact sheet, section 10 (early exit)", **common,
    ))  # fmt: skip
    for id, statement, paper in (
        ("paper-scale", "1.3 B parameters on 100 B tokens: perplexity of the looped hybrid", 9.31),
        (
            "niah",
            "needle in a haystack at twice the trained length (NIAH-Single-2, 4k): looped Full + GDN",
            81.0,
        ),
    ):
        made.append(Claim.not_attempted(
            id, statement, paper=paper, why="training at that scale takes 2.9e21 floating-point operations, some 2,000 GPU hours, and a corpus that was not at hand",
            preset=config.preset, hardware=run.hardware,
        ))  # fmt: skip
    return made


def residuals(saved: Trajectory) -> Tensor:
    """Root mean square of h_t - h_{t-1} over channels, `[loops + 1, L]`; NaN at 0."""
    h = saved["h"]
    step = (h[1:] - h[:-1]).square().mean(-1).sqrt()
    return torch.cat([torch.full_like(step[:1], math.nan), step])


# ---------------------------------------------------------------- figures


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Residual and read-out per loop and token, loss against loops, rank of the memory per loop, learning curves."""
    config, saved = run.config_as(Config), run.trajectory()
    return {
        "residual": residual_map(saved),
        "lens": lens_map(saved),
        "loops": loss_curve(config, run),
        "rank": state_rank(saved),
        "learning": learning(config, run),
    }


def letter(token: int) -> str:
    """A byte as it can be printed.

    Example:
        >>> letter(97), letter(10), letter(32), letter(200)
        ('a', '↵', '␣', '·')
    """
    if token in (10, 32):
        return "↵" if token == 10 else "␣"
    return chr(token) if 32 < token < 127 else "·"


def residual_map(saved: Trajectory) -> tuple[Any, str]:
    """How far each token still moves in each loop."""
    from matplotlib.figure import Figure

    values = residuals(saved)[1:]
    figure = Figure(figsize=(9.0, 2.6), layout="constrained")
    ax = axes(figure.add_subplot())
    shown = ax.imshow(
        values.log10().numpy(), aspect="auto", cmap="cividis", origin="lower", interpolation="nearest"
    )
    _letters(ax, saved)
    ax.set(yticks=range(len(values)), yticklabels=range(1, len(values) + 1), ylabel="loop")
    ax.axhline(saved.meta["loops"] - 0.5, color="white", lw=1.2, ls="--")
    figure.colorbar(shown, ax=ax, label="log10 rms change", pad=0.01)
    return (
        figure,
        "How far the residual stream of each token moves in each loop. Above the dashed line: more loops than in training.",
    )


def lens_map(saved: Trajectory) -> tuple[Any, str]:
    """What each loop would have said."""
    from matplotlib.figure import Figure

    reading = lens(saved, of="logits", k=1, labels=letter)
    answer, p = reading["answer"], reading["probability"][..., 0]
    loops, length = answer.shape
    figure = Figure(figsize=(9.0, 2.9), layout="constrained")
    ax = axes(figure.add_subplot())
    shown = ax.imshow(
        p.float().numpy(),
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        origin="lower",
        interpolation="nearest",
    )
    truth = saved.meta["tokens"][1:]
    for t in range(loops):
        for i in range(length):
            right = i < len(truth) and int(answer[t, i]) == truth[i]
            ax.text(i, t, letter(int(answer[t, i])), ha="center", va="center", fontsize=7, fontweight="bold" if right else "normal",
                    color="white" if p[t, i] > 0.6 else "#1c1e21", alpha=1.0 if right else 0.6)  # fmt: skip
    _letters(ax, saved)
    ax.set(yticks=range(loops), yticklabels=["emb", *range(1, loops)], ylabel="loop")
    ax.axhline(saved.meta["loops"] + 0.5, color="#1c1e21", lw=1.2, ls="--")
    figure.colorbar(shown, ax=ax, label="its probability", pad=0.01)
    return figure, (
        "The likeliest next character after each loop, by the model's own read-out, below the text that was read; bold where it is the "
        "character that follows. Above the dashed line: more loops than in training."
    )


def _letters(ax: Any, saved: Trajectory) -> None:
    words = [letter(token) for token in saved.meta["tokens"]]
    ax.set_xticks(range(len(words)), words, fontsize=7)
    ax.tick_params(axis="x", length=0)


def loss_curve(config: Config, run: Run) -> tuple[Any, str]:
    """Held-out loss against loops."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    ax = axes(figure.add_subplot())
    for seed in range(config.seed, config.seed + config.seeds):
        mine = looped.rows(run, "at_loops", seed=seed)
        ax.plot([r["at_loops"] for r in mine], [r["curve_loss"] for r in mine], color=looped.ORANGE, marker="o", ms=4,
                label=f"trained with {config.loops} loops" if seed == config.seed else None)  # fmt: skip
    once = looped.summarize(looped.last(run, "val_loss", arm="hybrid, once"))[0]
    ax.plot(1, once, "s", color=looped.BLUE, ms=6, label="trained with one")
    ax.axvline(config.loops, color="#1c1e21", lw=0.8, ls=":")
    ax.set(xlabel="loops", ylabel="held-out loss (nats per byte)")
    ax.legend(frameon=False)
    return (
        figure,
        "The trained hybrid, given fewer or more loops than in training (dotted), beside the same shape trained with one.",
    )


def state_rank(saved: Trajectory) -> tuple[Any, str]:
    """How many directions the memory of each loop uses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    ax = axes(figure.add_subplot())
    names = [name for name in saved.records if name.startswith("S/")]
    for color, name in zip(COLORS, names):
        ax.plot(
            saved.t[1:],
            effective_rank(saved[name][1:]).mean(-1),
            color=color,
            marker="o",
            ms=4,
            label=f"layer {name[2:]}",
        )
    size = saved[names[0]].shape[-1] if names else 0
    ax.axvline(saved.meta["loops"], color="#1c1e21", lw=0.8, ls=":")
    ax.set(xlabel="loop", ylabel=f"effective rank of S (of {size})", ylim=(0, None))
    ax.legend(frameon=False)
    return (
        figure,
        "Effective rank of each gated delta layer's memory after the text, by loop (mean over heads). Each loop has a memory of its own.",
    )


def learning(config: Config, run: Run) -> tuple[Any, str]:
    """Held-out loss over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    ax = axes(figure.add_subplot())
    for color, arm in zip((looped.ORANGE, "#56B4E9", looped.BLUE, "#009E73"), shapes(config)):
        for seed in range(config.seed, config.seed + config.seeds):
            mine = looped.rows(run, "val_loss", arm=arm, seed=seed)
            ax.plot(
                [r["step"] for r in mine],
                [r["val_loss"] for r in mine],
                color=color,
                marker="o",
                ms=3,
                label=arm if seed == config.seed else None,
            )
    ax.set(xlabel="step", ylabel="held-out loss (nats per byte)")
    ax.legend(frameon=False)
    return figure, f"Held-out loss while training; all but one are applied {config.loops} times."
