"""Why does Muon need fewer steps than Adam? A small GPT on real text, every step's loss change taken apart.

Runs from the same weights on the same batches: Adam; Muon on the hidden matrices at its own best learning rate; and
Muon at Adam's learning rate, where its updates are as long as Adam's. Every few steps the realised decrease of the
loss is split into gradient gain and curvature penalty, and runs are compared at equal validation loss. The text is the source of the Python standard library that is running, or any file or folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unrolled.runs import Claim, Run
from unrolled.studies import _curvature as curvature
from unrolled.studies import _curvature_exhibits as exhibits
from unrolled.training import corpus, gpt

PAPER = curvature.PAPER
METHODS = ("muon", "adam", "match_rms", "hessian_vector_product", "directional_sharpness")

ARMS = ("adam", "muon", "muon-equal")


@dataclass(frozen=True)
class Config:
    """What is trained, and how it is probed."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: initial weights and order of the text"""
    seeds: int = 1
    """how many seeds"""
    optimizer: Literal["all", "adam", "muon", "muon-equal"] = "all"
    """one of them alone logs its decomposition, but the claims compare"""
    text: Path | None = None
    """a file or folder of text; by default the Python standard library's own source"""
    text_bytes: int = 8_000_000
    """of the text at most"""
    layers: int = 2
    heads: int = 4
    width: int = 64
    context: int = 64
    batch: int = 16
    """sequences per step"""
    steps: int = 300
    warmup: int = 30
    """steps of linearly rising learning rate; claims leave them out"""
    adam_lr: float = 6e-3
    muon_lr: float = 2e-2
    aux_lr: float = 6e-3
    """of the Adam that trains what Muon does not: embedding and gains"""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's, in both runs"""
    grid: tuple[float, ...] = ()
    """factors on adam_lr and muon_lr to choose from before the seeds are run; none uses the rates as they are"""
    probe_every: int = 10
    """steps between probes"""


def tiny() -> Config:
    """The tour: one seed, learning rates tuned beforehand by the grid of `small` (see docs/log)."""
    return Config()


def small() -> Config:
    """Five seeds, both learning rates chosen on a grid of four."""
    return Config(preset="small", seeds=5, grid=(0.25, 0.5, 1.0, 2.0))


def paper() -> Config:
    """A model of 10.6 M parameters on 64 MB of text, three seeds; needs a GPU. The 124M shape is `curvature-124m`."""
    return Config(
        preset="paper", seeds=3, grid=(0.25, 0.5, 1.0, 2.0), text_bytes=64_000_000, layers=6, heads=6, width=384,
        context=256, batch=64, steps=5000, warmup=250, adam_lr=2e-3, muon_lr=1e-2, aux_lr=2e-3, probe_every=50,
    )  # fmt: skip


def study(config: Config, run: Run) -> list[Claim]:
    """Tune, train every seed with both optimizers, judge."""
    train_text, held_out = corpus(config.text, max_bytes=config.text_bytes).split(0.05)
    run.log(corpus=train_text.source, tokens=len(train_text), sha256=train_text.sha256)
    names = ARMS if config.optimizer == "all" else (config.optimizer,)
    shape = gpt.GPTConfig(
        layers=config.layers, heads=config.heads, width=config.width, context=config.context
    )
    validate = held_out.batches(batch=4 * config.batch, context=config.context, seed=0)

    def build(name: str, seed: int, lr: float) -> tuple[gpt.GPT, Any, Any]:
        model = gpt.GPT(shape, rng=seed)
        optimizer = curvature.optimizer_for(name, model, lr=lr, adam_lr=config.aux_lr, betas=config.betas)
        return model, optimizer, train_text.batches(batch=config.batch, context=config.context, seed=seed)

    rates = curvature.best_rates(
        run, {"adam": config.adam_lr, "muon": config.muon_lr}, config.grid, lambda name, lr: build(name, curvature.TUNING_SEED, lr),
        validate, steps=config.steps, warmup=config.warmup,
    )  # fmt: skip
    for seed in range(config.seed, config.seed + config.seeds):
        for name in names:
            run.status(phase=f"training {curvature.NAME[name]}, seed {seed}")
            model, optimizer, batches = build(name, seed, rates[name])
            curvature.train(
                run, model, optimizer, batches, validate,
                labels={"optimizer": name, "seed": seed}, steps=config.steps, warmup=config.warmup,
                probe_every=config.probe_every,
            )  # fmt: skip
    labels = {name: {"optimizer": name, "seed": config.seed} for name in names}
    split = {name: found for name in names if (found := curvature.layers(run, **labels[name])) is not None}
    exhibits.show(run, {name: curvature.series(run, **labels[name]) for name in names}, curvature.NAME, split)
    return claims(config, run)


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common = {"preset": config.preset, "hardware": run.hardware}
    if config.optimizer != "all":
        why = f"only {config.optimizer} was trained"
        return [
            Claim.not_attempted(
                "nds-ratio",
                "Adam's NDS over Muon's at equal loss",
                why=why,
                command="unrolled run curvature-text",
                paper=1.76,
                **common,
            )
        ]
    made: list[Claim] = []
    for muon in ARMS[1:]:
        pairs, matrix_pairs = (
            [
                (
                    curvature.series(run, scope=scope, optimizer="adam", seed=seed),
                    curvature.series(run, scope=scope, optimizer=muon, seed=seed),
                )
                for seed in range(config.seed, config.seed + config.seeds)
            ]
            for scope in ("all", "matrix")
        )
        equal = muon == "muon-equal"
        made += curvature.comparison_claims(pairs, matrix_pairs, config.warmup, equal=equal, **common)
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Figures of the first seed, from the run folder alone."""
    config = run.config_as(Config)
    if config.optimizer != "all":
        return {}
    paths = {name: curvature.series(run, optimizer=name, seed=config.seed) for name in ARMS}
    curves = {name: curvature.losses(run, optimizer=name, seed=config.seed) for name in ARMS}
    return curvature.comparison_figures(paths, curves, config.warmup)
