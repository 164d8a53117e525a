"""Pictures of a moment of a game, and of what moved inside; `report` puts talks into a folder with them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.languagegame import games
from unrolled.languagegame.game import Game
from unrolled.languagegame.reply import Reply, Scene

INK, GREY = "#1c1e21", "#9aa0a6"


def draw(game: Game, scene: Scene, ax: Any = None) -> Any:
    """A moment: the cart, the rod, the links, the valley, a console's screen; else its numbers as bars.

    Args:
        game: the game.
        scene: the moment.
        ax: matplotlib axes; new ones when None.

    Returns:
        The axes.
    """
    ax = axes(ax)
    painter = _PAINTERS.get(game.name)
    state = list(scene.state.values())
    if painter is not None and all(map(math.isfinite, state)):
        painter(ax, state)
        ax.set_aspect("equal")
        ax.set_axis_off()
        return ax
    if game.extra == "atari" and scene.world is not None:
        from unrolled.languagegame.ground import ground

        screen = getattr(ground(game), "screen", lambda _: None)(scene.world)
        if screen is not None:
            ax.imshow(screen)
            ax.set_axis_off()
            return ax
    numbers = np.array(state, dtype=float)[:40]
    ax.bar(range(len(numbers)), numbers, color=[COLORS[0] if v < 0 else COLORS[1] for v in numbers])
    ax.set(xlabel="observation", ylabel="value")
    return ax


def _cartpole(ax: Any, state: Sequence[float]) -> None:
    x, _, angle, _ = state
    ax.plot([-2.4, 2.4], [0, 0], color=GREY, lw=1)
    ax.fill([x - 0.25, x + 0.25, x + 0.25, x - 0.25], [0, 0, 0.3, 0.3], color=COLORS[0])
    ax.plot(
        [x, x + math.sin(angle)], [0.3, 0.3 + math.cos(angle)], color=COLORS[1], lw=5, solid_capstyle="round"
    )
    ax.set(xlim=(-2.5, 2.5), ylim=(-0.2, 1.5))


def _pendulum(ax: Any, state: Sequence[float]) -> None:
    angle = state[0]
    ax.plot([0, -math.sin(angle)], [0, math.cos(angle)], color=COLORS[1], lw=7, solid_capstyle="round")
    ax.plot([0], [0], "o", color=INK, ms=6)
    ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))


def _acrobot(ax: Any, state: Sequence[float]) -> None:
    first, second = state[:2]
    elbow = (math.sin(first), -math.cos(first))
    tip = (elbow[0] + math.sin(first + second), elbow[1] - math.cos(first + second))
    ax.plot([-2.1, 2.1], [1, 1], color=GREY, lw=1)
    ax.plot([0, elbow[0]], [0, elbow[1]], color=COLORS[0], lw=6, solid_capstyle="round")
    ax.plot([elbow[0], tip[0]], [elbow[1], tip[1]], color=COLORS[1], lw=6, solid_capstyle="round")
    ax.plot([0], [0], "o", color=INK, ms=6)
    ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))


def _mountaincar(ax: Any, state: Sequence[float]) -> None:
    road = np.linspace(-1.2, 0.6, 120)
    height = 0.45 * np.sin(3 * road)
    ax.plot(road, height, color=GREY, lw=1.5)
    at = (0.45, 0.45 * math.sin(3 * 0.45))
    ax.plot([at[0], at[0]], [at[1], at[1] + 0.2], color=INK, lw=1)
    ax.fill([at[0], at[0] + 0.1, at[0]], [at[1] + 0.2, at[1] + 0.16, at[1] + 0.12], color=COLORS[1])
    ax.plot([state[0]], [0.45 * math.sin(3 * state[0]) + 0.04], "o", color=COLORS[0], ms=12)
    ax.set(xlim=(-1.25, 0.65), ylim=(-0.6, 0.75))


_PAINTERS = {"cartpole": _cartpole, "pendulum": _pendulum, "acrobot": _acrobot, "mountaincar": _mountaincar}


def course(reply: Reply, ax: Any = None) -> Any:
    """What moved inside: concentrations from the encoded moment on, each within its own range.

    Args:
        reply: an answer with a trajectory.
        ax: matplotlib axes; new ones when None.
    """
    ax = axes(ax)
    trajectory = reply.trajectory
    assert trajectory is not None
    shown = {
        name: values for name, values in trajectory.records.items() if float(values.max() - values.min()) > 0
    }
    styles = [(c, s) for s in ("-", "--", ":") for c in COLORS]
    for (name, values), (color, line) in zip(shown.items(), styles):
        low, high = float(values.min()), float(values.max())
        ax.plot(
            trajectory.t,
            (values - low) / (high - low),
            line,
            color=color,
            label=f"{name} ({low:.3g} to {high:.3g})",
        )
    ax.set(xlabel="time of the network", ylabel="concentration, in its range", ylim=(-0.05, 1.05))
    if shown:
        ax.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def report(replies: Sequence[Reply], folder: str | Path, *, title: str = "A talk") -> Path:
    """Write talks as report.md, with pictures of before, after and what moved inside (extra `report`).

    Args:
        replies: in order.
        folder: made if it is not there; older pictures of the same number are replaced.
        title: of the page.

    Returns:
        The path of report.md.
    """
    require("matplotlib", extra="report")
    from matplotlib.figure import Figure

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", ""]
    for number, reply in enumerate(replies, 1):
        lines += [
            f"## {number}. {_escaped(reply.prompt) or '(silence)'}",
            "",
            f"> {_escaped(reply.text)}",
            "",
        ]
        if reply.before is None or reply.after is None or reply.game is None:
            lines += [f"*{_escaped(reply.route)}.*", ""]
            continue
        game = games.named(reply.game)
        names = []
        done = f"after: {_action(game, reply.action)}"
        for which, heading, scene in (("before", "before", reply.before), ("after", done, reply.after)):
            figure = Figure(figsize=(3.6, 2.7), layout="constrained", facecolor="white")
            draw(game, scene, figure.add_subplot()).set_title(heading[:48], fontsize=9)
            names.append(f"{number:02d}-{which}.png")
            figure.savefig(target / names[-1], dpi=110)
        lines += [f"![before]({names[0]}) ![after]({names[1]})", ""]
        if reply.trajectory is not None and reply.trajectory.records:
            figure = Figure(figsize=(7.4, 2.9), layout="constrained", facecolor="white")
            course(reply, figure.add_subplot())
            figure.savefig(target / f"{number:02d}-inside.png", dpi=110)
            lines += [f"![what moved inside]({number:02d}-inside.png)", ""]
        lines += [
            "| | |", "|---|---|", f"| system | {reply.system} |", f"| game | {game.title}: {reply.goal} |", f"| why | {_escaped(reply.route)} |",
            f"| action | {_action(game, reply.action)}{'' if reply.fulfilled else ' (not what was wanted)'} |",
            f"| ΔV against a random observation | {reply.delta_value:+.4f} |", f"| ΔV by the action | {reply.gain:+.4f} |",
            *(f"| {name} | {value:.4g} → {reply.after.state.get(name, math.nan):.4g} |" for name, value in list(reply.before.state.items())[:8]), "",
            "| sentence | rests on |", "|---|---|", *(f"| {_escaped(s.text)} | {s.about}: `{s.value}` |" for s in reply.statements), "",
        ]  # fmt: skip
    path = target / "report.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _action(game: Game, action: Any) -> str:
    from unrolled.languagegame.game import Choice

    if isinstance(game.moves, Choice):
        return game.moves.names[action]
    return ", ".join(f"{name} {value:+.3g}" for name, value in zip(game.moves.names, action))


def _escaped(text: str) -> str:
    r"""Text of a stranger inside Markdown: on one line, and no markup.

    Example:
        >>> print(_escaped("a|b <script>" + chr(10) + "# c"))
        a\|b &lt;script&gt; \# c
    """
    made = (
        " ".join(text.split())
        .replace("\\", "\\\\")
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    for mark in "|*_`[]#!":
        made = made.replace(mark, "\\" + mark)
    return made
