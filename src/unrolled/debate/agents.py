"""Agents of a debate: anything with a name, an identity, and `async answer(request) -> Reply`."""

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.debate.fj import FJ
from unrolled.debate.importers import _load
from unrolled.debate.importers.answers import letter
from unrolled.debate.log import DebateLog

SLACK = 0.05
"""How far a spoken distribution may be from summing to 1 (or 100) and still be read, divided by its sum."""


@dataclass(frozen=True)
class Heard:
    """What an agent sees of another (or of itself): name, words, belief (None where it could not be read)."""

    agent: str
    text: str
    belief: tuple[float, ...] | None


@dataclass(frozen=True)
class Request:
    """One turn: the question, the round, and what was said in the round before."""

    question: str
    text: str
    options: tuple[str, ...]
    choices: tuple[str, ...]
    agent: str
    position: int
    round: int
    own: Heard | None = None
    peers: tuple[Heard, ...] = ()
    positions: tuple[int, ...] = ()
    first: tuple[float, ...] | None = None
    """The agent's own belief in round 0."""
    sample: int = 0
    """Which independent sample of the same turn: the compute-matched vote asks several times."""
    part: int = 0
    """Which of the calls that one answer takes: an agent with `parts` is asked that often, see `Agent`."""


@dataclass(frozen=True)
class Reply:
    """What came back: words, the belief read from them, calls and tokens spent, and cost in the endpoint's currency."""

    text: str
    belief: tuple[float, ...] | None
    calls: int = 1
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


class Agent(Protocol):
    """What `Debate` needs of an agent.

    One whose answer takes several calls has also `parts: int` and `join(request, replies) -> Reply`: it is asked once per
    part, so that each finished call is kept by itself.
    """

    name: str

    def identity(self) -> dict[str, Any]:
        """What the answer depends on besides the request; part of the key under which it is cached."""
        ...

    async def answer(self, request: Request) -> Reply:
        """Answer. Raise `Retry` for what may pass, `AgentError` for what will not."""
        ...


class AgentError(RuntimeError):
    """An agent cannot answer, now or later; the message says how to mend it."""


class Retry(RuntimeError):
    """An agent could not answer now: too many requests, a timeout, a lost connection. `after` seconds, if it was told."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def spoken(text: str, options: Sequence[str]) -> tuple[float, ...] | None:
    """The belief in the last JSON object of a text that has one: {"belief": {"A": 0.7, ...}} or the inner object alone.

    Options that are not named count 0. None, and never a guess, when there is no such object, an entry is negative or no
    number, or the sum is further than 5 % from 1 (or 100).

    Example:
        >>> spoken('So: {"reason": "sums", "belief": {"A": 0.75, "B": 0.25}}', ("A", "B"))
        (0.75, 0.25)
        >>> spoken("B, I think", ("A", "B")) is None
        True
    """
    decoder, found = json.JSONDecoder(), None
    position = 0
    while (start := text.find("{", position)) >= 0:
        try:
            value, length = decoder.raw_decode(text[start:])
        except ValueError:
            position = start + 1
            continue
        position = start + length
        named = value.get("belief", value) if isinstance(value, dict) else None
        if isinstance(named, dict) and set(named) & set(options) and set(named) <= set(options):
            found = named
    if found is None:
        return None
    numbers = [found.get(option, 0.0) for option in options]
    if not all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x >= 0
        for x in numbers
    ):
        return None
    total = math.fsum(numbers)
    if min(abs(total - 1), abs(total / 100 - 1)) > SLACK:
        return None
    return tuple(x / total for x in numbers)


class Scripted:
    """Agents that follow an FJ system to the letter, and say their beliefs as JSON with six decimals: for tests and teaching.

    Args:
        fj: the system; one agent per row.
        beliefs: question id -> initial beliefs `[n, K]`; otherwise drawn from Dirichlet(0.5) by seed and question.
        seed: of the drawn beliefs.

    Example:
        >>> crew = Scripted(FJ([0.5, 0.2], [0.1, 0.3], [[0, 1], [1, 0]]))
        >>> [member.name for member in crew.members]
        ['agent 0', 'agent 1']
    """

    def __init__(self, fj: FJ, *, beliefs: dict[str, Any] | None = None, seed: int = 0) -> None:
        self.fj, self.beliefs, self.seed = fj, beliefs, seed
        self.members: list[Agent] = [_Member(self, i) for i in range(fj.n)]

    def initial(self, question: str, K: int) -> Tensor:
        """S of a question."""
        if self.beliefs is not None:
            return torch.as_tensor(self.beliefs[question], dtype=torch.float64)
        digest = hashlib.sha256(f"{self.seed} {question}".encode()).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        drawn = (
            torch._standard_gamma(torch.full((self.fj.n, K), 0.5, dtype=torch.float64), generator=rng) + 1e-9
        )
        return drawn / drawn.sum(-1, keepdim=True)


@dataclass
class _Member:
    crew: Scripted
    i: int
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"agent {self.i}"

    def identity(self) -> dict[str, Any]:
        fj = self.crew.fj
        return {
            "kind": "scripted",
            "gamma": float(fj.gamma[self.i]),
            "H": fj.H[self.i].tolist(),
            "seed": self.crew.seed,
        }

    async def answer(self, request: Request) -> Reply:
        fj, K = self.crew.fj, len(request.options)
        S = self.crew.initial(request.question, K)[self.i]
        if request.round and request.own is not None:
            said = [request.own, *request.peers]
            where = [self.i, *request.positions]
            if any(h.belief is None for h in said):
                raise AgentError("a scripted agent hears beliefs only: some peer's answer could not be read")
            weights = fj.H[self.i][where]
            heard = torch.tensor([h.belief for h in said], dtype=torch.float64)
            S = fj.gamma[self.i] * S + weights @ heard
            S = S / S.sum()  # whom it cannot hear gets no weight; the rest is scaled to 1
        belief = {option: round(float(x), 6) for option, x in zip(request.options, S)}
        text = json.dumps({"reason": "as my weights say", "belief": belief})
        return Reply(text, spoken(text, request.options), tokens_in=len(request.text.split()), tokens_out=K)


class Recorded:
    """Agents that repeat a log: a debate can be run again, cut short, or audited, without a call.

    Args:
        log: a `DebateLog`, or the path of one.
    """

    def __init__(self, log: DebateLog | str | os.PathLike[str]) -> None:
        self.log = log if isinstance(log, DebateLog) else _load.load(log)
        agents = {q.agents for q in self.log.questions}
        if len(agents) != 1:
            raise ValueError(
                f"the questions of the log have {len(agents)} different sets of agents; replay one set at a time"
            )
        self.members: list[Agent] = [_Replay(self, i, name) for i, name in enumerate(agents.pop())]


@dataclass
class _Replay:
    log: Recorded
    i: int
    name: str

    def identity(self) -> dict[str, Any]:
        return {"kind": "recorded", "source": self.log.log.source, "agent": self.name}

    async def answer(self, request: Request) -> Reply:
        found = next((q for q in self.log.log.questions if q.id == request.question), None)
        if found is None or request.round >= len(found.beliefs):
            raise AgentError(f"the log has no round {request.round} of question {request.question!r}")
        values = found.beliefs[request.round, self.i].tolist()
        text = (
            found.texts[request.round][self.i]
            if found.texts
            else json.dumps({"belief": dict(zip(found.options, values))})
        )
        return Reply(text, None if any(map(math.isnan, values)) else tuple(values), calls=0)


class LLM:
    """A language model behind any endpoint that speaks OpenAI's chat protocol (extra `llm`).

    Belief modes: `"json"`: the model writes its distribution (the paper's way); `"logprobs"`: softmax of the option
    letters' log-probabilities as first token (a letter outside the 20 tokens that endpoints list counts 0); `"samples"`:
    frequencies of the letter over `samples` answers, with a Dirichlet prior of 1/2 per option.

    Args:
        base_url: such as `http://127.0.0.1:8080/v1`.
        model: its name there.
        name: the agent's name; the model's when empty.
        persona: the system prompt's first words.
        mode: `"json"`, `"logprobs"` or `"samples"`.
        samples: answers per turn in mode samples.
        temperature: of sampling.
        max_tokens: of an answer.
        api_key: by default the environment's OPENAI_API_KEY; local servers need none.
        timeout: seconds per call.
        price: (input, output) per million tokens, for the totals.
        seed: of sampling, for endpoints that heed it; mixed with the agent's name, question, round and sample.

    Raises:
        ValueError: an unknown mode, or no sample.
    """

    MODES: tuple[str, ...] = ("json", "logprobs", "samples")

    def __init__(
        self, base_url: str, model: str, *, name: str = "", persona: str = "", mode: str = "json", samples: int = 5,
        temperature: float = 0.7, max_tokens: int = 400, api_key: str | None = None, timeout: float = 120.0,
        price: tuple[float, float] = (0.0, 0.0), seed: int = 0,
    ) -> None:  # fmt: skip
        if mode not in self.MODES:
            raise ValueError(f"mode= is one of {', '.join(map(repr, self.MODES))}, got {mode!r}")
        if samples < 1:
            raise ValueError(f"samples= is at least 1, got {samples}")
        self.base_url, self.model, self.name, self.persona = base_url, model, name or model, persona
        self.mode, self.samples, self.temperature, self.max_tokens = mode, samples, temperature, max_tokens
        self.timeout, self.price, self.seed = timeout, price, seed
        self.parts = samples if mode == "samples" else 1
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or "none"

    def identity(self) -> dict[str, Any]:
        """Everything that an answer depends on; the key is left out."""
        names = ("base_url", "model", "persona", "mode", "samples", "temperature", "max_tokens", "seed")
        return {"kind": "llm", **{name: getattr(self, name) for name in names}}

    def messages(self, request: Request) -> list[dict[str, str]]:
        """The conversation of one turn: system, then question, own last answer and the peers'."""
        lines = [request.text, *self._listed(request)]
        if request.own is not None:
            lines += ["", f"Your last answer: {request.own.text}"]
        if request.peers:
            lines += ["", "The other participants said:", *(f"[{h.agent}] {h.text}" for h in request.peers)]
            lines += ["", "Weigh what they say against your own reasons, then answer again."]
        elif request.round:
            lines += ["", "Think again, then answer again."]
        role = f"{self.persona} You take part in a discussion of a multiple-choice question.".strip()
        return [
            {"role": "system", "content": role},
            {"role": "user", "content": "\n".join([*lines, "", self._task(request)])},
        ]

    def _listed(self, request: Request) -> list[str]:
        return [f"{o}) {c}" for o, c in zip(request.options, request.choices)]

    def _task(self, request: Request) -> str:
        if self.mode == "json":
            names = ", ".join(f'"{o}": p' for o in request.options)
            return (
                'End with one line of JSON: {"reason": "at most 50 words", "belief": {' + names + "}}, "
                "where the p are probabilities that sum to 1."
            )
        if self.mode == "logprobs":
            return "Answer with the letter alone."
        return 'End with the letter of your answer in parentheses, such as "(A)".'

    def _options(self, request: Request) -> dict[str, Any]:
        """Options of the call besides model, messages, temperature and seed."""
        if self.mode == "logprobs":
            return {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        return {"max_tokens": self.max_tokens}

    async def answer(self, request: Request) -> Reply:
        """One turn; in mode samples one of its parts, with a certain belief."""
        async with self._client() as client:
            said = await self._complete(client, request, self.messages(request), **self._options(request))
        return self._read(request, said)

    def _read(self, request: Request, said: Any) -> Reply:
        text = said.choices[0].message.content or ""
        if self.mode == "json":
            belief = spoken(text, request.options)
        elif self.mode == "logprobs":
            belief = _from_logprobs(getattr(said.choices[0], "logprobs", None), request.options)
        else:
            found = letter(text, request.options)
            belief = None if found is None else tuple(float(o == found) for o in request.options)
        return self._reply(text, belief, *tokens_of(said))

    def join(self, request: Request, replies: Sequence[Reply]) -> Reply:
        """The answer of mode samples from its parts: frequencies, (count + 1/2) / (sum + K/2); None if none was read."""
        read = [reply for reply in replies if reply.belief is not None]
        counts = [0.5 + math.fsum(r.belief[k] for r in read) for k in range(len(request.options))]  # pyright: ignore[reportOptionalSubscript]
        belief = tuple(c / math.fsum(counts) for c in counts) if read else None
        calls, read_in, written = (
            sum(getattr(r, name) for r in replies) for name in ("calls", "tokens_in", "tokens_out")
        )
        return Reply(replies[0].text, belief, calls, read_in, written, math.fsum(r.cost for r in replies))

    def _reply(self, text: str, belief: tuple[float, ...] | None, tokens_in: int, tokens_out: int) -> Reply:
        cost = (tokens_in * self.price[0] + tokens_out * self.price[1]) / 1e6
        return Reply(text, belief, 1, tokens_in, tokens_out, cost)

    def _client(self) -> Any:
        openai = require("openai", extra="llm")
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key, max_retries=0, timeout=self.timeout
        )

    def _seed(self, request: Request) -> int:
        """31 bits: agents that share a model draw answers of their own, and the same ones every time."""
        where = (self.seed, self.name, request.question, request.round, request.sample, request.part)
        return int.from_bytes(hashlib.sha256(repr(where).encode()).digest()[:4], "big") >> 1

    async def _complete(
        self, client: Any, request: Request, messages: list[dict[str, str]], **options: Any
    ) -> Any:
        """One call; its failures as `Retry` or `AgentError`."""
        openai = require("openai", extra="llm")
        where = f"{self.model} at {self.base_url}"
        options = {"temperature": self.temperature, "seed": self._seed(request), **options}
        try:
            said = await client.chat.completions.create(model=self.model, messages=messages, **options)
        except openai.RateLimitError as error:
            after = error.response.headers.get("retry-after", "")
            raise Retry(
                f"{where} limits its rate", float(after) if re.fullmatch(r"\d+(\.\d+)?", after) else None
            ) from error
        except openai.APITimeoutError as error:
            raise Retry(f"{where} did not answer within {self.timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise Retry(f"{where} cannot be reached; does a server run there?") from error
        except openai.InternalServerError as error:
            raise Retry(f"{where} failed with status {error.status_code}") from error
        except openai.APIStatusError as error:
            raise AgentError(
                f"{where} refuses: status {error.status_code}, {str(error.message)[:200]}"
            ) from error
        except openai.APIError as error:
            raise AgentError(
                f"{where} does not speak the chat protocol: {error}; should base_url end in /v1?"
            ) from error
        except ValueError as error:
            raise AgentError(
                f"{where} answered with something that is no JSON; should base_url end in /v1?"
            ) from error
        if not getattr(said, "choices", None):
            told = str(said)[:80].replace("\n", " ")
            raise AgentError(
                f"{where} answered without choices ({told!r}); is it a web page? base_url usually ends in /v1"
            )
        return said


def tokens_of(said: Any) -> tuple[int, int]:
    """Tokens read and written; (0, 0) where the endpoint does not say."""
    usage = getattr(said, "usage", None)
    return (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)


def _from_logprobs(logprobs: Any, options: Sequence[str]) -> tuple[float, ...] | None:
    """Softmax over the option letters among the first token's alternatives; None when none of them is listed."""
    content = getattr(logprobs, "content", None)
    if not content:
        return None
    mass = dict.fromkeys(options, 0.0)
    for token in content[0].top_logprobs:
        letter = token.token.strip().strip("()")
        if letter in mass:
            mass[letter] += math.exp(token.logprob)
    total = math.fsum(mass.values())
    return tuple(mass[o] / total for o in options) if total > 0 else None
