"""Chains of arithmetic, told as little stories, with GSM8k-Aug's steps."""

import random

from unrolled.latent.tasks.problem import Problem

GAINS = ("buys {} more", "finds {} more", "is given {} more", "wins {} more")
LOSSES = ("gives {} away", "loses {}", "sells {}", "throws {} away")
TIMES = ("doubles", "triples", "quadruples")
THINGS = ("apples", "books", "coins", "marbles", "pens", "shells", "stamps", "tickets")
PEOPLE = ("Ada", "Ben", "Clara", "Dan", "Eve", "Finn", "Grace", "Hugo")


def arithmetic(
    count: int, *, seed: int, ops: tuple[int, int] = (2, 6), start: tuple[int, int] = (1, 99)
) -> list[Problem]:
    """Word problems of 2 to 6 chained operations; a step is `<<a op b=c>>`, as in GSM8k-Aug (latent fact sheet, c.4).

    Every value stays between 0 and 999. The stories are the package's own: GSM8k-Aug itself needs a network.

    Args:
        count: how many.
        seed: same seed, same problems.
        ops: fewest and most operations.
        start: smallest and largest first number.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = arithmetic(1, seed=1, ops=(2, 2))
        >>> len(problem.steps), problem.steps[-1].endswith(f"={problem.answer}>>")
        (2, True)
    """
    if count < 0 or not 1 <= ops[0] <= ops[1] or not 0 <= start[0] <= start[1] <= 999:
        raise ValueError(
            f"arithmetic: count {count} must be >= 0, ops {ops} a range from 1, start {start} one in 0 .. 999"
        )
    rng = random.Random(seed)
    return [story(rng, rng.randint(*ops), rng.randint(*start)) for _ in range(count)]


def story(rng: random.Random, ops: int, value: int) -> Problem:
    """One word problem that begins with `value`."""
    name, things = rng.choice(PEOPLE), rng.choice(THINGS)
    told, steps = [f"{name} has {value} {things}."], []
    for _ in range(ops):
        kinds = [kind for kind, can in (("+", value < 999), ("-", value > 0), ("*", 0 < value <= 249)) if can]
        kind = rng.choice(kinds)
        if kind == "+":
            by = rng.randint(1, min(99, 999 - value))
            made, words = value + by, rng.choice(GAINS).format(by)
        elif kind == "-":
            by = rng.randint(1, min(99, value))
            made, words = value - by, rng.choice(LOSSES).format(by)
        else:
            by = rng.randint(2, 4)
            made, words = value * by, f"{TIMES[by - 2]} what is left"
        told.append(f"{name} {words}.")
        steps.append(f"<<{value}{kind}{by}={made}>>")
        value = made
    told.append(f"How many {things} does {name} have?")
    return Problem(" ".join(told), tuple(steps), str(value))
