"""What the joystick's positions are called in the Atari games."""

from unrolled.languagegame.game import Choice

NAMES = (
    "noop", "fire", "up", "right", "left", "down", "up right", "up left", "down right", "down left", "up fire", "right fire", "left fire",
    "down fire", "up right fire", "up left fire", "down right fire", "down left fire",
)  # fmt: skip
"""The eighteen positions, in the emulator's order."""


def joystick(fire: str, names: tuple[str, ...] = NAMES) -> Choice:
    """The positions as a `Choice`; `fire` completes "I ..." and says what the button does."""
    did: list[str] = []
    for name in names:
        where = " and ".join(word for word in name.split() if word not in ("noop", "fire"))
        button = "fire" in name.split()
        if not where:
            did.append(f"I {fire}" if button else "I waited")
        else:
            did.append(f"I held {where}" + (f" and {fire}" if button else ""))
    return Choice(tuple(did), names)


def holding(word: str, names: tuple[str, ...] = NAMES) -> tuple[int, ...]:
    """Indices of the positions that contain a word.

    Example:
        >>> holding("up", ("noop", "up", "up fire"))
        (1, 2)
    """
    return tuple(i for i, name in enumerate(names) if word in name.split())
