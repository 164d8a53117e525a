"""Explicit randomness: generators from seeds, independent children, and a snapshot of every global generator."""

import random
import sys
from dataclasses import dataclass
from typing import Any

import torch


def generator(
    seed: "int | torch.Generator | None", device: str | torch.device = "cpu"
) -> torch.Generator | None:
    """A `torch.Generator` from a seed; a generator, or None, passes through.

    Raises:
        TypeError: `seed` is neither.

    Example:
        >>> a, b = generator(7), generator(7)
        >>> torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))
        True
    """
    if seed is None or isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a seed is an int or a torch.Generator, got {type(seed).__name__}: {seed!r}")
    return torch.Generator(device=device).manual_seed(seed)


def spawn(rng: torch.Generator, n: int) -> list[torch.Generator]:
    """`n` children of a generator, each seeded by a draw from it.

    Example:
        >>> first, second = spawn(generator(0), 2)
        >>> first.initial_seed() != second.initial_seed()
        True
    """
    draws = torch.randint(0, 2**62, (n,), generator=rng, device=rng.device)
    return [torch.Generator(device=rng.device).manual_seed(int(draw)) for draw in draws]


@dataclass(frozen=True)
class RngState:
    """A snapshot of the global generators: Python, NumPy (if imported), torch, CUDA (if used).

    Example:
        >>> before = RngState.capture()
        >>> first = torch.rand(2)
        >>> before.restore()
        >>> torch.equal(first, torch.rand(2))
        True
    """

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: Any

    @staticmethod
    def capture() -> "RngState":
        """Take the snapshot."""
        numpy = sys.modules.get("numpy")
        used = torch.cuda.is_available() and torch.cuda.is_initialized()
        return RngState(
            python=random.getstate(),
            numpy=None if numpy is None else numpy.random.get_state(),
            torch=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if used else [],
        )

    def restore(self) -> None:
        """Put every generator back."""
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
