"""`properties`: the thirteen properties of the paper's fourteen networks, which of them can be computed, and what they predict.

The labels are the paper's (fact sheet A8); `computed` finds five of them again from the networks themselves. `test_properties`
runs the three tests on a table of scores, with their power; nothing is concluded where a test could not have found anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.languagegame import significance

NETWORKS = (
    "tyson1999", "weimann2004", "almeida2019", "leloup1999", "tyson1991", "gardner1998", "gerard2010", "chickarmane2006", "chickarmane2008",
    "zatorsky2006", "gardner2000", "liebal2012", "markevich2004", "kholodenko2000",
)  # fmt: skip
"""The fourteen, in the paper's order; the Lorenz attractor is a control and has no property."""

PROPERTIES: dict[str, tuple[str, ...]] = {
    "oscillatory": ("tyson1999", "weimann2004", "almeida2019", "leloup1999", "tyson1991", "gardner1998", "gerard2010", "zatorsky2006", "kholodenko2000"),
    "bistable": ("gardner2000", "chickarmane2006", "chickarmane2008"),
    "negative feedback": ("tyson1999", "weimann2004", "almeida2019", "leloup1999", "zatorsky2006", "kholodenko2000"),
    "ultrasensitivity": ("markevich2004", "gardner1998", "gerard2010", "gardner2000"),
    "non-oscillatory": ("chickarmane2006", "chickarmane2008", "gardner2000", "liebal2012", "markevich2004"),
    "circadian": ("tyson1999", "weimann2004", "almeida2019", "leloup1999"),
    "cell cycle": ("tyson1991", "gardner1998", "gerard2010"),
    "cell fate": ("chickarmane2006", "chickarmane2008"),
    "signal transduction": ("markevich2004", "kholodenko2000", "almeida2019"),
    "transcriptional": ("almeida2019", "liebal2012", "chickarmane2006", "chickarmane2008"),
    "phosphorylation": ("markevich2004", "kholodenko2000", "leloup1999", "gerard2010", "gardner1998"),
    "complex formation": ("almeida2019", "leloup1999", "chickarmane2006"),
    "conservation": ("tyson1991", "markevich2004", "kholodenko2000"),
}  # fmt: skip
"""Property -> the networks that the paper says have it."""

HELPS = ("transcriptional", "circadian")
HINDERS = ("ultrasensitivity", "conservation")
"""Directions that summaries of the paper report; sizes and p-values are in no source."""

PRIMITIVES: dict[str, tuple[str, ...]] = {
    "stabilization": ("cartpole", "pendulum", "humanoidstandup"),
    "energy pumping": ("acrobot", "mountaincar", "pendulum"),
    "target reaching": ("reacher", "acrobot", "pointmaze", "mountaincar", "pusher", "humanoidstandup"),
    "periodic motion": ("swimmer", "hopper", "halfcheetah", "fingerspin"),
    "survival": ("cartpole", "hopper"),
    "many joints": ("pusher", "humanoidstandup", "halfcheetah"),
    "manipulation": ("pusher", "fingerspin"),
    "contact": ("pusher", "fingerspin", "hopper"),
}
"""What games ask of a player: primitive -> games."""

HYPOTHESES: tuple[tuple[str, str, str], ...] = (
    ("oscillatory", "periodic motion", "better"), ("circadian", "periodic motion", "better"), ("negative feedback", "periodic motion", "better"),
    ("ultrasensitivity", "periodic motion", "worse"), ("complex formation", "manipulation", "better"),
)  # fmt: skip
"""Stated beforehand, one-sided: (property, primitive, direction)."""


def labels(networks: Sequence[str] = NETWORKS) -> Tensor:
    """Who has what, `[networks, 13]`, bool.

    Example:
        >>> labels().sum(0).tolist()
        [9, 3, 6, 4, 5, 4, 3, 2, 3, 4, 5, 3, 3]
    """
    return torch.tensor([[name in members for members in PROPERTIES.values()] for name in networks])


@dataclass(frozen=True)
class Computed:
    """What a network shows when it is looked at. None: not computed here, it is a matter of annotation.

    Attributes:
        oscillatory: its calibration runs keep moving.
        bistable: two or more stable resting states at the published parameters.
        circadian: it oscillates with a period of 18 to 30 (the time unit of the four is the hour).
        conservation: a total that involves two species or more stays constant.
        negative_feedback: the signs of the Jacobian on its attractor close a loop of two species or more with a negative product.
        period: of the oscillation, or the relaxation time, in the model's unit.
        stable: number of stable resting states found.
        laws: the conserved totals.
    """

    oscillatory: bool
    bistable: bool
    circadian: bool
    conservation: bool
    negative_feedback: bool
    period: float
    stable: int
    laws: tuple[str, ...]

    def agrees(self, network: str) -> dict[str, bool]:
        """Property -> whether what was computed is the paper's label."""
        mine = {
            "oscillatory": self.oscillatory, "bistable": self.bistable, "circadian": self.circadian, "conservation": self.conservation,
            "negative feedback": self.negative_feedback, "non-oscillatory": not self.oscillatory,
        }  # fmt: skip
        return {name: value == (network in PROPERTIES[name]) for name, value in mine.items()}


def computed(model: Any, *, starts: int = 32, seed: int = 0) -> Computed:
    """Find a network's properties with `unrolled.sbml.analysis`; seconds per network.

    Args:
        model: an `unrolled.sbml.Model`.
        starts: random starts of the calibration.
        seed: of the starts.

    Example:
        >>> from unrolled.sbml import models
        >>> found = computed(models.gardner2000(), starts=8)
        >>> found.oscillatory, found.bistable, found.conservation
        (False, True, False)
    """
    from unrolled.sbml.analysis import calibrate, conserved, steady_states

    rest = steady_states(model, seed=seed)
    what = calibrate(model, starts=starts, seed=seed, method="dopri5", max_steps=3_000_000)
    laws = tuple(str(law) for law in conserved(model))
    real = tuple(law for law in laws if "+" in law or "-" in law)
    period = float(what.time_scale)
    moving = bool(what.moving)
    return Computed(
        moving,
        len(rest.stable) > 1,
        moving and 18 <= period <= 30,
        bool(real),
        _negative_loop(model, what),
        period,
        len(rest.stable),
        laws,
    )


def _negative_loop(model: Any, what: Any) -> bool:
    """Whether some loop of at least two species has a negative product of Jacobian signs, at states on the attractor."""
    mu, std = torch.as_tensor(what.mu), torch.as_tensor(what.std)
    rng = torch.Generator().manual_seed(0)
    states = (mu + std * torch.randn(16, len(mu), generator=rng, dtype=mu.dtype)).clamp(min=1e-3)
    signs = model.jacobian(states).sign().cpu()
    return any(_closes(matrix) for matrix in signs)


def _closes(signs: Tensor) -> bool:
    """A simple cycle of length >= 2 with product -1 in a signed graph (row: to, column: from)."""
    d = len(signs)
    edges = {j: [(i, int(signs[i, j])) for i in range(d) if i != j and signs[i, j] != 0] for j in range(d)}

    def walk(first: int, node: int, product: int, seen: frozenset[int]) -> bool:
        for following, sign in edges[node]:
            if following == first and product * sign < 0:
                return True
            further = following > first and following not in seen and len(seen) < 6
            if further and walk(first, following, product * sign, seen | {following}):
                return True
        return False

    return any(walk(node, node, 1, frozenset({node})) for node in range(d))


@dataclass(frozen=True)
class Row:
    """One property: sign test over games, permutation test on mean ranks, and what each could have seen.

    Attributes:
        property: its name.
        members: how many networks have it.
        wins: games in which those with it do better (median against median).
        games: games without a tie.
        interval: Wilson's interval of the share of wins.
        p: of the sign test.
        q: adjusted over the properties.
        difference: of mean ranks, members minus others; negative where members are better.
        p_ranks: of the permutation test.
        q_ranks: adjusted over the properties.
        r: rank effect, positive where members are better.
        best_contingency: least adjusted p among its contingency tests.
        least_sign: the smallest p that the sign test could give here.
        least_contingency: the same of Fisher's test: a property above 0.05 can never be found by it.
        least_ranks: the same of the permutation test.
    """

    property: str
    members: int
    wins: int
    games: int
    interval: tuple[float, float]
    p: float
    q: float
    difference: float
    p_ranks: float
    q_ranks: float
    r: float
    best_contingency: float
    least_sign: float
    least_contingency: float
    least_ranks: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def properties(
    scores: Tensor, networks: Sequence[str] = NETWORKS, *, table: Mapping[str, Sequence[str]] = PROPERTIES
) -> list[Row]:
    """The three tests of every property on a table of scores.

    Args:
        scores: `[networks, games]`, more is better, averaged over seeds; finite.
        networks: names of the rows.
        table: property -> members. Properties that all or none of the networks have are left out.

    Raises:
        ValueError: scores of another shape, or not finite.

    Example:
        A property whose members win every one of sixteen games:

        >>> better = torch.tensor([[float(name in PROPERTIES["circadian"])] * 16 for name in NETWORKS])
        >>> noise = torch.randn(14, 16, generator=torch.Generator().manual_seed(0)) * 0.01
        >>> row = next(r for r in properties(better + noise) if r.property == "circadian")
        >>> row.wins, round(row.p, 7), round(row.p_ranks, 6), row.best_contingency >= 0.05
        (16, 3.05e-05, 0.000999, True)
    """
    x = torch.as_tensor(scores, dtype=torch.float64)
    if x.ndim != 2 or len(x) != len(networks):
        raise ValueError(f"scores are [{len(networks)} networks, games], got shape {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        bad = [str(networks[i]) for i in torch.nonzero(~torch.isfinite(x).all(1)).flatten().tolist()]
        raise ValueError(
            f"scores of {', '.join(bad)} are not finite: leave these networks out, or train them again"
        )
    rows = {name: [i for i, n in enumerate(networks) if n in members] for name, members in table.items()}
    rows = {name: members for name, members in rows.items() if 0 < len(members) < len(networks)}
    ranks = significance.mean_ranks(x).tolist()
    signs = {name: significance.sign_over_games(x, members) for name, members in rows.items()}
    moved = {name: significance.permutation_test(ranks, members) for name, members in rows.items()}
    cells = [(name, p) for name, members in rows.items() for p in significance.top_half(x, members)]
    contingency = significance.adjusted([p for _, p in cells])
    best = {name: min(q for (other, _), q in zip(cells, contingency) if other == name) for name in rows}
    q = dict(zip(rows, significance.adjusted([signs[name].p for name in rows])))
    q_ranks = dict(zip(rows, significance.adjusted([moved[name].p for name in rows])))
    return [
        Row(
            name, len(members), signs[name].wins, signs[name].games, signs[name].interval, signs[name].p, q[name], moved[name].difference,
            moved[name].p, q_ranks[name], moved[name].r, best[name], significance.least_sign_p(x.shape[1]),
            significance.least_fisher_p(len(x), len(members)), significance.least_permutation_p(len(x), len(members)),
        )
        for name, members in rows.items()
    ]  # fmt: skip


def hypotheses(
    scores: Tensor, games: Sequence[str], networks: Sequence[str] = NETWORKS
) -> list[dict[str, Any]]:
    """The five one-sided hypotheses, on mean ranks over the games of their primitive; NaN where no such game was played.

    Args:
        scores: `[networks, games]`.
        games: names of the columns.
        networks: names of the rows.
    """
    made: list[dict[str, Any]] = []
    for name, primitive, direction in HYPOTHESES:
        columns = [j for j, game in enumerate(games) if game in PRIMITIVES[primitive]]
        members = [i for i, network in enumerate(networks) if network in PROPERTIES[name]]
        p = math.nan
        if columns and 0 < len(members) < len(networks):
            ranks = significance.mean_ranks(torch.as_tensor(scores, dtype=torch.float64)[:, columns])
            done = significance.permutation_test(ranks.tolist(), members)
            p = done.less if direction == "better" else done.greater
        made.append(
            {"property": name, "primitive": primitive, "direction": direction, "games": len(columns), "p": p}
        )
    return made
