"""`unrolled talk MODEL`: a sentence goes in, concentrations move, the network's answer comes out."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.text import Text

from unrolled.cli._console import out, read, say, short

HELP = """Talk to a frozen network. You say something; the sentence is matched with one of sixteen games; a moment of that game
is designed in which what you want is the right thing to do; the network acts on it by its own dynamics, which you see
move; and what it did, and how it fared, comes back as a sentence. It learns nothing from what you say.

MODEL is a run of game-cartpole or game-matrix, a policy file, or several of them: one system, several games. `train` in
its place lets the fruit fly's clock learn to balance a pole first, which takes a minute.

Without --say it asks until you end with an empty line or Ctrl-D. Nothing leaves this machine, unless --llm URL,MODEL
names an endpoint that speaks OpenAI's chat protocol: it then chooses the game and words the answer.

example:
  unrolled talk train
  unrolled talk runs/game-cartpole/2026-11-24-1a2b3c
  unrolled talk policy.safetensors --say "stay balanced" --report talk"""

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
SECONDS = 1.5
"""How long a course takes on a terminal."""


@dataclass(frozen=True)
class Options:
    """Options of `talk`."""

    model: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="MODEL", help="runs, policy files, or train"),
    ]
    say: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT", help="say this, and end")] = ()
    game: Annotated[str, tyro.conf.arg(help="play this game, whatever is said")] = ""
    seed: Annotated[int, tyro.conf.arg(help="of the moments")] = 0
    report: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help="write report.md and pictures there")
    ] = None
    llm: Annotated[str, tyro.conf.arg(metavar="URL,MODEL", help="let a language model route and word")] = ""
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="keep the policy that train makes")] = (
        None
    )


def main(argv: Sequence[str]) -> int:
    """The verb."""
    options = read(Options, "talk", HELP, argv)
    if not options.model:
        raise ValueError("talk needs MODEL: a run, a policy file, or train; see unrolled talk --help")
    from unrolled.languagegame import picture
    from unrolled.languagegame._talk import policies

    known = policies(_load(options))
    llm = _llm(options.llm)
    first = next(iter(known.values()))
    say(f"{first.core.name} listens; it has learned to {_listed(known)}. An empty line ends the talk.")
    replies: list[Any] = []
    for turn, text in enumerate(_prompts(options.say)):
        reply = _turn(known, text, options, turn, llm)
        replies.append(reply)
    if options.report is not None and replies:
        path = picture.report(replies, options.report, title=f"A talk with {first.core.name}")
        out().print(Text(f"report: {short(path)}"))
    return 0


def _listed(known: Any) -> str:
    from unrolled.languagegame import games

    *most, last = [games.named(name).activity for name in known]
    return f"{', to '.join(most)}, and to {last}" if most else last


def _prompts(given: Sequence[str]) -> Iterator[str]:
    if given:
        for text in given:
            out().print(Text(f"you: {text}", style="bold"))
            yield text
        return
    while True:
        try:
            text = out().input(Text("you: ", style="bold")) if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            return
        if not text.strip():
            return
        yield text.rstrip("\n")


def _turn(known: Any, text: str, options: Options, turn: int, llm: Any) -> Any:
    """One exchange; on a terminal the concentrations move while they are shown."""
    from rich.live import Live

    from unrolled.languagegame._talk import stream

    console, rows = out(), dict[str, list[float]]()
    events = stream(known, text, seed=options.seed, turn=turn, game=options.game or None, llm=llm)
    reply = None
    with Live(console=console, refresh_per_second=20, transient=False, auto_refresh=False) as live:
        for event in events:
            if event.kind == "route" and event.route is not None:
                say(Text(event.route.reason, style="dim"))
            elif event.kind == "trace" and event.concentrations is not None:
                for name, value in event.concentrations.items():
                    rows.setdefault(name, []).append(value)
                if console.is_terminal:
                    live.update(sparklines(rows), refresh=True)
                    time.sleep(SECONDS / 65)
            elif event.kind == "reply":
                reply = event.reply
        if rows:
            live.update(sparklines(rows), refresh=True)
    assert reply is not None
    console.print(Text.assemble((f"{reply.system}: ", "bold cyan"), reply.text))
    return reply


def sparklines(rows: dict[str, list[float]]) -> Text:
    """One line per species: name, course within its range, first and last value; constant ones are left out.

    Example:
        >>> print(sparklines({"M": [1.0, 2.0, 3.0], "E": [1.0, 1.0, 1.0]}).plain.rstrip())
        M  ▁▄█  1 → 3
    """
    moving = {name: values for name, values in rows.items() if len(values) < 2 or max(values) > min(values)}
    wide = max(map(len, moving), default=0)
    made = Text()
    for name, values in moving.items():
        made.append(f"{name:<{wide}}  ", style="bold")
        made.append(spark(values), style="cyan")
        made.append(f"  {values[0]:.4g} → {values[-1]:.4g}\n", style="dim")
    return made


def spark(values: Sequence[float]) -> str:
    """Numbers as bars, at most forty; `x` where a number is not finite.

    Example:
        >>> spark([0, 1, 2, 3, 4, 5, 6, 7]), spark([1.0, float("nan")])
        ('▁▂▃▄▅▆▇█', '▁x')
    """
    import math

    step = max(1, math.ceil(len(values) / WIDTH))
    shown = list(values[::step])
    finite = [v for v in shown if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[int((v - low) * scale + 0.5 - 1e-9)] if math.isfinite(v) else "x" for v in shown)


def _llm(word: str) -> Any:
    if not word:
        return None
    from unrolled.languagegame.llm import Chat

    url, _, model = word.rpartition(",")
    if not url or not model:
        raise ValueError(f"--llm takes URL,MODEL, as in http://127.0.0.1:8080/v1,small; got {word!r}")
    return Chat(url, model)


def _load(options: Options) -> list[Any]:
    from unrolled.languagegame import Policy

    made: list[Any] = []
    for word in options.model:
        if word == "train":
            made.append(_train(options))
            continue
        path = Path(word)
        files = found(path)
        if not files:
            raise ValueError(
                f"{word} is no policy file and no run folder with one; `unrolled run game-cartpole` makes a run, and "
                f"`unrolled talk train` a policy"
            )
        made += [Policy.load(file) for file in files]
    games = {policy.env_id: policy for policy in made}  # the last of each game
    return list(games.values())


def found(path: Path) -> list[Path]:
    """Policy files: the file itself, or those in a run folder (its own, and in `policies/` and `checkpoints/`)."""
    if path.is_file():
        return [path]
    for pattern in ("policy*.safetensors", "policies/*.safetensors", "checkpoints/policy*.safetensors"):
        files = sorted(path.glob(pattern)) if path.is_dir() else []
        if files:
            return files
    return []


def _train(options: Options) -> Any:
    from unrolled.languagegame import Policy, ppo

    say("tyson1999, the fruit fly's clock, learns to balance a pole; a minute")
    policy = Policy.make("CartPole-v1", "tyson1999", seed=options.seed)
    done = ppo(policy, "CartPole-v1", 150_000, preset="fast", seed=options.seed)
    say(
        f"it stays up for {done.score:.0f} of 500 steps, after {done.step:,} steps of practice in {done.seconds:.0f} s"
    )
    if options.save is not None:
        policy.save(options.save)
        out().print(Text(f"policy: {short(options.save)}"))
    return policy
