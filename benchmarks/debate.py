"""Fitting debates: one batched call against an NNLS loop and the L-BFGS-B softmax recipe; a thousand agents at once.

Peers are written in `unrolled.debate.naive`, as the debate fact sheet describes them.
"""

import os
import resource
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks import _record
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
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    print(f"{torch.get_num_threads()} threads")
    _, B = simulate(5, 10, 5, 300, seed=0, noise=0.01)
    fit(B[:10])
    batched, ours = timed(lambda: fit(B), 5)
    loop, theirs = timed(lambda: [naive.fit(b)[3] for b in B.numpy()])
    # A question at a time, ours and the recipe's in turn, so that both see the same load.
    single, recipe, local = [], [], []
    for b in B[:50]:
        single.append(timed(lambda b=b: fit(b))[0])
        seconds, made = timed(lambda b=b: naive.local_search(b.numpy())[3])
        recipe.append(seconds)
        local.append(made)
    one, each = median(single), median(recipe)
    found["300 questions, 5 agents, 10 options, 5 rounds"] = {
        "s in one call": batched,
        "largest kkt": max(f.kkt for f in ours),
        "NNLS loop, s": loop,
        "times the NNLS loop": loop / batched,
        "our loss minus its, at most": max(f.loss - x for f, x in zip(ours, theirs)),
        "ms per question, one call each": 1e3 * one,
        "L-BFGS-B softmax recipe, ms per question": 1e3 * each,
        "times the recipe, one call each": each / one,
        "times the recipe, one call for all": each / (batched / 300),
        "our loss minus the recipe's, at most": max(f.loss - x for f, x in zip(ours, local)),
    }
    for noise in () if "--small" in argv else (0.0, 1e-3):
        fj, B = simulate(1000, 11, 2, 364, seed=0, noise=noise, degree=10)
        seconds, made = timed(lambda B=B: fit(B, pool=True))
        found[f"1000 agents, 10 heard, noise {noise:g}"] = {
            "s": seconds,
            "gamma within": float((made.gamma - fj.gamma).abs().max()),
            "kkt": made.kkt,
            "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    for what, numbers in found.items():
        print(what, numbers if isinstance(numbers, float) else "")
        for name, value in numbers.items() if isinstance(numbers, dict) else ():
            print(f"  {name:42} {value:.4g}")
    _record.write("debate", found)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
