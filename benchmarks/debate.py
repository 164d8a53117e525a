"""Fitting debates: one batched call against an NNLS loop and the L-BFGS-B softmax recipe; a thousand agents at once.

Peers are written in `unrolled.debate.naive`, as the debate fact sheet describes them.
"""

import resource
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from unrolled.debate import FJ, fit, naive

F64 = torch.float64


def simulate(
    n: int, K: int, T: int, Q: int, *, seed: int, noise: float = 0.0, degree: int | None = None
) -> tuple[FJ, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    gamma = 0.05 + 0.55 * torch.rand(n, generator=rng, dtype=F64)
    alpha = 0.1 + 0.5 * torch.rand(n, generator=rng, dtype=F64)
    W = -torch.rand(n, n, generator=rng, dtype=F64).log().fill_diagonal_(0)
    if degree is not None:
        kept = torch.rand(n, n, generator=rng).fill_diagonal_(-1).argsort(-1, descending=True)[:, :degree]
        W = torch.zeros_like(W).scatter(-1, kept, W.gather(-1, kept))
    fj = FJ(gamma, alpha, W / W.sum(-1, keepdim=True))
    S = torch._standard_gamma(torch.full((Q, n, K), 0.5, dtype=F64), generator=rng) + 1e-12
    S = S / S.sum(-1, keepdim=True)
    B = torch.stack([fj.M_T(t) @ S for t in range(T + 1)], 1)
    if noise:
        B = (B + noise * torch.randn(B.shape, generator=rng, dtype=F64)).clamp(min=0)
    return fj, B / B.sum(-1, keepdim=True)


def timed(fn: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    seconds, made = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        made = fn()
        seconds.append(time.perf_counter() - start)
    return median(seconds), made


def main(argv: Sequence[str]) -> None:
    print(f"{torch.get_num_threads()} threads")
    _, B = simulate(5, 10, 5, 300, seed=0, noise=0.01)
    fit(B[:10])
    batched, ours = timed(lambda: fit(B), 5)
    loop, theirs = timed(lambda: [naive.fit(b)[3] for b in B.numpy()])
    one, _ = timed(lambda: [fit(b) for b in B[:50]])
    recipe, local = timed(lambda: [naive.local_search(b)[3] for b in B[:50].numpy()])
    worse_nnls = max(f.loss - x for f, x in zip(ours, theirs))
    worse_local = max(f.loss - x for f, x in zip(ours, local))
    print(
        f"300 questions (5 agents, 10 options, 5 rounds): {batched:.3f} s in one call, largest kkt {max(f.kkt for f in ours):.1e}"
    )
    print(
        f"  NNLS loop: {loop:.3f} s, {loop / batched:.1f} x; our loss minus its loss at most {worse_nnls:.1e}"
    )
    print(
        f"  L-BFGS-B softmax recipe: {1e3 * recipe / 50:.1f} ms per question, {recipe / 50 / (batched / 300):.0f} x batched, "
        f"{recipe / one:.1f} x one question per call; our loss minus its loss at most {worse_local:.1e}"
    )
    if "--small" in argv:
        return
    for noise in (0.0, 1e-3):
        fj, B = simulate(1000, 11, 2, 364, seed=0, noise=noise, degree=10)
        seconds, found = timed(lambda B=B: fit(B, pool=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        error = float((found.gamma - fj.gamma).abs().max())
        print(
            f"1000 agents, 10 heard, noise {noise:g}: {seconds:.1f} s, gamma within {error:.1e}, kkt {found.kkt:.1e}, peak {peak:.2f} GiB"
        )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
