"""`FJ`: the opinion dynamics of Friedkin and Johnsen, as a system and in closed form."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""How far a row of W may be from summing to 1: rounding, not a typing error. Rows are then divided by their sum."""


class FJ:
    """Agents that are pulled to where they began, to where they are, and to what they hear.

    B(t+1) = Gamma S + H B(t), B(0) = S, with H = (I - Gamma)(A + (I - A) W) (debate fact sheet 2605.25929, equations 1
    and 2). Row i of S is agent i's initial belief; gamma_i is its stubbornness (pull to s_i), alpha_i its retention
    (weight of its own last belief in the rest), w_ij the share of its listening that goes to agent j; w_ii = 0.

    As a system, the input is S and the state is B: `rollout(FJ(...), S, steps=5)`. S is `[n]` (one number per agent),
    `[n, K]` (a distribution over K options per agent) or `[batch, n, K]`.

    `status` is `"ok"` when every agent is reached by some stubborn agent: then rho(H) < 1 and the equilibrium is
    unique. `"degroot"`: nobody is stubborn, and everybody listens, directly or not, to one group: the equilibrium is
    its consensus. `"reducible"`: some closed group without a stubborn member sits beside other groups. In the last two
    M is the limit of stubbornness eps -> 0 for those agents, and `reason` says who they are.

    **A caution.** M = (I - H)^-1 Gamma has gamma_j as a factor of column j: an agent without stubbornness has no
    influence at equilibrium, however often it is copied. `M_T` is the influence within T rounds, without that effect.

    Args:
        gamma: stubbornness, `[n]`, in [0, 1].
        alpha: retention, `[n]`, in [0, 1]; NaN is allowed where gamma is 1 (it plays no part).
        W: `[n, n]`, rows sum to 1, zero diagonal; a row of NaN is allowed where gamma or alpha is 1.

    Raises:
        ValueError: shapes that do not fit, a number outside its range, or a row of W that does not sum to 1.

    Example:
        Two agents; the first never moves, so it decides:

        >>> fj = FJ(gamma=[1.0, 0.0], alpha=[0.0, 0.5], W=[[0.0, 1.0], [1.0, 0.0]])
        >>> fj.pi.tolist(), fj.status
        ([1.0, 0.0], 'ok')
        >>> from unrolled.core import rollout
        >>> S = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> rollout(fj, S, steps=3)["state"][:, 1, 0].tolist()
        [0.0, 0.5, 0.75, 0.875]
    """

    readouts: Mapping[str, Callable[[Tensor], Tensor]]

    def __init__(self, gamma: Any, alpha: Any, W: Any) -> None:
        self.gamma, self.alpha, self.W = _parameters(gamma, alpha, W)
        self.readouts = {
            "belief": lambda state: state,
            "spread": lambda state: (_with_options(state).amax(-2) - _with_options(state).amin(-2)).amax(-1),
        }
        free = 1 - self.gamma
        alpha = torch.where(
            free > 0, self.alpha, 0.0
        )  # an undefined entry plays no part, nor does its gradient
        hear = free * (1 - alpha)
        weights = torch.where((hear > 0)[:, None], self.W, 0.0)
        self.H: Tensor = torch.diag(free * alpha) + hear[:, None] * weights
        """`[n, n]`, (I - Gamma)(A + (I - A) W): how this round's beliefs enter the next; rows sum to 1 - gamma."""
        self._groups, self.status, self.reason = _classify(self.H.detach(), self.gamma.detach())

    @classmethod
    def from_two_term(cls, Lambda: Any, W: Any) -> "FJ":
        """From the two-term form x(t+1) = Lambda W x(t) + (I - Lambda) x(0), where W may have a diagonal.

        gamma = 1 - lambda, alpha_i = w_ii, and the rest of the row divided by 1 - w_ii (fact sheet, A4). Where
        lambda_i = 0 the row is never used: alpha_i and the row of W become NaN.

        Args:
            Lambda: susceptibility, `[n]`, in [0, 1].
            W: `[n, n]`, rows sum to 1.

        Raises:
            ValueError: a number out of range, or shapes that do not fit.

        Example:
            >>> fj = FJ.from_two_term([1.0, 0.0], [[0.5, 0.5], [0.2, 0.8]])
            >>> fj.gamma.tolist(), fj.alpha.tolist(), fj.W[0].tolist()
            ([0.0, 1.0], [0.5, nan], [0.0, 1.0])
        """
        susceptibility, weights = _tensor(Lambda), _tensor(W)
        if (
            weights.ndim != 2
            or weights.shape[0] != weights.shape[1]
            or susceptibility.shape != weights.shape[:1]
        ):
            raise ValueError(
                f"Lambda has shape {tuple(susceptibility.shape)} and W {tuple(weights.shape)}: give [n] and [n, n]"
            )
        alpha = torch.where(susceptibility > 0, weights.diagonal(), math.nan)
        off = weights - torch.diag(weights.diagonal())
        return cls(1 - susceptibility, alpha, off / (1 - alpha)[:, None].where(alpha[:, None] < 1, torch.nan))

    @property
    def n(self) -> int:
        """How many agents."""
        return len(self.gamma)

    @property
    def spectral_radius(self) -> Tensor:
        """rho(H): beliefs approach the equilibrium like rho^t; 1 when the equilibrium needs a limit."""
        return torch.linalg.eigvals(self.H).abs().max()

    @property
    def M(self) -> Tensor:
        """`[n, n]`, total influence: B* = M S, rows sum to 1; (I - H)^-1 Gamma, proposition 2.1."""
        eye = torch.eye(self.n, dtype=self.H.dtype, device=self.H.device)
        if not self._groups:
            return torch.linalg.solve(eye - self.H, torch.diag(self.gamma))
        # Each group without a stubborn member ends at its own consensus; the others mix those and their own anchors.
        made = torch.zeros_like(self.H)
        bound = torch.zeros(self.n, dtype=torch.bool, device=self.H.device)
        for group in self._groups:
            made[group[:, None], group] = _stationary(self.H[group[:, None], group]).expand(len(group), -1)
            bound[group] = True
        rest = (~bound).nonzero().squeeze(-1)
        if len(rest):
            inner = eye[rest[:, None], rest] - self.H[rest[:, None], rest]
            source = torch.diag(self.gamma)[rest] + self.H[rest][:, bound] @ made[bound]
            made[rest] = torch.linalg.solve(inner, source)
        return made

    @property
    def pi(self) -> Tensor:
        """`[n]`, influence of each agent: pi_j = mean over i of M_ij; sums to 1."""
        return self.M.mean(dim=0)

    def M_T(self, T: int) -> Tensor:
        """Influence within T rounds, `[n, n]`: B(T) = M_T S exactly, with M_T = H^T + sum over l < T of H^l Gamma.

        Args:
            T: rounds, 0 or more.

        Raises:
            ValueError: T is negative.

        Example:
            >>> FJ([0.5, 0.0], [0.0, 0.0], [[0, 1.0], [1.0, 0]]).M_T(1).tolist()
            [[0.5, 0.5], [1.0, 0.0]]
        """
        if T < 0:
            raise ValueError(f"M_T counts rounds from 0, got {T}")
        made = torch.eye(self.n, dtype=self.H.dtype, device=self.H.device)
        anchor = torch.diag(self.gamma)
        for _ in range(T):
            made = anchor + self.H @ made
        return made

    def equilibrium(self, S: Any) -> Tensor:
        """Where beliefs end, B* = M S.

        Args:
            S: initial beliefs, `[n]`, `[n, K]` or `[batch, n, K]`.

        Raises:
            ValueError: S is not for this many agents.
        """
        return self._apply(self.M, self._beliefs(S))

    def init(self, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """B(0) = S."""
        return self._beliefs(input).clone()

    def step(self, state: Tensor, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """B(t+1) = Gamma S + H B(t); the input is S."""
        anchor = self._beliefs(input)
        weight = self.gamma if anchor.ndim == 1 else self.gamma[:, None]
        return weight * anchor + self._apply(self.H, state)

    def _apply(self, matrix: Tensor, beliefs: Tensor) -> Tensor:
        return matrix.to(beliefs.dtype) @ beliefs

    def _beliefs(self, S: Any) -> Tensor:
        if S is None:
            raise ValueError("FJ needs the initial beliefs S as its input: rollout(fj, S, steps=5)")
        beliefs = torch.as_tensor(S)
        beliefs = beliefs if beliefs.is_floating_point() else beliefs.double()
        agents = len(beliefs) if beliefs.ndim == 1 else beliefs.shape[-2] if beliefs.ndim else 0
        if agents != self.n:
            raise ValueError(
                f"initial beliefs have shape {tuple(beliefs.shape)}; for {self.n} agents give [{self.n}], "
                f"[{self.n}, K] or [batch, {self.n}, K]"
            )
        return beliefs

    def __repr__(self) -> str:
        return f"FJ(n={self.n}, status={self.status!r})"


def _tensor(value: Any) -> Tensor:
    made = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    return made if made.is_floating_point() else made.double()


def _parameters(gamma: Any, alpha: Any, W: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Checked, in one dtype, rows of W divided by their sums."""
    made = [_tensor(x) for x in (gamma, alpha, W)]
    dtype = max((x.dtype for x in made), key=lambda d: torch.finfo(d).bits)
    gamma, alpha, W = (x.to(dtype) for x in made)
    n = len(gamma) if gamma.ndim == 1 else 0
    if not n or alpha.shape != (n,) or W.shape != (n, n):
        raise ValueError(
            f"gamma, alpha and W have shapes {tuple(gamma.shape)}, {tuple(alpha.shape)} and {tuple(W.shape)}: "
            "give [n], [n] and [n, n]"
        )
    if n == 1:
        raise ValueError("a debate needs at least two agents: with one there is nobody to listen to")
    if not ((gamma >= 0) & (gamma <= 1)).all():
        raise ValueError(f"stubbornness gamma lies in [0, 1], got {gamma.tolist()}")
    unused = gamma == 1
    if not (((alpha >= 0) & (alpha <= 1)) | (unused & alpha.isnan())).all():
        raise ValueError(f"retention alpha lies in [0, 1] (NaN only where gamma is 1), got {alpha.tolist()}")
    unheard = unused | (alpha == 1)
    used = W[~unheard]
    if not (used >= 0).all():
        raise ValueError("W holds negative or missing entries in a row that is used; weights are 0 or more")
    if (W.diagonal()[~unheard] != 0).any():
        raise ValueError(
            "W has a diagonal: how much an agent keeps of its own belief is alpha, so set w_ii = 0"
        )
    sums = used.sum(-1)
    if ((sums - 1).abs() > TOLERANCE).any():
        raise ValueError(f"rows of W sum to 1, these sum to {W.sum(-1).tolist()}; divide each row by its sum")
    scale = torch.where(unheard, torch.ones_like(gamma), W.sum(-1))
    return gamma, alpha, W / scale[:, None]


def _with_options(state: Tensor) -> Tensor:
    return state[:, None] if state.ndim == 1 else state


def _classify(H: Tensor, gamma: Tensor) -> tuple[list[Tensor], str, str]:
    """The closed groups without a stubborn member, the status, and who they are."""
    n = len(gamma)
    if bool((gamma > 0).all()):
        return [], "ok", ""
    reach = (H > 0) | torch.eye(n, dtype=torch.bool, device=H.device)
    for _ in range(max(1, math.ceil(math.log2(n)))):
        reach = (reach.double() @ reach.double()) > 0
    lost = ~(reach & (gamma > 0)).any(-1)
    if not lost.any():
        return [], "ok", ""
    groups: list[Tensor] = []
    for i in lost.nonzero().squeeze(-1).tolist():
        both = reach[i] & reach[:, i]
        if (
            torch.equal(both, reach[i]) and int(both.nonzero()[0]) == i
        ):  # closed, and named by its first member
            groups.append(both.nonzero().squeeze(-1))
    names = "; ".join(", ".join(map(str, group.tolist())) for group in groups)
    if bool(lost.all()) and len(groups) == 1:
        return groups, "degroot", f"nobody is stubborn: the equilibrium is the consensus of agents {names}"
    return (
        groups,
        "reducible",
        f"closed groups without a stubborn agent, each with a consensus of its own: {names}",
    )


def _stationary(P: Tensor) -> Tensor:
    """The row vector with pi P = pi that sums to 1, of an irreducible stochastic matrix."""
    n = len(P)
    eye, ones = torch.eye(n, dtype=P.dtype, device=P.device), torch.ones(n, dtype=P.dtype, device=P.device)
    return torch.linalg.solve(eye - P.mT + ones[:, None] * ones, ones)
