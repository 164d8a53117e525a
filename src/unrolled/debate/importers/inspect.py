"""inspect_ai logs, `.json` or `.eval`: assistant messages with metadata agent, round and, if any, belief.

A solver that runs a debate marks each answer: `message.metadata = {"agent": "a1", "round": 0, "belief": [...]}`. Without
a belief the text is read as in free-text logs; without an agent the message's `source_agent`, then its model, names it;
without a round an agent's k-th message is its answer in round k. Options are the sample's choices, as letters, and
`target` gives the right one.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unrolled.debate.importers.answers import belief
from unrolled.debate.log import DebateLog, Question


def read(path: Path, answer: Callable[[str, tuple[str, ...]], Any] | None = None) -> DebateLog:
    """Read the log.

    Raises:
        ValueError: no such log, a log without samples, or a sample without choices or answers.
    """
    samples = _samples(path)
    if not samples:
        raise ValueError(
            f"{path} holds no samples: a header only, or a run that ended before its first sample"
        )
    return DebateLog([_question(sample, answer, path) for sample in samples], str(path), "inspect")


def _samples(path: Path) -> list[dict[str, Any]]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = sorted(
                    n for n in archive.namelist() if n.startswith("samples/") and n.endswith(".json")
                )
                return [json.loads(archive.read(name)) for name in names]
        return json.loads(path.read_text(encoding="utf-8")).get("samples") or []
    except NotImplementedError as error:
        raise ValueError(
            f"{path} is compressed in a way that this Python cannot read; convert it: inspect log convert --to json"
        ) from error
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no inspect_ai log: {error}") from error


def _question(
    sample: dict[str, Any], answer: Callable[[str, tuple[str, ...]], Any] | None, path: Path
) -> Question:
    id = str(sample.get("id"))
    choices = sample.get("choices") or []
    if len(choices) < 2:
        raise ValueError(f"{path}: sample {id!r} has {len(choices)} choices; beliefs need at least two")
    options = tuple(chr(ord("A") + i) for i in range(len(choices)))
    said: dict[str, dict[int, Any]] = {}
    for message in sample.get("messages") or []:
        if message.get("role") != "assistant":
            continue
        meta = message.get("metadata") or {}
        agent = str(meta.get("agent") or meta.get("source_agent") or message.get("model") or "assistant")
        mine = said.setdefault(agent, {})
        mine[int(meta.get("round", len(mine)))] = meta.get("belief"), _text(message.get("content"))
    if not said:
        raise ValueError(f"{path}: sample {id!r} has no assistant message")
    rounds = 1 + max(max(mine) for mine in said.values())
    beliefs = torch.full((rounds, len(said), len(options)), torch.nan, dtype=torch.float64)
    for i, mine in enumerate(said.values()):
        for t, (given, text) in mine.items():
            if given is None:
                beliefs[t, i] = belief(text, options, answer)
                continue
            values = [given.get(o) for o in options] if isinstance(given, dict) else given
            beliefs[t, i] = belief(
                "", options, lambda _, __, v=values: [torch.nan if x is None else x for x in v]
            )
    target = sample.get("target")
    target = target[0] if isinstance(target, list) and target else target
    truth = options.index(target) if target in options else None
    return Question(id, beliefs, options, tuple(said), truth)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [] if isinstance(part, dict))
