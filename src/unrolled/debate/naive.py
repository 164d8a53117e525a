"""The slow twins of `fit`: non-negative least squares for one agent at a time, and a local search over (gamma, alpha, W).

They read like the equations and are what the fast path is held to; nothing else uses them.
"""

import numpy as np
from scipy import optimize

SUM_WEIGHT = 1e4
"""Weight of the row that asks the coefficients to sum to 1: they then do to about 1e-8."""


def design(beliefs: np.ndarray, agent: int) -> tuple[np.ndarray, np.ndarray]:
    """X and y of one agent: every option of every transition is a row, [s_i, b_1(t), ..., b_n(t)] its columns.

    Args:
        beliefs: `[T+1, n, K]`; transitions with a missing belief are left out.
        agent: i.

    Example:
        >>> X, y = design(np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 1.0]]]), agent=0)
        >>> X.tolist(), y.tolist()
        ([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.5, 0.5])
    """
    rounds = len(beliefs) - 1
    X = [
        np.column_stack([beliefs[0, agent], *beliefs[t]])
        for t in range(rounds)
        if np.isfinite([*beliefs[t].flat, *beliefs[t + 1, agent], *beliefs[0, agent]]).all()
    ]
    y = [
        beliefs[t + 1, agent]
        for t in range(rounds)
        if np.isfinite([*beliefs[t].flat, *beliefs[t + 1, agent], *beliefs[0, agent]]).all()
    ]
    return np.concatenate(X), np.concatenate(y)


def nnls(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The u that minimises ||X u - y||^2 over u >= 0, sum u = 1, by `scipy.optimize.nnls` with a heavy row of ones."""
    heavy = SUM_WEIGHT * np.ones((1, X.shape[1]))
    return optimize.nnls(np.vstack([X, heavy]), np.append(y, SUM_WEIGHT))[0]


def fit(beliefs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """gamma, alpha, W and the mean squared error of one trace `[T+1, n, K]`, by `nnls` row by row.

    Example:
        >>> trace = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.55, 0.45]], [[0.9, 0.1], [0.725, 0.275]]])
        >>> gamma, alpha, W, loss = fit(trace)
        >>> bool(loss < 1e-15)
        True
    """
    n = beliefs.shape[1]
    gamma, alpha, W, squares = np.zeros(n), np.zeros(n), np.zeros((n, n)), []
    for i in range(n):
        X, y = design(beliefs, i)
        u = nnls(X, y)
        u = u / u.sum()
        gamma[i], alpha[i], W[i] = split(u, i)
        squares.append((X @ u - y) ** 2)
    return gamma, alpha, W, float(np.concatenate(squares).mean())


def split(u: np.ndarray, agent: int) -> tuple[float, float, np.ndarray]:
    """gamma, alpha and the row of W from u = [gamma, (1 - gamma) alpha at i, (1 - gamma)(1 - alpha) w_ij]."""
    peers = np.delete(u[1:], agent)
    row = np.full(len(u) - 1, np.nan)
    if peers.sum() > 0:
        row = np.insert(peers / peers.sum(), agent, 0.0)
    return u[0], u[1 + agent] / (1 - u[0]) if u[0] < 1 else np.nan, row


def local_search(
    beliefs: np.ndarray, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """gamma, alpha, W and loss by L-BFGS-B over gamma, alpha in [0, 1] and softmax rows of W, all agents at once.

    The recipe in use for this model elsewhere (debate fact sheet, a3): finite differences, start gamma = 0.2,
    alpha = 0.5, logits 0, at most 3000 iterations, ftol 1e-12. `rng` draws a random start instead.
    """
    _, n, _ = beliefs.shape
    before, after, anchor = beliefs[:-1], beliefs[1:], beliefs[0]
    off = ~np.eye(n, dtype=bool)

    def unpack(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        W = np.zeros((n, n))
        logits = theta[2 * n :].reshape(n, n - 1)
        exp = np.exp(logits - logits.max(1, keepdims=True))
        W[off] = (exp / exp.sum(1, keepdims=True)).ravel()
        return theta[:n], theta[n : 2 * n], W

    def loss(theta: np.ndarray) -> float:
        gamma, alpha, W = (x[..., None] for x in unpack(theta))
        heard = np.einsum("ij,tjk->tik", W[..., 0], before)
        told = gamma * anchor + (1 - gamma) * (alpha * before + (1 - alpha) * heard)
        return float(((after - told) ** 2).mean())

    start = np.concatenate([np.full(n, 0.2), np.full(n, 0.5), np.zeros(n * (n - 1))])
    if rng is not None:
        start = np.concatenate([rng.uniform(0, 1, 2 * n), rng.normal(0, 1, n * (n - 1))])
    bounds = [(0, 1)] * (2 * n) + [(None, None)] * (n * (n - 1))
    options = {"maxiter": 3000, "maxfun": 10**7, "ftol": 1e-12}
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds, options=options)
    return *unpack(found.x), float(found.fun)
