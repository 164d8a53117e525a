import torch

from unrolled.debate import FJ

F64 = torch.float64


def uniform(low, high, *shape, rng):
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=F64)


def dirichlet(concentration, *shape, rng):
    made = torch._standard_gamma(torch.full(shape, concentration, dtype=F64), generator=rng) + 1e-300
    return made / made.sum(-1, keepdim=True)


def system(n, rng):
    """The random systems of acceptance test A5."""
    W = dirichlet(1.0, n, n, rng=rng).fill_diagonal_(0)
    return FJ(uniform(0.05, 0.6, n, rng=rng), uniform(0.1, 0.6, n, rng=rng), W / W.sum(-1, keepdim=True))


def debates(fj, K, T, Q, rng, noise=0.0):
    """`[Q, T+1, n, K]` beliefs, perturbed and renormalised."""
    S = dirichlet(0.5, Q, fj.n, K, rng=rng)
    B = torch.stack([fj.M_T(t) @ S for t in range(T + 1)], 1)
    if noise:
        B = (B + noise * torch.randn(B.shape, generator=rng, dtype=F64)).clamp(min=0)
    return B / B.sum(-1, keepdim=True)


def error(fit, fj, names=("gamma", "alpha", "W", "M")):
    return max(float((getattr(fit, name) - getattr(fj, name)).abs().max()) for name in names)
