"""Scores and policies of many networks: from a run of game-matrix, or trained here."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.languagegame import Policy
from unrolled.runs import Run
from unrolled.studies import _game as shared


def source(
    run: Run,
    matrix: str,
    systems: Sequence[str],
    envs: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    training: str,
    optional: Sequence[str] = (),
) -> Run:
    """The run that holds the cells: the one named, or this one, in which those that are missing are trained now.

    A named run may lack the systems in `optional`.

    Raises:
        ValueError: the named run lacks some of the cells.
    """
    if not matrix:
        for seed in seeds:
            for env_id in envs:
                for system in [*systems, *optional]:
                    shared.learn(run, env_id, system, seed, steps=steps, preset=training)
        return run
    there = Run.open(matrix)
    rows = shared.rows(there, "done")
    have = {(r["env"], r["network"], r["seed"]) for r in rows}
    lacking = [(e, s, k) for e in envs for s in systems for k in seeds if (e, s, k) not in have]
    if lacking:
        env_id, system, seed = lacking[0]
        raise ValueError(
            f"{matrix} lacks {len(lacking)} of {len(systems) * len(envs) * len(seeds)} cells, the first {system} on {env_id} with "
            f"seed {seed}: finish it with `unrolled resume`, or ask for what it has with --networks, --envs and --seeds"
        )
    return there


def scores(
    there: Run, systems: Sequence[str], envs: Sequence[str], seeds: Sequence[int], field: str = "score"
) -> Tensor:
    """Means over seeds, `[systems, envs]`; NaN where a training came to nothing."""
    rows = shared.rows(there, "done")

    def cell(system: str, env_id: str) -> float:
        return shared.mean(
            [r for r in rows if (r["network"], r["env"]) == (system, env_id) and r["seed"] in seeds], field
        )

    return torch.tensor(
        [[cell(system, env_id) for env_id in envs] for system in systems], dtype=torch.float64
    )


def policies(
    there: Run, systems: Sequence[str], env_id: str, seeds: Sequence[int]
) -> dict[str, tuple[Any, float]]:
    """Name -> (policy, score), in order: systems, and within one the seeds by falling score, as the paper sorts them."""
    rows = shared.rows(there, "done", env=env_id)
    made: dict[str, tuple[Any, float]] = {}
    for system in systems:
        mine = sorted(
            (r for r in rows if r["network"] == system and r["seed"] in seeds),
            key=lambda r: -float(r["score"] or -1e18),
        )
        for row in mine:
            policy = Policy.load(shared.policy_file(there, env_id, system, int(row["seed"])))
            made[f"{system} {row['seed']}"] = (policy, float(row["score"]))
    return made
