"""`agreement`: do policies of different origin do the same thing in the same situations?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.instruments.reading import Reading, axes

CONSTANT = 0.1
"""Second column of a one-dimensional action, as the paper's code has it, so that a cosine of two small vectors means something."""


class Agreement(Reading):
    """Who acts like whom."""

    def plot(self, ax: Any = None) -> Any:
        """The matrix of similarities, -1 to 1."""
        ax = axes(ax)
        image = ax.imshow(self["similarity"].numpy(), cmap="cividis", vmin=-1, vmax=1)
        ax.figure.colorbar(image, ax=ax, label="cosine")
        names = self["names"]
        if len(names) <= 24:
            ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.set_title(f"agreement in {len(self['observations'])} situations")
        return ax


def agreement(
    policies: Sequence[Any] | Mapping[str, Any],
    env: Any,
    *,
    n: int = 64,
    seed: int = 0,
    scores: Sequence[float] | None = None,
) -> Agreement:
    """Cosine similarity of what policies do in the same observations (2605.16321; fact sheet, A7).

    a_p is the raw output of policy p (logits, or a Gaussian's mean, nothing drawn) in n observations: for choices minus their mean
    in each observation, for a single joint with a constant column of 0.1 beside it; flattened and scaled to length 1.
    similarity[p, q] = a_p . a_q. The control is the same with the observations of q shuffled: what two policies share that do not
    look at the situation at all.

    Args:
        policies: of one environment, or name -> policy.
        env: its name: n beginnings of episodes are observed, as in the paper; or observations `[n, m]` of your own.
        n: how many beginnings.
        seed: of the beginnings and of the shuffle.
        scores: one per policy: how good they are; the mean similarity of the better half and of the worse half come back too.

    Returns:
        A reading: `similarity` `[P, P]`, `shuffled` `[P, P]`, `mean` (over pairs), `control` (mean of shuffled pairs), `names`,
        `observations`; with scores `better` and `worse`: mean over pairs within the better and the worse half.

    Raises:
        ValueError: fewer than two policies, of different environments, scores of another number, or observations of another width.

    Example:
        >>> from unrolled.languagegame import Policy
        >>> one = Policy.make("CartPole-v1", "tyson1999", seed=1)
        >>> made = agreement([one, one, Policy.make("CartPole-v1", "lorenz")], "CartPole-v1")
        >>> round(float(made["similarity"][0, 1]), 5), made["similarity"].shape
        (1.0, torch.Size([3, 3]))
    """
    named = (
        dict(policies) if isinstance(policies, Mapping) else {_name(i, p): p for i, p in enumerate(policies)}
    )
    if len(named) < 2:
        raise ValueError(f"agreement is between two policies or more, got {len(named)}")
    if scores is not None and len(scores) != len(named):
        raise ValueError(f"scores are one per policy: {len(named)}, got {len(scores)}")
    kinds = {(p.observations, p.actions, p.discrete) for p in named.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"the policies are of different environments: {sorted({p.env_id for p in named.values()})}"
        )
    seen = (
        beginnings(env, n, seed)
        if isinstance(env, str)
        else torch.as_tensor(np.asarray(env), dtype=torch.float32)
    )
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed))
    straight = torch.stack([actions(p, seen) for p in named.values()])
    mixed = torch.stack([actions(p, seen[order]) for p in named.values()])
    similarity, shuffled = straight @ straight.mT, straight @ mixed.mT
    apart = ~torch.eye(len(named), dtype=torch.bool)
    values: dict[str, Any] = {
        "similarity": similarity, "shuffled": shuffled, "mean": float(similarity[apart].mean()), "control": float(shuffled[apart].mean()),
        "names": list(named), "observations": seen,
    }  # fmt: skip
    if scores is not None:
        ranked = sorted(range(len(named)), key=lambda i: -scores[i])
        half = len(named) // 2
        for name, rows in (("better", ranked[:half]), ("worse", ranked[len(named) - half :])):
            block = similarity[rows][:, rows]
            off = ~torch.eye(len(rows), dtype=torch.bool)
            values[name] = float(block[off].mean()) if len(rows) > 1 else float("nan")
    return Agreement(
        "agreement", values, "cosine of the centred outputs of two policies in the same observations", "cosine",
        method="beginnings of episodes" if isinstance(env, str) else "observations given",
    )  # fmt: skip


def actions(policy: Any, observations: Tensor) -> Tensor:
    """A policy's outputs in n observations as one vector of length 1, `[n * A]`; zeros where it does nothing at all.

    Example:
        >>> from unrolled.languagegame import Policy
        >>> round(float(actions(Policy.make("Pendulum-v1", "lorenz"), torch.eye(3)).norm()), 5)
        1.0
    """
    made = policy.logits(observations).double()
    if policy.discrete:
        made = made - made.mean(-1, keepdim=True)
    elif made.shape[-1] == 1:
        made = torch.cat([made, torch.full_like(made, CONSTANT)], -1)
    flat = made.reshape(-1)
    return flat / flat.norm().clamp(min=1e-300)


def beginnings(env_id: str, n: int, seed: int) -> Tensor:
    """What is observed at the beginnings of n episodes, `[n, m]`.

    Raises:
        ValueError: no such environment.
    """
    from unrolled.languagegame import envs

    return torch.as_tensor(np.array(envs.make(env_id, n, seed=seed).reset()))


def played(policies: Sequence[Any], env_id: str, n: int = 64, *, seed: int = 0, steps: int = 100) -> Tensor:
    """What policies come to observe: n observations from episodes that each of them plays with drawn actions, `[n, m]`.

    Beginnings of an episode are much alike (CartPole's lie within 0.05 of rest); these are where policies really act.
    """
    from unrolled.languagegame import envs

    rng = torch.Generator().manual_seed(seed)
    seen: list[Tensor] = []
    for k, policy in enumerate(policies):
        env = envs.make(env_id, 4, seed=seed + 1000 * k)
        observed = torch.as_tensor(np.array(env.reset()))
        for _ in range(steps):
            made = env.step(policy.act(observed, rng=rng).numpy())
            observed = torch.as_tensor(np.array(made.obs))
            seen.append(observed)
    every = torch.cat(seen)
    return every[torch.randperm(len(every), generator=rng)[:n]]


def _name(i: int, policy: Any) -> str:
    return f"{policy.core.name} {i}"
