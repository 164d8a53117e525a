"""The options of `run` and `sweep`: the study's own configuration, as tyro reads it, with the verb's beside it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro
from rich.text import Text

from unrolled.cli._console import flow, out, read
from unrolled.runs import study as studies
from unrolled.runs.study import Study, StudyError

Field = tuple[str, Any, Any]


def parse(verb: str, argv: Sequence[str], text: str, fields: Sequence[Field]) -> tuple[Study, Any] | None:
    """Read `STUDY [--preset NAME] [--field value ...]` and the verb's own options.

    The preset is read first, because it gives every field its default.

    Args:
        verb: its name.
        argv: the words after it.
        text: the verb's help; `STUDY` in it becomes the study's name.
        fields: the verb's options, as (name, annotation, default).

    Returns:
        The study, and an object with `config` and the verb's options; None if only help was asked for.

    Raises:
        StudyError: no study was named, or it cannot be used.
    """
    words = list(argv)
    if not words or words[0].startswith("-"):
        if words and words[0] not in ("-h", "--help"):
            raise StudyError(f"name the study first: unrolled {verb} STUDY {' '.join(words)}")
        _help_without_study(verb, text)
        return None if words else _missing(verb)
    study = studies.load(words[0])
    config = study.config(_preset(words[1:]))
    own = {name for name, _, _ in fields} | {"debug", "help"}
    clash = own & {field.name for field in dataclasses.fields(config)}
    if clash:
        raise StudyError(
            f"{study.source}: Config must not have a field {', '.join(clash)}: the command line has one"
        )
    options = dataclasses.make_dataclass(
        "Options",
        [
            ("config", tyro.conf.OmitArgPrefixes[study.Config], dataclasses.field(default=config)),
            *((name, kind, dataclasses.field(default=default)) for name, kind, default in fields),
        ],
        frozen=True,
    )
    about = (study.module.__doc__ or "").strip()
    description = f"{about}\n\npresets: {', '.join(study.presets)}\n\n{_example(text)}"
    return study, read(options, f"{verb} {words[0]}", description.replace("STUDY", words[0]), words[1:])


def _preset(words: Sequence[str]) -> str:
    for i, word in enumerate(words):
        if word == "--preset" and i + 1 < len(words):
            return words[i + 1]
        if word.startswith("--preset="):
            return word.partition("=")[2]
    return "tiny"


def _example(text: str) -> str:
    """The help's example, without the line for a study of one's own."""
    lines = text[text.index("example") :].splitlines()
    return "\n".join(line for line in lines if "./my_study.py" not in line)


def _help_without_study(verb: str, text: str) -> None:
    console = out()
    console.print(Text(f"usage: unrolled {verb} STUDY [--preset NAME] [OPTIONS]\n", style="bold"))
    console.print(Text(flow(text)))
    names = studies.names()
    console.print(Text(f"\nstudies: {', '.join(names) or 'none yet'}, or the path of your own"))
    console.print(Text(f"\nunrolled {verb} STUDY --help shows what a study lets you set.", style="dim"))


def _missing(verb: str) -> None:
    raise StudyError(f"unrolled {verb} needs the name of a study, or the path of your own")
