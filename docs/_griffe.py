"""Show doctests as code: mkdocstrings would read a `>>>` outside an `Examples` section as a quotation."""

import re
from typing import Any

from griffe import Extension, Object

SECTION = re.compile(r"[A-Z][A-Za-z ,]+:\s*")


class Doctests(Extension):
    """Turns `Example:` into griffe's `Examples:` section, and fences doctests that stand outside of one."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = adapted(obj.docstring.value)


def adapted(text: str) -> str:
    """The docstring with its doctests where the Google parser, or Markdown, takes them for code."""
    made: list[str] = []
    in_examples = fenced = False
    for line in text.splitlines():
        bare = line.strip()
        if line and not line[0].isspace() and SECTION.fullmatch(line):
            in_examples = bare in ("Example:", "Examples:")
            line = "Examples:" if in_examples else line
        elif line and not line[0].isspace():
            in_examples = False
        if bare.startswith(">>>") and not in_examples and not fenced:
            made.append(f"{_indent(line)}```pycon")
            fenced = True
        elif fenced and not bare:
            made.append(f"{_indent(made[-1])}```")
            fenced = False
        made.append(line)
    if fenced:
        made.append(f"{_indent(made[-1])}```")
    return "\n".join(made)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
