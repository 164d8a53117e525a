"""A run of every system, made by the real studies at a very small size: what the browser tests and the screenshots look at."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import torch

from unrolled.core import Trajectory, rollout
from unrolled.instruments import settling
from unrolled.runs import Claim, Run
from unrolled.toys import Hopfield

STUDIES: dict[str, dict[str, Any]] = {
    "cortex-ra25": {"epochs": 2, "hidden": 6, "trials": 6},
    "curvature-text": {"steps": 12, "warmup": 1, "text_bytes": 300_000, "width": 32, "context": 32, "batch": 8, "probe_every": 2},
    "latent-superposition": {"problems": 4, "graphs": 1, "walks": 5},
    "looped-speed": {
        "lengths": (32, 64, 128), "rounds": 1, "texts": (8, 24, 64), "width": 16, "heads": 2, "size": 16, "layers": 2, "loops": 2, "decode": 2,
    },
}  # fmt: skip
"""Study -> what is changed of its tiny preset."""

HOSTILE = (
    "<script>document.title = 'taken'; fetch('http://evil.example/')</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "\u202egnirts desrever\u202c and \u2066isolated\u2069 \u200bzero width \u0007bell",
    "x" * 1_000_000,
    "]]>--><!-- </textarea></title><style>*{display:none}</style>",
)


def study(name: str, root: Path, **changes: Any) -> Path:
    """Run a study and give its folder."""
    module = importlib.import_module(f"unrolled.studies.{name.replace('-', '_')}")
    config = dataclasses.replace(module.tiny(), **(STUDIES.get(name, {}) | changes))
    with Run.create(name, config, root=root) as run:
        run.save_claims(module.study(config, run))
    return run.path


def debate(root: Path) -> Path:
    """A generated debate with its fit, as `debate-recorded` shows it."""
    from unrolled.debate import FJFits, fit
    from unrolled.studies import _debate, _debate_exhibits

    log, _ = _debate.generated(1, 5, 0.002, torch.Generator().manual_seed(3))
    fits = fit(log.beliefs)
    assert isinstance(fits, FJFits)
    with Run.create("debate-fixture", {"preset": "fixture", "seed": 3}, root=root) as run:
        _debate_exhibits.show(run, log.questions[0], fits[0])
        run.save_claims(
            [
                Claim(
                    "recovered",
                    "the fit predicts the next round (squared error)",
                    ours=fits[0].mse,
                    status="direction only",
                )
            ]
        )
    return run.path


def looped(root: Path, steps: int = 20) -> Path:
    """One looped model of text, as `looped-lm` shows its first hybrid; the study trains four."""
    from unrolled.studies import _looped, _looped_exhibits, looped_lm
    from unrolled.training import corpus

    config = dataclasses.replace(
        looped_lm.tiny(), width=32, heads=2, batch=8, context=40, loops=3, text_bytes=300_000
    )
    text, _ = corpus(max_bytes=config.text_bytes).split(0.05)
    batches = text.batches(batch=config.batch, context=config.context, seed=0)
    with Run.create("looped-fixture", config, root=root) as run:
        model, _ = _looped.train(
            run,
            {"arm": "hybrid"},
            looped_lm.shapes(config)["hybrid"],
            batches,
            steps=steps,
            lr=6e-3,
            seed=0,
            each_step=True,
        )
        saved = looped_lm.watched(model, looped_lm.varied(batches(0)[0])[None], 5)
        _looped_exhibits.show(run, saved, looped_lm.residuals(saved), looped_lm.letter)
        run.save_claims(
            [
                Claim.not_attempted(
                    "peak", "quality is best at the trained number of loops", why="a fixture claims nothing"
                )
            ]
        )
    return run.path


def networks(root: Path) -> Path:
    """Two gene networks, as `sbml-attractors` shows them; its claims take too long for a fixture."""
    from unrolled.sbml import models
    from unrolled.studies import _sbml_exhibits

    with Run.create("sbml-networks", {"preset": "fixture", "seed": 0}, root=root) as run:
        _sbml_exhibits.show(run, models.named("tyson1999"), "tyson1999", 72)
        _sbml_exhibits.show(run, models.named("gardner2000"), "gardner2000", 8, starts=5)
        run.save_claims(
            [Claim.not_attempted("rhythm", "tyson1999 oscillates", why="a fixture claims nothing")]
        )
    return run.path


def game(root: Path, steps: int = 4_000) -> Path:
    """A gene network between interfaces that have hardly learned, as `game-cartpole` shows it."""
    from unrolled.studies import _game, game_cartpole

    config = game_cartpole.Config(preset="fixture", steps=steps, wide=())
    with Run.create("game-fixture", config, root=root) as run:
        for system in game_cartpole.systems(config):
            _game.learn(run, game_cartpole.ENV, system, 0, steps=steps, preset=config.training)
        game_cartpole.show(config, run)
        run.save_claims(
            [Claim.not_attempted("balance", "the pole is balanced", why="a fixture claims nothing")]
        )
    return run.path


def own_system(root: Path) -> Path:
    """A system that no study knows: its trajectory and a reading alone."""
    net = Hopfield(torch.eye(6, dtype=torch.float64)[:2] * 2 - 1)
    start = torch.sign(torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    done = rollout(net, start, 12)
    with Run.create("my-own-system", {"preset": "none", "seed": 1}, root=root) as run:
        for step in range(12):
            run.log(step=step, energy=float(step) ** 0.5, kind="hopfield")
        run.save_trajectory(
            Trajectory.from_records(
                done.t, {**done.records, "wide": torch.rand(13, 40), "map": torch.rand(13, 5, 7)}
            )
        )
        run.save_reading(settling(done, of=next(iter(done.records))))
    return run.path


def every_kind(root: Path) -> Path:
    """One exhibit of each kind, with what is hostile wherever a text can stand."""
    rng = torch.Generator().manual_seed(0)
    t = list(range(6))
    bad = HOSTILE[0]
    timed: dict[str, Any] = {"unit": "round", "t": t}
    with Run.create("every-kind", {"preset": bad, "seed": 0}, root=root) as run:
        entries = [
            {"speaker": f"{bad}{i}", "text": text, "index": i, "note": bad, "moved_by": {bad: 0.5}}
            for i, text in enumerate(HOSTILE)
        ]
        run.save_exhibit(
            "transcript", "transcript", title=bad, caption=bad, **timed, data={"entries": entries}
        )
        run.save_exhibit(
            "lines",
            "lines",
            title="lines",
            **timed,
            arrays={"a": [1.0, 2, float("nan"), 4, 5, 6], bad: torch.rand(6, 2, generator=rng)},
        )
        run.save_exhibit(
            "raster",
            "raster",
            title="raster",
            **timed,
            arrays={"values": torch.rand(6, 30, generator=rng)},
            data={
                "groups": [{"label": bad, "start": 0, "stop": 30}],
                "bands": [{"label": bad, "start": 0, "stop": 3, "role": "minus"}],
            },
        )
        run.save_exhibit(
            "heatmap",
            "heatmap",
            title="heatmap",
            **timed,
            arrays={"values": torch.randn(6, 3, 4, generator=rng)},
            data={"rows": [bad, "b", "c"], "diverging": True},
        )
        run.save_exhibit(
            "bars",
            "bars",
            title="bars",
            **timed,
            arrays={"values": torch.rand(6, 2, 3, generator=rng)},
            data={"labels": [bad, "b", "c"], "groups": ["x", bad]},
        )
        run.save_exhibit(
            "graph",
            "graph",
            title="graph",
            **timed,
            arrays={"edges": torch.rand(6, 3, 3, generator=rng), "ring": torch.rand(6, 3, generator=rng)},
            data={"nodes": [bad, "b", "c"]},
        )
        run.save_exhibit(
            "frontier",
            "frontier",
            title="frontier",
            **timed,
            arrays={"weight": torch.rand(6, 3, generator=rng)},
            data={"nodes": [bad, "b", "c"], "edges": [[0, 1], [1, 2], [2, 0]], "start": 0, "goals": [2]},
        )
        run.save_exhibit(
            "lens",
            "lens",
            title="lens",
            **timed,
            arrays={"probability": torch.rand(6, 2, 3, generator=rng)},
            data={"text": [[[bad, "b", "\u202ec"]] * 2] * 6, "rows": [bad, "y"]},
        )
        run.save_exhibit(
            "phase",
            "phase",
            title="phase",
            **timed,
            arrays={
                "x": torch.rand(6, generator=rng),
                "y": torch.rand(6, generator=rng),
                "u": torch.randn(4, 4, generator=rng),
                "v": torch.randn(4, 4, generator=rng),
            },
            data={
                "xlabel": bad,
                "ylabel": "y",
                "points": [{"x": 0.5, "y": 0.5, "label": bad, "stable": True}],
            },
        )
        run.save_exhibit(
            "scatter",
            "scatter",
            title="scatter",
            arrays={
                "x": torch.rand(20, generator=rng),
                "y": torch.rand(20, generator=rng),
                "group": torch.arange(20) % 2,
            },
            data={"groups": [bad, "b"], "diagonal": True},
        )
        run.save_exhibit(
            "frames",
            "frames",
            title="frames",
            **timed,
            arrays={
                "before": torch.randint(0, 255, (6, 20, 30, 3), dtype=torch.uint8, generator=rng),
                "after": torch.rand(6, 20, 30, generator=rng),
            },
        )
        run.save_exhibit(
            "table",
            "table",
            title="table",
            **timed,
            data={"columns": [bad, "n"], "rows": [[bad, i] for i in range(6)], "index": t},
        )
        run.save_exhibit(
            "talk",
            "talk",
            title="talk",
            data={"about": bad, "examples": ["go left", bad], "model": "none.safetensors"},
        )
    return run.path  # fmt: skip


def all_of_them(root: Path) -> dict[str, Path]:
    """Every fixture run, by name."""
    made = {name: study(name, root) for name in STUDIES}
    for make in (looped, debate, networks, game, own_system, every_kind):
        path = make(root)
        made[path.parent.name] = path
    return made
