"""The three tests of the property analysis, exact, and what they can see at all: their power.

From the paper's code (2605.16321, fact sheet A8): a sign test over games, Fisher's exact test of a property against the better
half, an exact permutation test on mean ranks; false discoveries are held with Benjamini and Hochberg. With fourteen networks
these tests are weak, so beside each p stands the smallest that the design could ever give, and the power at a stated effect.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def sign_test(wins: int, trials: int) -> float:
    """Two-sided binomial p at 1/2, ties dropped beforehand.

    Raises:
        ValueError: wins outside 0..trials.

    Example:
        >>> [float(f"{sign_test(k, 16):.6g}") for k in (13, 14, 15, 16)]
        [0.0212708, 0.00418091, 0.000518799, 3.05176e-05]
        >>> sign_test(0, 0)
        1.0
    """
    if not 0 <= wins <= trials:
        raise ValueError(f"wins lie between 0 and the {trials} trials, got {wins}")
    extreme = max(wins, trials - wins)
    tail = math.fsum(math.comb(trials, k) for k in range(extreme, trials + 1)) / 2**trials
    return min(1.0, 2 * tail)


def wilson(wins: int, trials: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default.

    Example:
        >>> tuple(round(x, 5) for x in wilson(14, 16))
        (0.63977, 0.96502)
    """
    if trials == 0:
        return 0.0, 1.0
    share, width = wins / trials, z * z / trials
    centre = (share + width / 2) / (1 + width)
    half = z * math.sqrt(share * (1 - share) / trials + width / (4 * trials)) / (1 + width)
    return max(0.0, centre - half), min(1.0, centre + half)


def fisher(table: Sequence[Sequence[int]]) -> float:
    """Fisher's exact two-sided p of a 2 x 2 table.

    Example:
        >>> round(fisher([[4, 0], [3, 7]]), 7)
        0.0699301
    """
    return float(stats.fisher_exact(np.asarray(table)).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def log_odds(table: Sequence[Sequence[int]]) -> float:
    """Log odds ratio with 0.5 added to each cell, so that an empty one is no infinity.

    Example:
        >>> round(log_odds([[1, 1], [1, 1]]), 9)
        0.0
    """
    (a, b), (c, d) = table
    return math.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))


@dataclass(frozen=True)
class Permuted:
    """An exact permutation test: mean of the members minus that of the others, p-values, number of labellings, effect r.

    `p` is two-sided; `less` and `greater` are one-sided. r = 1 - 2 U / (n1 n2), positive where members have lower values.
    """

    difference: float
    p: float
    less: float
    greater: float
    labellings: int
    r: float


def permutation_test(values: Sequence[float], members: Sequence[int]) -> Permuted:
    """Every choice of as many members, exactly: is the mean of these members unusual?

    Args:
        values: one number per unit, as ranks (1 is best); few enough that all C(n, k) labellings can be tried.
        members: indices of those that have the property.

    Raises:
        ValueError: no member, all members, a member twice or beyond, or more than two million labellings.

    Example:
        >>> done = permutation_test(range(1, 15), (0, 1, 2, 3))
        >>> done.labellings, done.difference, round(done.p, 6), done.r
        (1001, -7.0, 0.001998, 1.0)
    """
    x = np.asarray(list(values), dtype=float)
    chosen, n, k = sorted(set(members)), len(x), len(set(members))
    if not 0 < k < n or len(chosen) != len(list(members)) or chosen[0] < 0 or chosen[-1] >= n:
        raise ValueError(
            f"members are distinct indices of some but not all of the {n} values, got {list(members)}"
        )
    count = math.comb(n, k)
    if count > 2_000_000:
        raise ValueError(f"C({n}, {k}) = {count:,} labellings are too many to try one by one")
    sums = x[_choices(n, k)].sum(1)
    differences = sums / k - (x.sum() - sums) / (n - k)
    mine = float(x[chosen].mean() - np.delete(x, chosen).mean())
    slack = 1e-9 * max(1.0, float(np.abs(x).max()))
    others = np.delete(x, chosen)
    u = float((x[chosen][:, None] > others).sum() + 0.5 * (x[chosen][:, None] == others).sum())
    return Permuted(
        mine, float((np.abs(differences) >= abs(mine) - slack).mean()), float((differences <= mine + slack).mean()),
        float((differences >= mine - slack).mean()), count, 1 - 2 * u / (k * (n - k)),
    )  # fmt: skip


@lru_cache(maxsize=16)
def _choices(n: int, k: int) -> np.ndarray:
    """Every k of n indices, `[C(n, k), k]`."""
    return np.array(list(combinations(range(n), k)))


def adjusted(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values: below q where the false discovery rate is held at q. NaN stays, uncounted.

    Example:
        >>> [round(v, 9) for v in adjusted([0.01, 0.04, 0.03, 0.5])]
        [0.04, 0.053333333, 0.053333333, 0.5]
    """
    values = np.asarray(list(p), dtype=float)
    made = np.full(len(values), math.nan)
    known = np.flatnonzero(~np.isnan(values))
    if len(known):
        made[known] = stats.false_discovery_control(values[known])
    return made.tolist()


# --- what the tests could ever see --------------------------------------------------------------------------------------


def least_sign_p(games: int) -> float:
    """The smallest p that the sign test can give: every game on one side.

    Example:
        >>> least_sign_p(16), least_sign_p(4)
        (3.0517578125e-05, 0.125)
    """
    return sign_test(games, games)


def least_fisher_p(networks: int, members: int) -> float:
    """The smallest p of Fisher's test of a property with so many members against the better half of the networks.

    Example:
        >>> [round(least_fisher_p(14, k), 4) for k in (2, 3, 4, 5)]
        [0.4615, 0.1923, 0.0699, 0.021]
    """
    half = networks // 2
    lowest = min(members, half)
    return fisher([[lowest, members - lowest], [half - lowest, networks - half - (members - lowest)]])


def least_permutation_p(networks: int, members: int) -> float:
    """The smallest p of the permutation test on n distinct evenly spaced ranks: the members are the best.

    Mean ranks can be spaced so that no other labelling is as extreme; then it is half of this.

    Example:
        >>> round(least_permutation_p(14, 4), 6), round(least_permutation_p(14, 2), 4)
        (0.001998, 0.022)
    """
    return permutation_test(range(networks), range(members)).p


def sign_power(share: float, games: int, *, alpha: float = 0.05, tests: int = 1) -> float:
    """Probability that the sign test sees a property that wins each game with probability `share`, alone among `tests`.

    A single true effect must pass alpha / tests under Benjamini and Hochberg. Games are taken as independent, which favours the
    test: the same networks play all of them.

    Example:
        >>> round(sign_power(0.5, 16), 4), sign_power(1.0, 4)
        (0.0213, 0.0)
    """
    passing = [k for k in range(games + 1) if sign_test(k, games) <= alpha / tests]
    return math.fsum(math.comb(games, k) * share**k * (1 - share) ** (games - k) for k in passing)


def detectable(power: Callable[[float], float], wanted: float = 0.8, top: float = 8.0) -> float:
    """The smallest effect in [0, top] at which a non-decreasing power reaches `wanted`; NaN where none does.

    Example:
        >>> round(detectable(lambda effect: min(1.0, effect / 2)), 6)
        1.6
    """
    if power(top) < wanted:
        return math.nan
    low, high = 0.0, top
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


def simulated_power(
    effect: float, members: int, *, networks: int = 14, games: int = 16, shared: float = 1.0, noise: float = 1.0, alpha: float = 0.05,
    tests: tuple[int, int, int] = (13, 208, 104), draws: int = 200, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Power of the three tests on scores drawn with a known effect.

    score[network, game] = effect * (has the property) + shared * a + noise * e, with a one standard normal number per network
    and e one per network and game. `shared` is what the paper's design cannot average away: a network's own quality shows in all
    of its games, and fourteen networks are all there are. The effect is in the unit of that spread.

    Args:
        effect: by how much members score higher.
        members: how many networks have the property.
        networks: how many there are.
        games: how many games.
        shared: deviation between networks.
        noise: deviation between games of one network, after averaging over seeds.
        alpha: the false discovery rate.
        tests: how many tests each family holds; the one effect must pass alpha / tests.
        draws: how many sets of scores.
        seed: of the draws.

    Returns:
        `sign`: found over all games. `contingency`: found in at least one game. `ranks`: found on mean ranks over all games.

    Example:
        >>> none = simulated_power(0.0, 4, draws=20)
        >>> none["contingency"]  # four members: Fisher's least p is 0.07
        0.0
    """
    rng = torch.Generator().manual_seed(seed)
    found = {"sign": 0, "contingency": 0, "ranks": 0}
    reachable = least_fisher_p(networks, members) <= alpha / tests[1]
    for _ in range(draws):
        scores = noise * torch.randn(networks, games, generator=rng, dtype=torch.float64)
        scores = scores + shared * torch.randn(networks, 1, generator=rng, dtype=torch.float64)
        scores[:members] += effect
        found["sign"] += sign_over_games(scores, range(members)).p <= alpha / tests[0]
        if reachable:
            found["contingency"] += min(top_half(scores, range(members))) <= alpha / tests[1]
        ranks = mean_ranks(scores)
        found["ranks"] += permutation_test(ranks.tolist(), range(members)).p <= alpha / tests[2]
    return {name: count / draws for name, count in found.items()}


# --- on a table of scores ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signs:
    """Over how many games those with a property do better (median against median), of how many without a tie."""

    wins: int
    games: int
    p: float
    interval: tuple[float, float]


def sign_over_games(scores: Tensor, members: Sequence[int]) -> Signs:
    """The sign test over games, on scores `[networks, games]`, more is better.

    Example:
        >>> sign_over_games(torch.tensor([[2.0, 2.0], [1.0, 1.0], [0.0, 3.0]]), (0,)).wins
        1
    """
    rows = torch.zeros(len(scores), dtype=torch.bool)
    rows[list(members)] = True
    apart = scores[rows].quantile(0.5, dim=0) - scores[~rows].quantile(0.5, dim=0)
    wins, games = int((apart > 0).sum()), int((apart != 0).sum())
    return Signs(wins, games, sign_test(wins, games), wilson(wins, games))


def top_half(scores: Tensor, members: Sequence[int]) -> list[float]:
    """Per game, Fisher's p of the property against the better half of the networks."""
    return [fisher(table) for table in top_half_tables(scores, members)]


def top_half_tables(scores: Tensor, members: Sequence[int]) -> list[list[list[int]]]:
    """Per game [[members in the better half, members in the other], [others in the better half, in the other]].

    Ties are kept in the order of the networks, as a stable sort does.
    """
    half, size, made = len(scores) // 2, len(list(members)), []
    for column in scores.T:
        best = set(torch.argsort(column, descending=True, stable=True)[:half].tolist())
        inside = len(best & set(members))
        made.append([[inside, size - inside], [half - inside, len(scores) - half - size + inside]])
    return made


def mean_ranks(scores: Tensor) -> Tensor:
    """Each network's rank within a game (1 is best, ties share), averaged over games, `[networks]`.

    Example:
        >>> mean_ranks(torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])).tolist()
        [2.0, 2.0, 2.0]
    """
    return torch.as_tensor(stats.rankdata(-scores.numpy(), axis=0).mean(1))


def omnibus(scores: Tensor, labels: Tensor, *, permutations: int = 10_000, seed: int = 42) -> float:
    """One test of all properties at once: are the sums of squared differences of mean ranks larger than by chance?

    Whole rows of labels are permuted among the networks, which keeps how properties overlap. p = (c + 1) / (n + 1).

    Args:
        scores: `[networks, games]`.
        labels: `[networks, properties]`, bool; each with some and without some.
        permutations: n.
        seed: of the permutations.
    """
    ranks, table = mean_ranks(scores), labels.double()
    sizes = table.sum(0)

    def statistic(rows: Tensor) -> Tensor:
        inside = ranks[rows] @ table
        return (inside / sizes - (ranks.sum() - inside) / (len(ranks) - sizes)).square().sum(-1)

    rng = torch.Generator().manual_seed(seed)
    mine = statistic(torch.arange(len(ranks)))
    drawn = torch.rand(permutations, len(ranks), generator=rng).argsort(-1)
    above = int((statistic(drawn) >= mine - 1e-12).sum())
    return (above + 1) / (permutations + 1)
