"""Words of a prompt: split, stripped of endings, and matched with what is known."""

import re
import unicodedata
from difflib import get_close_matches

LONGEST = 2000
"""Characters of a prompt that are read; the rest is left unread, and the route says so."""

_COMMON = """
a an and are as at be but by can could do does for from have i if in into is it its let lets me my of on or our out over please so
some that the them then there they this those to too up us very was we what when where which who will with would you your yourself
not like play something dont just now try go make want how come here
"""
COMMON = frozenset(_COMMON.split())
"""Words that say little about which game is meant."""


def clean(text: str) -> str:
    r"""A prompt as it is read: composed, lower case, control characters and runs of space as one space, at most `LONGEST` long.

    Example:
        >>> clean("  Stay\tBALANCED\x00 ")
        'stay balanced'
    """
    composed = unicodedata.normalize("NFKC", text[:LONGEST]).lower()
    printable = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in composed)
    return " ".join(printable.split())


def stem(word: str) -> str:
    """A word without the commonest English endings; crude, and the same for every form that matters here.

    Example:
        >>> [stem(w) for w in ("swim", "swimming", "climbs", "climbed", "money", "balanced", "balance", "stand")]
        ['swim', 'swim', 'climb', 'climb', 'money', 'balanc', 'balanc', 'stand']
    """
    for ending in ("ings", "ing", "ers", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def stems(text: str) -> list[str]:
    """The stems of a text's words that say something, in order.

    Example:
        >>> stems("Please keep the pole from tipping!")
        ['keep', 'pole', 'tip']
        >>> stems("天気") + stems("")
        ['天気']
    """
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", clean(text))
    return [stem(word.replace("'", "")) for word in words if word.replace("'", "") not in COMMON]


def nearest(word: str, known: frozenset[str] | dict[str, float]) -> str | None:
    """The known word that is meant: itself, or one a slip of the finger away (never for words below six letters)."""
    if word in known:
        return word
    if len(word) < 6 or not word.isascii():
        return None
    close = get_close_matches(word, known, 1, cutoff=0.86)
    return close[0] if close and close[0][0] == word[0] else None
