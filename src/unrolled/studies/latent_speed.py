"""What a thought costs: beside a token, beside a plain pass, and beside reading the whole prefix again for each.

Training needs a thought before the next can be made, so the plain way is a pass over the prefix for every thought. With a
cache the question is read once, a thought is a pass of one column, and no thought asks for the vocabulary. The reference
implementation itself is the peer of `benchmarks/latent.py`; the peer here is the plain way at its best: batched, without
the head, everything else the same.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.latent import Example, Thinker
from unrolled.latent.backbone import HuggingFace, read
from unrolled.runs import Claim, Run

PAPER = {
    "title": "Training Large Language Models to Reason in a Continuous Latent Space",
    "authors": "Shibo Hao, Sainbayar Sukhbaatar, DiJia Su, Xian Li, Zhiting Hu, Jason Weston, Yuandong Tian",
    "arxiv": "2412.06769",
    "year": 2024,
}
VOCABULARY = 512


@dataclass(frozen=True)
class Config:
    """Shapes and repeats."""

    preset: str = "tiny"
    seed: int = 0
    width: int = 128
    layers: int = 2
    batch: int = 16
    question: int = 100
    answer: int = 12
    thoughts: tuple[int, ...] = (2, 6, 24)
    repeats: int = 3
    decoder: tuple[int, int] = (768, 12)
    """width and layers of the model whose thought and token are timed; GPT-2's"""
    context: int = 100


def tiny() -> Config:
    """Half a minute."""
    return Config()


def small() -> Config:
    """More repeats, and K = 4 and 48."""
    return Config(preset="small", thoughts=(2, 4, 6, 24, 48), repeats=9)


def gpt2(config: Config, width: int, layers: int, vocabulary: int) -> Any:
    """A GPT-2 of that shape, random weights, no dropout."""
    made = require("transformers", extra="hf")
    torch.manual_seed(config.seed)
    return made.GPT2LMHeadModel(
        made.GPT2Config(
            n_embd=width, n_layer=layers, n_head=max(1, width // 64), vocab_size=vocabulary, n_positions=512,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


def again(thinker: Thinker, rows: list[Example]) -> tuple[Tensor, Tensor]:
    """The plain way for rows of one length: the whole prefix for every thought, no cache, the head at the end only."""
    backbone = thinker.backbone
    sequence = backbone.embed(torch.tensor([row.question for row in rows]))

    def states(embeds: Tensor) -> Tensor:
        positions = torch.arange(embeds.shape[1]).expand(embeds.shape[0], -1)
        return backbone.advance(embeds, positions, None, None, None)[0]

    for step in range(rows[0].thoughts):
        thought = thinker.method.thought(backbone, states(sequence)[:, -1], step)
        sequence = torch.cat([sequence, thought[:, None]], 1)
    before = sequence.shape[1]
    tail = torch.tensor([row.tail for row in rows])
    hidden = states(torch.cat([sequence, backbone.embed(tail[:, :-1])], 1))[:, before - 1 :]
    labels = torch.tensor([row.labels for row in rows])
    return F.cross_entropy(
        backbone.head(hidden).flatten(0, 1), labels.flatten(), reduction="sum"
    ), torch.tensor(labels.numel())


def interleaved(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each, measured in turn after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(repeats + 1):
        for name, fn in runs.items():
            start = time.process_time()
            fn()
            if k:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(a: list[float], b: list[float]) -> tuple[float, float]:
    """Median of the ratios of runs that stood beside one another, and half the distance of its quartiles."""
    found = sorted(x / y for x, y in zip(a, b, strict=True))
    if len(found) < 3:
        return statistics.median(found), float("nan")
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return statistics.median(found), (high - low) / 2


def training(config: Config, K: int) -> tuple[dict[str, list[float]], float]:
    """CPU seconds of a step with K thoughts: ours, the prefix again, and a plain pass; and how far the losses are apart."""
    thinker = Thinker(gpt2(config, config.width, config.layers, VOCABULARY))
    rng = torch.Generator().manual_seed(config.seed)
    drawn = torch.randint(
        2, VOCABULARY, (config.batch, config.question + config.answer), generator=rng
    ).tolist()
    rows = [
        Example(
            tuple(row[: config.question]), K, tuple(row[config.question :]), tuple(row[config.question :])
        )
        for row in drawn
    ]
    plain = [Example(row.question, 0, row.tail, row.labels) for row in rows]
    optimizer = torch.optim.AdamW(thinker.parameters(), lr=0.0)
    kept: dict[str, float] = {}

    def step(name: str, loss: Callable[[], tuple[Tensor, Tensor]]) -> None:
        optimizer.zero_grad()
        summed, count = loss()
        (summed / count).backward()
        optimizer.step()
        kept[name] = float((summed / count).detach())

    seconds = interleaved(
        {
            "ours": lambda: step("ours", lambda: thinker.loss(rows)),
            "again": lambda: step("again", lambda: again(thinker, rows)),
            "plain": lambda: step("plain", lambda: thinker.loss(plain)),
        },
        config.repeats,
    )
    return seconds, abs(kept["ours"] - kept["again"])


def latency(config: Config) -> dict[str, list[float]]:
    """CPU seconds of a thought and of a token after a context, batch 1."""
    width, layers = config.decoder
    backbone = HuggingFace(gpt2(config, width, layers, 50257).eval())
    with torch.no_grad():
        _, stream = read(backbone, None, backbone.embed(torch.randint(0, 50000, (1, config.context))))

        def thought() -> None:
            read(backbone, stream.fork(backbone), stream.hidden[:, None])

        def token() -> None:
            _, after = read(backbone, stream.fork(backbone), backbone.embed(torch.tensor([[7]])))
            backbone.head(after.hidden).argmax(-1)

        return interleaved({"thought": thought, "token": token}, 2 * config.repeats + 1)


def study(config: Config, run: Run) -> list[Claim]:
    """Time a thought and a token, then a training step for each number of thoughts; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = latency(config)
        share, spread = ratio(seconds["thought"], seconds["token"])
        run.log(step=0, kind="latency", **{k: statistics.median(v) for k, v in seconds.items()}, share=share)
        run.progress(1, 1 + len(config.thoughts))
        found = []
        for k, K in enumerate(config.thoughts):
            times, apart = training(config, K)
            gain, gain_spread = ratio(times["again"], times["ours"])
            cost, cost_spread = ratio(times["ours"], times["plain"])
            found.append((K, gain, gain_spread, cost, cost_spread, apart))
            run.log(step=k + 1, kind="training", thoughts=K, gain=gain, cost=cost, loss_difference=apart,
                    **{name: statistics.median(values) for name, values in times.items()})  # fmt: skip
            run.progress(k + 2, 1 + len(config.thoughts))
    finally:
        torch.set_num_threads(threads)
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": 1}
    width, layers = config.decoder
    claims = [Claim(
        "thought", "a thought takes less of the processor than a token (ratio, context 100, batch 1)", paper=0.85, ours=share, spread=spread,
        status="reproduced" if share <= 0.85 else "not reproduced",
        note=f"{1e3 * statistics.median(seconds['thought']):.1f} against {1e3 * statistics.median(seconds['token']):.1f} ms of CPU time; GPT-2 of width {width}, "
        f"{layers} layers, random weights, one thread; reproduced: at most 0.85; the ideal is 0.69", source="latent fact sheet, part e and d.3", **common,
    )]  # fmt: skip
    for K, gain, gain_spread, cost, cost_spread, _ in found:
        claims.append(Claim(
            f"again-{K}", f"a training step with {K} thoughts against one that reads the prefix again for each (times faster)",
            paper="faster", ours=gain, spread=gain_spread, status="reproduced" if gain > 1 else "not reproduced",
            note="the same model, loss and batch in one process, in turn; the reference's own code is slower still (benchmarks/latent.py)",
            source="latent fact sheet, d.3", **common,
        ))  # fmt: skip
        if K <= 6:
            claims.append(Claim(
                f"plain-{K}", f"a training step with {K} thoughts costs hardly more than one with none (ratio)", paper="1.1 to 1.4", ours=cost,
                spread=cost_spread, status="reproduced" if cost <= 1.4 else "not reproduced", note="reproduced: at most 1.4", source="latent fact sheet, d.3", **common,
            ))  # fmt: skip
    worst = max(row[-1] for row in found)
    claims.append(Claim(
        "same", "and both ways are the same loss (largest difference)", paper=1e-5, ours=worst,
        status="reproduced" if worst <= 1e-5 else "not reproduced", note="float32", source="latent fact sheet, A1", **common,
    ))  # fmt: skip
    return claims


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Milliseconds against the number of thoughts."""
    from matplotlib.figure import Figure

    rows = [row for row in run.metrics() if row["kind"] == "training"]
    [one] = [row for row in run.metrics() if row["kind"] == "latency"]
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    left, right = (axes(ax) for ax in figure.subplots(1, 2, width_ratios=(2, 1)))
    K = [row["thoughts"] for row in rows]
    for name, color, label in (("again", COLORS[0], "the prefix again for each"), ("ours", COLORS[1], "with a cache"), ("plain", "#777777", "no thoughts")):  # fmt: skip
        left.plot(K, [1e3 * row[name] for row in rows], color=color, marker="o", markersize=4, label=label)
    left.set(xlabel="thoughts", ylabel="CPU ms a training step", title="Training", xticks=K, yscale="log")
    left.legend(frameon=False, fontsize=8)
    right.bar(
        ["token", "thought"],
        [1e3 * one["token"], 1e3 * one["thought"]],
        color=[COLORS[0], COLORS[1]],
        width=0.6,
    )
    right.set(ylabel="CPU ms", title="One step of decoding")
    return {
        "speed": (figure, "Left: a training step against the number of thoughts, medians, one thread. Right: a thought (no head, no vocabulary) beside a token, "
                  "at GPT-2's shape unless the configuration says otherwise."),
    }  # fmt: skip
