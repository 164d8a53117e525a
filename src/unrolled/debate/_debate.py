"""`Debate`: run a debate so that no finished call is ever paid for twice."""

import asyncio
import json
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.debate import _store
from unrolled.debate._beliefs import hears
from unrolled.debate.agents import Agent, AgentError, Heard, Reply, Request, Retry
from unrolled.debate.log import DebateLog, answers

ARMS = {"none": ("debate",), "no_peers": ("debate", "no_peers")}


@dataclass
class DebateResult:
    """What a debate came to.

    Attributes:
        log: the debate; `fit(result.log.beliefs)` goes on from there.
        control: the arm without peers, if it was run.
        vote: share of questions that a majority vote of as many samples (agents x (rounds + 1)) gets right; NaN if no
            right answers are known, or it was not run.
        status: `"finished"`; `"budget exhausted"`: run again with a larger budget and it goes on; `"unfinished"`: a trace
            that was read while it is being written, or was cut off.
        calls: calls made now; `cached` were answered from the cache, `total_calls` are behind the whole trace.
        cached: answers that cost nothing now.
        total_calls: calls that the trace stands for.
        tokens: input and output tokens behind the whole trace.
        cost: of the whole trace, in the currency of the agents' prices.
        unread: answers in which no belief could be read; they stay missing.
        trace: the file.
    """

    log: DebateLog
    control: DebateLog | None
    vote: float
    status: str
    calls: int
    cached: int
    total_calls: int
    tokens: tuple[int, int]
    cost: float
    unread: int
    trace: Path

    def __str__(self) -> str:
        lines = [
            f"{self.log!r}: {self.status}",
            f"  {self.calls} calls now, {self.cached} from the cache; {self.total_calls} behind the trace, "
            f"{self.tokens[0]} + {self.tokens[1]} tokens, cost {self.cost:.4g}; {self.unread} answers could not be read",
        ]
        if any(q.truth is not None for q in self.log.questions):
            each, majority = self.log.accuracy(), self.log.majority()
            lines.append(
                f"  right: one agent {100 * float(each[0]):.1f} % -> {100 * float(each[-1]):.1f} %, majority "
                f"{100 * float(majority[0]):.1f} % -> {100 * float(majority[-1]):.1f} %; majority vote of as many samples "
                + ("not run" if math.isnan(self.vote) else f"{100 * self.vote:.1f} %")
            )
        return "\n".join(lines)

    __repr__ = __str__


class BudgetExhausted(RuntimeError):
    """No call left."""


class Debate:
    """Agents answer, hear one another, and answer again, all at once in each round.

    Every answer is kept under the hash of what was asked before it enters the trace, so after a crash, a SIGKILL or an
    exhausted budget the same call goes on where it stopped, repeats nothing, and ends in the same bytes. What cannot be
    read as a belief is counted and stays missing.

    Args:
        agents: agents, or groups of them (`Scripted`, `Recorded`).
        rounds: after the first answers.
        topology: `[n, n]`, whom each agent hears; everybody when None.
        control: `"no_peers"` asks all again without showing peers: the arm that `fit(control=...)` needs.
        cache: folder of answers; beside the trace when None.
        budget: calls at most, in all arms; None is no limit.
        concurrency: calls at a time.
        retries: per call, with exponential backoff from `backoff` seconds, or as long as the endpoint asks for.
        backoff: first wait in seconds.
        vote: also take agents x (rounds + 1) independent first answers, the vote that costs as much.

    Raises:
        ValueError: fewer than two agents, two of one name, no round, or an unknown control.

    Example:
        >>> import tempfile
        >>> from unrolled.debate.agents import Scripted
        >>> from unrolled.debate.fj import FJ
        >>> crew = Scripted(FJ([0.5, 0.2], [0.1, 0.3], [[0, 1], [1, 0]]))
        >>> questions = [{"id": "q1", "text": "Which?", "choices": ["one", "two", "three"], "truth": "A"}]
        >>> result = Debate([crew], rounds=3).run(questions, trace=Path(tempfile.mkdtemp(), "trace.jsonl"))
        >>> result.log, result.total_calls
        (DebateLog(1 questions, 2 agents, 3 rounds, 3 options, 0 beliefs missing, trace), 14)
    """

    def __init__(
        self, agents: Sequence[Any], rounds: int = 5, topology: Any = None, control: str = "none",
        cache: str | os.PathLike[str] | None = None, budget: int | None = None, concurrency: int = 8, *,
        retries: int = 6, backoff: float = 1.0, vote: bool = True,
    ) -> None:  # fmt: skip
        self.agents: list[Agent] = [member for a in agents for member in getattr(a, "members", [a])]
        names = [agent.name for agent in self.agents]
        if len(names) < 2:
            raise ValueError(f"a debate needs at least two agents, got {len(names)}")
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"agents need names of their own; used twice: {', '.join(twice)}. Give name=")
        if rounds < 1 or concurrency < 1 or retries < 0 or (budget is not None and budget < 0):
            raise ValueError(
                f"rounds and concurrency are at least 1, retries and budget 0; got {rounds}, {concurrency}, {retries}, {budget}"
            )
        if control not in ARMS:
            raise ValueError(f"control= is 'none' or 'no_peers', got {control!r}")
        self.rounds, self.control, self.budget, self.concurrency = rounds, control, budget, concurrency
        self.heard: Tensor = hears(topology, len(names))
        self.cache, self.retries, self.backoff, self.vote = cache, retries, backoff, vote

    def run(
        self, questions: Sequence[Mapping[str, Any]], trace: str | os.PathLike[str] = "debate.jsonl", *,
        progress: Callable[[int, int], None] | None = None,
    ) -> DebateResult:  # fmt: skip
        """Run, or go on with, the debate of all questions; `arun` is the same as a coroutine.

        Args:
            questions: dicts with text, choices, and optionally id and truth (letter, index or choice).
            trace: the JSONL file.
            progress: called as progress(rounds done, rounds in all).

        Raises:
            ValueError: a question without two choices, one id twice, or a trace of another debate.
            AgentError: an agent cannot answer; what was finished is kept.
        """
        return asyncio.run(self.arun(questions, trace, progress=progress))

    async def arun(
        self, questions: Sequence[Mapping[str, Any]], trace: str | os.PathLike[str] = "debate.jsonl", *,
        progress: Callable[[int, int], None] | None = None,
    ) -> DebateResult:  # fmt: skip
        """See `run`."""
        path = Path(trace)
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = [_question(q, i) for i, q in enumerate(questions)]
        if len({q["id"] for q in asked}) < len(asked) or not asked:
            raise ValueError(
                "questions need ids of their own, and there must be one" if asked else "there is no question"
            )
        work = _Work(self, asked, path, progress)
        status = await work.perform()
        return work.result(status)


class _Work:
    """One run of a debate: the calls, the cache, the trace."""

    def __init__(self, debate: Debate, asked: list[dict[str, Any]], path: Path, progress: Any) -> None:
        self.debate, self.asked, self.path, self.progress = debate, asked, path, progress
        self.cache = _store.Cache(
            Path(debate.cache) if debate.cache else path.with_name(path.name + ".cache")
        )
        header = {
            "unrolled_debate": _store.VERSION, "agents": [a.name for a in debate.agents], "rounds": debate.rounds,
            "heard": debate.heard.int().tolist(), "identities": [a.identity() for a in debate.agents],
            "arms": [*ARMS[debate.control], *(["vote"] if debate.vote else [])], "questions": asked,
        }  # fmt: skip
        self.header = json.loads(json.dumps(header))
        self.done = _store.recover(path, self.header)
        self.plan = [
            (arm, q, t)
            for q in range(len(asked))
            for arm in self.header["arms"]
            for t in range(debate.rounds + 1)
        ]
        self.places = {turn: place for place, turn in enumerate(self.plan)}
        self.gate = asyncio.Semaphore(debate.concurrency)
        self.calls = self.cached = 0
        self.failed = False
        self.waiting: dict[int, str] = {}

    async def perform(self) -> str:
        with self.path.open("a", encoding="utf-8") as self.file:
            if self.file.tell() == 0:
                self._write(_store.dumps(self.header))
            self.written = len(self.done)
            each = len(self.header["arms"]) * (self.debate.rounds + 1)
            tasks = [
                asyncio.create_task(self._question(q))
                for q in range(len(self.asked))
                if (q + 1) * each > self.written
            ]
            ended = await asyncio.gather(
                *tasks, return_exceptions=True
            )  # let what is under way finish: it is paid for
            for error in ended:
                if isinstance(error, BaseException) and not isinstance(error, BudgetExhausted):
                    raise error
            return "budget exhausted" if any(ended) else "finished"

    async def _question(self, q: int) -> None:
        for arm in self.header["arms"]:
            before: list[Reply] = []
            first: list[Reply] = []
            for t in range(self.debate.rounds + 1):
                place = self.places[arm, q, t]
                if place < len(self.done):
                    now = [
                        Reply(a["text"], None if a["belief"] is None else tuple(a["belief"]))
                        for a in self.done[place]["answers"]
                    ]
                else:
                    turns = [
                        self._request(q, i, t, arm, before, first) for i in range(len(self.debate.agents))
                    ]
                    asks = (self._ask(i, turn) for i, turn in enumerate(turns))
                    # What is under way is paid for: wait for all of it, then pass the first failure on.
                    came = await asyncio.gather(*asks, return_exceptions=True)
                    now = []
                    for reply in came:
                        if isinstance(reply, BaseException):
                            raise reply
                        now.append(reply)
                    self._finish(place, arm, q, t, now)
                before, first = now, first or now

    def _request(self, q: int, i: int, t: int, arm: str, before: list[Reply], first: list[Reply]) -> Request:
        asked, names = self.asked[q], self.header["agents"]
        options, choices = tuple(asked["options"]), tuple(asked["choices"])
        common = (asked["id"], asked["text"], options, choices, names[i], i)
        if arm == "vote" or t == 0:
            return Request(*common, round=0, sample=t if arm == "vote" else 0)
        said = [Heard(name, reply.text, reply.belief) for name, reply in zip(names, before)]
        who = tuple(
            j for j in range(len(names)) if j != i and arm == "debate" and bool(self.debate.heard[i, j])
        )
        return Request(
            *common,
            round=t,
            own=said[i],
            peers=tuple(said[j] for j in who),
            positions=who,
            first=first[i].belief,
        )

    async def _ask(self, i: int, request: Request) -> Reply:
        agent = self.debate.agents[i]
        parts = getattr(agent, "parts", 1)
        if parts == 1:
            return await self._call(agent, request)
        asks = (self._call(agent, replace(request, part=k)) for k in range(parts))
        came = await asyncio.gather(*asks, return_exceptions=True)
        for reply in came:
            if isinstance(reply, BaseException):
                raise reply
        return agent.join(request, came)  # pyright: ignore[reportAttributeAccessIssue]

    async def _call(self, agent: Agent, request: Request) -> Reply:
        turn = {name: value for name, value in vars(request).items() if name != "first"}
        turn |= {"own": request.own and vars(request.own), "peers": [vars(h) for h in request.peers]}
        key = _store.Cache.key({"agent": agent.identity(), "name": agent.name, "request": turn})
        async with self.gate:
            found = self.cache.get(key)
            if found is not None:
                self.cached += 1
                return found
            for attempt in range(self.debate.retries + 1):
                spent = self.debate.budget is not None and self.calls >= self.debate.budget
                if spent or self.failed:  # after a failure nothing new is started
                    raise BudgetExhausted
                self.calls += 1
                try:
                    reply = await agent.answer(request)
                except Retry as error:
                    if attempt == self.debate.retries:
                        self.failed = True
                        raise AgentError(
                            f"{agent.name}: {error}, {attempt + 1} times in a row. What is finished is kept in {self.path}; the "
                            "same call goes on from there"
                        ) from error
                    wait = self.debate.backoff * 2**attempt * random.uniform(0.75, 1.25)
                    await asyncio.sleep(error.after if error.after is not None else wait)
                    continue
                except Exception:
                    self.failed = True
                    raise
                self.calls += reply.calls - 1
                self.cache.put(key, reply)
                return reply
        raise AssertionError("unreachable")

    def _finish(self, place: int, arm: str, q: int, t: int, replies: list[Reply]) -> None:
        if arm != "debate" and t == 0:  # the same first answers: paid for once
            replies = [replace(r, calls=0, tokens_in=0, tokens_out=0, cost=0.0) for r in replies]
        said = [
            {"text": r.text, "belief": None if r.belief is None else list(r.belief), "calls": r.calls,
             "tokens": [r.tokens_in, r.tokens_out], "cost": r.cost}
            for r in replies
        ]  # fmt: skip
        line = {"arm": arm, "question": self.asked[q]["id"], "round": t, "answers": said}
        self.waiting[place] = _store.dumps(line)
        while self.written in self.waiting:  # lines keep the order of the plan, whoever is quicker
            self._write(self.waiting.pop(self.written))
            self.written += 1
        if self.progress is not None:
            self.progress(self.written, len(self.plan))

    def _write(self, line: str) -> None:
        self.file.write(line)
        self.file.flush()
        os.fsync(self.file.fileno())

    def result(self, status: str) -> DebateResult:
        return replace(result_of(self.path), status=status, calls=self.calls, cached=self.cached)


def result_of(path: str | os.PathLike[str]) -> DebateResult:
    """What the trace of a debate says, without running anything.

    Raises:
        ValueError: no trace of a debate.
    """
    place = Path(path)
    text = place.read_text(encoding="utf-8")
    whole = _store.lines(text)
    try:
        header, *lines = [json.loads(line) for line in whole]
        arms, expected = (
            header["arms"],
            len(header["arms"]) * len(header["questions"]) * (header["rounds"] + 1),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place} is no trace of a debate: {error}") from error
    finished = len(lines) == expected
    said = [a for line in lines for a in line["answers"]]
    log = _store.read(place) if lines else DebateLog([], str(place), "trace")
    control = _store.read(place, "no_peers") if "no_peers" in arms and finished else None
    vote = _vote(_store.read(place, "vote")) if "vote" in arms and finished else math.nan
    tokens = sum(a["tokens"][0] for a in said), sum(a["tokens"][1] for a in said)
    return DebateResult(
        log, control, vote, "finished" if finished else "unfinished", 0, 0, sum(a["calls"] for a in said), tokens,
        math.fsum(a["cost"] for a in said), sum(a["belief"] is None for a in said), place,
    )  # fmt: skip


def _vote(samples: DebateLog) -> float:
    """Majority over all samples of all agents; ties shared; NaN without known answers."""
    right: list[float] = []
    for q in samples.questions:
        if q.truth is not None:
            votes = answers(q.beliefs).sum((0, 1))
            top = votes == votes.max()
            right.append(float(top[q.truth]) / float(top.sum()) if votes.sum() > 0 else 0.0)
    return float(torch.tensor(right).double().mean()) if right else math.nan


def _question(given: Mapping[str, Any], i: int) -> dict[str, Any]:
    """A question with id, text, choices, options (letters) and truth (index or None)."""
    choices = [str(c) for c in given.get("choices") or ()]
    if "text" not in given or not 2 <= len(choices) <= 26:
        raise ValueError(
            f"question {i} needs a text and 2 to 26 choices, got {sorted(given)} with {len(choices)} choices"
        )
    options = [chr(ord("A") + k) for k in range(len(choices))]
    truth = given.get("truth")
    if truth is not None:
        names = {**{c: k for k, c in enumerate(choices)}, **{o: k for k, o in enumerate(options)}}
        index = truth if isinstance(truth, int) and 0 <= truth < len(choices) else names.get(str(truth))
        if index is None:
            raise ValueError(f"question {i}: truth {truth!r} is none of its choices {choices}")
        truth = index
    return {
        "id": str(given.get("id", i)),
        "text": str(given["text"]),
        "choices": choices,
        "options": options,
        "truth": truth,
    }
