"""`unrolled debate fit LOG | run QUESTIONS | report TRACE`: who influenced whom, and was it worth it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.text import Text

from unrolled.cli._console import flow, out, read, say, short

HELP = """Who becomes an influencer in a debate of agents: fit recorded debates, or run one.

  fit LOG         stubbornness, retention, who listens to whom, influence
  run QUESTIONS   run a debate; killed, it goes on where it stopped
  report TRACE    what a debate gained, next to a vote that cost the same

example:
  unrolled debate fit log.csv --pool
  unrolled debate run questions.json --agents http://127.0.0.1:8080/v1,my-model,3
  unrolled debate report debate.jsonl"""

FIT = """Fit Friedkin-Johnsen dynamics to a log: how far each agent is pulled to its first belief (stubbornness), to its
last one (retention) and to others, and whose first belief is in whose last one (influence). LOG is a CSV with columns
question, round, agent, option, prob; a JSON of OpenAI messages per agent; an inspect_ai log; MAS-Cascade beliefs; or a
trace of `unrolled debate run`.

Without --pool each question has parameters of its own, which needs rounds x (options - 1) of at least the number of
agents; with it all questions share them. "unidentified" means that the log cannot tell.

example:
  unrolled debate fit log.csv --pool --bootstrap 200
  unrolled debate fit debate.jsonl --control alone.csv --pool"""

RUN = """Run a debate: all agents answer, hear one another, and answer again. QUESTIONS is a JSON list, or JSON lines, of
{"text": ..., "choices": [...], "truth": "A"}. Each of --agents is URL,MODEL or URL,MODEL,COUNT for any endpoint that
speaks OpenAI's protocol; `local,COUNT` or FILE.gguf,COUNT is a model in this process (extra local); `scripted,COUNT` needs
no model and shows how it works. Every answer is kept: killed, out of
budget or cut off, the same command goes on and repeats no finished call.

example:
  unrolled debate run questions.json --agents scripted,5 --rounds 5
  unrolled debate run questions.json --agents local,5 --control no_peers
  unrolled debate run questions.json --agents http://127.0.0.1:8080/v1,my-model,3 --mode logprobs --control no_peers"""

REPORT = """Print what a debate gained: accuracy over rounds, a majority vote of as many samples, and the fit.

example:
  unrolled debate report debate.jsonl"""


REASON = 24
"""Tokens of the reason that a local model draws before its answer: what makes agents with one model differ."""


@dataclass(frozen=True)
class FitOptions:
    """Options of `debate fit`."""

    log: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help="a file or folder")]
    pool: Annotated[bool, tyro.conf.arg(help="one set of parameters for all questions")] = False
    rollout: Annotated[bool, tyro.conf.arg(help="fit whole trajectories: less biased by noise, slower")] = (
        False
    )
    control: Annotated[Path | None, tyro.conf.arg(help="the same questions answered without peers")] = None
    bootstrap: Annotated[int, tyro.conf.arg(help="resamples for intervals; 200 is a good number")] = 0
    out: Annotated[Path | None, tyro.conf.arg(help="write the table there, as CSV")] = None


@dataclass(frozen=True)
class RunOptions:
    """Options of `debate run`."""

    questions: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="QUESTIONS", help="JSON list or lines")
    ]
    agents: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="AGENT", help="URL,MODEL[,COUNT], local[,COUNT], FILE.gguf[,COUNT] or scripted,COUNT"
        ),
    ]
    rounds: Annotated[int, tyro.conf.arg(help="after the first answers")] = 5
    mode: Annotated[
        str,
        tyro.conf.arg(
            help="how beliefs are read: json (an endpoint's default), logprobs, samples; likelihood (a local model's)"
        ),
    ] = ""
    control: Annotated[str, tyro.conf.arg(help="no_peers: ask again without showing peers as well")] = "none"
    budget: Annotated[int | None, tyro.conf.arg(help="calls at most")] = None
    concurrency: Annotated[int, tyro.conf.arg(help="calls at a time")] = 8
    vote: Annotated[bool, tyro.conf.arg(help="also take the vote that costs as much")] = True
    trace: Annotated[Path, tyro.conf.arg(help="the file that is written, and gone on with")] = Path(
        "debate.jsonl"
    )


@dataclass(frozen=True)
class ReportOptions:
    """Options of `debate report`."""

    trace: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRACE", help="what `debate run` wrote")
    ]


def main(argv: Sequence[str]) -> int:
    """The verb."""
    verbs = {
        "fit": (FitOptions, FIT, _fit),
        "run": (RunOptions, RUN, _run),
        "report": (ReportOptions, REPORT, _report),
    }
    if not argv or argv[0] in ("-h", "--help"):
        out().print(Text("usage: unrolled debate fit|run|report ...\n", style="bold"))
        print(flow(HELP))
        return 0
    if argv[0] not in verbs:
        raise ValueError(f"unrolled debate has no {argv[0]!r}; there are {', '.join(verbs)}")
    options, text, act = verbs[argv[0]]
    return act(read(options, f"debate {argv[0]}", text, argv[1:]))  # pyright: ignore[reportArgumentType]


def _fit(options: FitOptions) -> int:
    from unrolled.debate import FJFit, fit, load

    log = load(options.log)
    say(f"{log!r}")
    for note in log.notes:
        say(f"note: {note}")
    if any(q.truth is not None for q in log.questions):
        majority = log.majority()
        say(
            f"right: majority {100 * float(majority[0]):.1f} % -> {100 * float(majority[-1]):.1f} %; a majority vote of as many "
            f"samples, drawn from the first beliefs, {100 * log.vote():.1f} %"
        )
    control = None if options.control is None else load(options.control).beliefs
    found = fit(
        log.beliefs, pool=options.pool, mode="rollout" if options.rollout else "one_step", control=control,
        bootstrap=options.bootstrap,
    )  # fmt: skip
    console = out()
    shown = [found] if isinstance(found, FJFit) else found[:3]
    for k, each in enumerate(shown):
        console.print(
            Text(("" if options.pool else f"{log.questions[k].id[:60]}: ") + str(each)), soft_wrap=True
        )
    if not isinstance(found, FJFit) and len(found) > len(shown):
        console.print(Text(f"{found}; --out writes them all, --pool fits them together", style="bold"))
    if isinstance(found, FJFit) and found.intervals:
        low, high = found.intervals["gamma"]
        told = ", ".join(f"[{a:.3f}, {b:.3f}]" for a, b in zip(low.tolist(), high.tolist()))
        console.print(Text(f"stubbornness, 90 % intervals: {told}"), soft_wrap=True)
    test = getattr(shown[0], "control", None)
    if test is not None:
        console.print(
            f"weight on peers {test.peer_weight:.3f}, without peers {test.control_peer_weight:.3f}, p = {test.p_value:.3g}"
        )
    if options.out is not None:
        found.to_frame().to_csv(options.out, index=False)
        console.print(Text(f"table: {short(options.out)}"))
    return 0


def _run(options: RunOptions) -> int:
    from unrolled.debate import Debate
    from unrolled.training.progress import Progress

    debate = Debate(
        _agents(options.agents, options.mode), options.rounds, control=options.control, budget=options.budget,
        concurrency=options.concurrency, vote=options.vote,
    )  # fmt: skip
    result = debate.run(questions(options.questions), options.trace, progress=Progress("debate"))
    out().print(Text(str(result)), soft_wrap=True)
    if result.status != "finished":
        say("the budget is exhausted; the same command with a larger --budget goes on, and repeats nothing")
        return 1
    say(f"go on with: unrolled debate report {short(options.trace)}")
    return 0


def _report(options: ReportOptions) -> int:
    from unrolled.debate import fit
    from unrolled.debate._debate import result_of

    result = result_of(options.trace)
    console = out()
    console.print(Text(str(result)), soft_wrap=True)
    if len(result.log):
        control = None if result.control is None else result.control.beliefs
        console.print(Text(str(fit(result.log.beliefs, pool=True, control=control))), soft_wrap=True)
    return 0


def questions(path: Path) -> list[dict[str, Any]]:
    """A JSON list, or one JSON object per line.

    Raises:
        ValueError: neither; the message gives the line.
    """
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path} is no whole JSON list: {error}") from error
    made: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                made.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return made


def _agents(words: Sequence[str], mode: str) -> list[Any]:
    import torch

    from unrolled.debate import FJ, LLM, Local, Scripted

    made: list[Any] = []
    for word in words:
        parts = word.split(",")
        count = int(parts[-1]) if parts[-1].isdigit() else 1
        names = parts[:-1] if parts[-1].isdigit() else parts
        if names == ["scripted"] and count >= 2:
            rng = torch.Generator().manual_seed(count)
            W = torch.rand(count, count, generator=rng, dtype=torch.float64).fill_diagonal_(0)
            gamma, alpha = torch.rand(2, count, generator=rng, dtype=torch.float64) / 2
            made.append(Scripted(FJ(gamma, alpha, W / W.sum(-1, keepdim=True))))
        elif len(names) == 1 and (names[0] == "local" or names[0].endswith(".gguf")):
            file = None if names[0] == "local" else names[0]
            reason = REASON if mode in ("", "likelihood") else 0
            for k in range(len(made), len(made) + count):
                made.append(Local(file, name=f"local {k}", mode=mode or "likelihood", reason=reason))
        elif len(names) == 2:
            suffix = range(len(made), len(made) + count)
            made += [LLM(names[0], names[1], name=f"{names[1]} {k}", mode=mode or "json") for k in suffix]
        else:
            raise ValueError(
                f"an agent is URL,MODEL or URL,MODEL,COUNT, local,COUNT, FILE.gguf,COUNT, or scripted,COUNT with 2 or more; "
                f"got {word!r}"
            )
    return made
