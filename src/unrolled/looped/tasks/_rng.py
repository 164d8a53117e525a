"""What the tasks draw from: a generator per batch, made from what the batch is."""

import hashlib

import torch


def generator(*identity: object) -> torch.Generator:
    """A generator that depends on `identity` alone: task, seed, index. Neighbours are independent.

    Example:
        >>> a, b = generator("mqar", 0, 1), generator("mqar", 0, 1)
        >>> torch.equal(torch.rand(2, generator=a), torch.rand(2, generator=b))
        True
    """
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def distinct(rows: int, choices: int, taken: int, rng: torch.Generator) -> torch.Tensor:
    """`[rows, taken]` numbers below `choices`, in random order, no two alike in a row.

    Example:
        >>> distinct(1, 3, 3, generator(0)).sort().values.tolist()
        [[0, 1, 2]]
    """
    return torch.rand(rows, choices, generator=rng, dtype=torch.float64).topk(taken, dim=1).indices


def check_index(index: int) -> int:
    """The index, if it is one."""
    if index < 0:
        raise ValueError(f"a batch has an index of at least 0, got {index}")
    return index
