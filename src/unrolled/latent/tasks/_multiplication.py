"""Multiplication of two numbers, digits least significant first, by partial products."""

import random

from unrolled.latent.tasks.problem import Problem


def multiplication(count: int, *, seed: int, digits: tuple[int, int] = (4, 4)) -> list[Problem]:
    """Products of two numbers of so many digits, after iCoT (2405.14838): digits reversed and apart by spaces.

    A step is one partial product, zeros in front for its place, with the running sum in brackets from the second on.
    Partial products have digits[0] + 1 digits besides those zeros and the answer has digits[0] + digits[1], so all
    problems of a size are equally long.

    Args:
        count: how many.
        seed: same seed, same problems.
        digits: of the two factors; their leading digit is not zero.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = multiplication(1, seed=0, digits=(2, 2))
        >>> print(problem.question, "||", " + ".join(problem.steps), "####", problem.answer)
        9 5 * 3 6 || 7 7 1 + 0 4 5 3 ( 7 1 7 3 ) #### 7 1 7 3
    """
    if count < 0 or min(digits) < 1:
        raise ValueError(f"multiplication: count {count} must be >= 0, digits {digits} at least 1")
    rng = random.Random(seed)
    return [work(rng, *digits) for _ in range(count)]


def work(rng: random.Random, m: int, n: int) -> Problem:
    """One product."""
    a, b = rng.randint(10 ** (m - 1), 10**m - 1), rng.randint(10 ** (n - 1), 10**n - 1)
    running, steps = 0, []
    for place, digit in enumerate(reversed(str(b))):
        partial = a * int(digit) * 10**place
        running += partial
        step = spell(partial, m + 1 + place)
        steps.append(f"{step} ( {spell(running, m + 1 + place)} )" if place else step)
    return Problem(f"{spell(a, m)} * {spell(b, n)}", tuple(steps), spell(a * b, m + n))


def spell(number: int, width: int) -> str:
    """Digits of a number, least significant first."""
    return " ".join(reversed(str(number).zfill(width)))
