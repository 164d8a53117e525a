"""`talk`: a sentence goes in, the frozen system acts, a sentence comes back. `stream` is the same, step by step.

    sentence -> route -> game and goal -> design -> a moment -> policy -> action -> the moment after -> Reply

The language stays outside: the system sees numbers and answers with an action. It can do nothing but play the games it has
learned; a sentence that fits none of them is refused, whatever it demands (2605.16321; fact sheet, A9).
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Stop, Trajectory
from unrolled.languagegame import games, reply
from unrolled.languagegame._design import Design, NoStateError, design
from unrolled.languagegame._importance import importance
from unrolled.languagegame._route import Route, goal_of, route
from unrolled.languagegame.game import Choice, Game
from unrolled.languagegame.ground import Ground, ground
from unrolled.languagegame.reply import Reply, Scene, Statement
from unrolled.languagegame.words import stems

POINTS = 65
NEARLY = 0.5
"""Share of the best score that makes a learned game near enough, where the best is not learned."""
SHOWN = 16
"""Nodes of which a course is kept."""


class Cancelled(RuntimeError):
    """A talk was cancelled between two of its steps; nothing was changed."""


@dataclass(frozen=True)
class Event:
    """A step of a talk.

    Attributes:
        kind: `"route"`, `"design"`, `"trace"` (once per point of the course) or `"reply"`, in this order.
        route: of `"route"`.
        design: of `"design"`.
        t: of `"trace"`: time in the network's unit.
        concentrations: of `"trace"`: species -> number.
        reply: of `"reply"`, the last event.
    """

    kind: str
    route: Route | None = None
    design: Design | None = None
    t: float = 0.0
    concentrations: Mapping[str, float] | None = None
    reply: Reply | None = None


def talk(policy: Any, text: str, **options: Any) -> Reply:
    """Say something to a system and hear its answer.

    Args:
        policy: a trained `Policy`, several in a list, or game's name -> policy: one system with an interface per game.
        text: what is said; any string is safe.
        options: of `stream`: `seed`, `turn`, `game`, `method`, `llm`, `cancel`, `points`.

    Returns:
        The answer. Where it cannot play, `game` or `action` is None and the text says why.

    Raises:
        ValueError: a policy for no known game, or with another width than its game.
        Cancelled: `cancel` said so.

    Example:
        >>> from unrolled.languagegame import Policy
        >>> answer = talk(Policy.make("CartPole-v1", "tyson1999"), "stay balanced")
        >>> answer.game, answer.statements[0].text == f"I pushed the cart to the {['left', 'right'][answer.action]}."
        ('cartpole', True)
        >>> talk(Policy.make("CartPole-v1", "tyson1999"), "play chess").text
        'I cannot play that. What I can do is balance a pole on a cart.'
    """
    *_, last = stream(policy, text, **options)
    assert last.reply is not None
    return last.reply


def stream(
    policy: Any,
    text: str,
    *,
    seed: int = 0,
    turn: int = 0,
    game: Game | str | None = None,
    method: str = "auto",
    llm: Callable[[str, str], str] | None = None,
    cancel: "Callable[[], bool] | threading.Event | None" = None,
    points: int = POINTS,
) -> Iterator[Event]:
    """`talk` as a generator of events; closing it ends the talk.

    Args:
        policy: as `talk` takes it.
        text: what is said.
        seed: of the designed moment and of the random observation that the tone is held against.
        turn: how many talks with this seed came before: each draws anew.
        game: skip the router and play this one.
        method: of `route`.
        llm: a language model as a function of (system, prompt), for routing and wording; see `languagegame.llm.Chat`.
        cancel: asked between steps and between points of the course; True, or a set `threading.Event`, raises `Cancelled`.
        points: of the course of concentrations.

    Yields:
        Events, the last of kind `"reply"`.
    """
    if not isinstance(text, str):
        raise TypeError(f"a prompt is a string, got {type(text).__name__}")
    asked = cancel.is_set if isinstance(cancel, threading.Event) else cancel
    known = policies(policy)

    def check() -> None:
        if asked is not None and asked():
            raise Cancelled("the talk was cancelled")

    check()
    found = (
        _given(game, text) if game is not None else _learned(text, route(text, method=method, llm=llm), known)
    )
    yield Event("route", route=found)
    check()
    about: dict[str, Any] = {
        "prompt": text,
        "route": found.reason,
        "score": found.score,
        "method": found.method,
        "seed": seed,
    }
    about["system"] = next(iter(known.values())).core.name
    if found.game is None or found.goal is None:
        opening = (
            "I heard nothing. " if found.reason.startswith("nothing was said") else "I cannot play that. "
        )
        yield Event("reply", reply=_refused(opening + _abilities(known), found.reason, about))
        return
    if found.game.name not in known:
        said = f"That would be to {found.game.activity}, which I have not learned. {_abilities(known)}"
        yield Event(
            "reply",
            reply=_refused(said, f"no policy for {found.game.name}", {**about, "game": found.game.name}),
        )
        return
    player = known[found.game.name]
    about |= {"game": found.game.name, "goal": found.goal.name, "system": player.core.name}
    try:
        world = ground(found.game)
        made = design(found.game, found.goal, seed=seed + turn, where=world)
    except NoStateError as error:
        said = f"I found no moment in which it would be right to {found.goal.name}, so I did nothing."
        yield Event("reply", reply=_refused(said, str(error), about))
        return
    except ImportError as error:
        said = f"I know how to {found.game.activity}, but its world is not installed here."
        yield Event("reply", reply=_refused(said, str(error), about))
        return
    yield Event("design", design=made)
    check()
    trace = player.trace(made.observation)
    course = concentrations(player, trace["projected"], points)
    for i in range(len(course)):
        check()
        row = {name: float(values[i]) for name, values in course.records.items()}
        yield Event("trace", t=float(course.t[i]), concentrations=row)
    check()
    yield Event("reply", reply=_answer(player, found, made, world, trace, course, turn, llm, about))


# --- who can play what ------------------------------------------------------------------------------------------------


def policies(policy: Any) -> dict[str, Any]:
    """Game's name -> policy, of one policy, several, or such a mapping.

    Raises:
        ValueError: no policy, one for no known game, or one with another width than its game has observations.
    """
    if isinstance(policy, Mapping):
        made = {games.named(str(name)).name: each for name, each in policy.items()}
    else:
        each_one = list(policy) if isinstance(policy, Sequence) else [policy]
        made = {games.named(each.env_id).name: each for each in each_one}
    if not made:
        raise ValueError("there is no policy to talk to")
    for name, each in made.items():
        game = games.named(name)
        if (
            each.observations != game.observations
            or each.actions != len(game.moves.names)
            or each.discrete != isinstance(game.moves, Choice)
        ):
            raise ValueError(
                f"{game.title} has {game.observations} observations and {len(game.moves.names)} actions; this policy was made for "
                f"{each.observations} and {each.actions}"
            )
    return made


def _abilities(known: Mapping[str, Any]) -> str:
    can = [games.named(name).activity for name in known]
    return f"What I can do is {', '.join(can[:-1]) + ', or ' + can[-1] if len(can) > 1 else can[0]}."


def _given(game: Game | str, text: str) -> Route:
    chosen = games.named(game) if isinstance(game, str) else game
    goal, named = goal_of(text, chosen)
    return Route(chosen, goal, named, 1.0, {chosen.name: 1.0}, "given", f"{chosen.title} was given")


def _learned(text: str, found: Route, known: Mapping[str, Any]) -> Route:
    """The route, or a learned game's where that is nearly as near and the sentence names one of its goals.

    "Push left" fits pushing an object a little better than the cart; a system that knows the cart alone takes it so. "Left!" fits
    no game by itself, and is said of one that was learned.
    """
    if found.game is not None and found.game.name in known:
        return found
    words = set(stems(text))
    for name in known if found.game is None and words else ():
        game = games.named(name)
        goal, named = goal_of(text, game)
        if named and words <= set(
            stems(" ".join(w for each in game.goals for w in (each.name, *each.words)))
        ):
            return replace(
                found, game=game, goal=goal, named=True, reason=f"{goal.name!r} is a goal of {name}"
            )
    if found.game is None:
        return found
    for name, score in found.scores.items():
        if name in known and score >= NEARLY * found.score:
            goal, named = goal_of(text, games.named(name))
            if named:
                why = f"{found.reason}; not learned, and {goal.name!r} is a goal of {name} with {score:.2f}"
                return replace(found, game=games.named(name), goal=goal, named=True, score=score, reason=why)
    return found


def _refused(text: str, why: str, about: Mapping[str, Any]) -> Reply:
    return Reply(text=text, statements=(reply.refusal(text, why),), **about)


# --- what happens inside ----------------------------------------------------------------------------------------------


def concentrations(policy: Any, start: Tensor, points: int = POINTS) -> Trajectory:
    """The frozen system's own course from encoded concentrations, over one of its time scales.

    A biological network is integrated with its own solver; a course that fails is NaN from there on, and `stop` says why. Any
    other core takes its own steps.

    Args:
        policy: whose core it is.
        start: `[d]`, from `trace`.
        points: of the course.
    """
    from unrolled.sbml import Model

    core, names = policy.core, policy.species[:SHOWN]
    x = start.detach().double().reshape(1, -1)
    if isinstance(core.system, Model):
        run = core.system.simulate(core.time_scale, points, x0=x, rtol=1e-4, atol=1e-7, fused=False)
        values, t = run["x"], run.t
        values = values[:, 0] if values.ndim == 3 else values
        stop = (
            Stop("steps", points - 1)
            if run.status[0] == "ok"
            else Stop("nonfinite", points - 1, run.where[0], run.stop.hint)
        )
    else:
        rows, now = [x], x
        for _ in range(points - 1 if core.out == core.width else 0):
            now = (
                core.flow(now.to(next(policy.parameters())), core.time_scale / (points - 1), 1)
                .detach()
                .double()
            )
            rows.append(now)
        values, t = torch.cat(rows), torch.linspace(0, core.time_scale, points)[: len(rows)]
        stop = Stop("steps", len(rows) - 1)
    records = {name: values[:, i].clone() for i, name in enumerate(names)}
    return Trajectory.from_records(
        t.double(), records, stop=stop, meta={"unit": "time of the network", "system": core.name}
    )


def _answer(
    player: Any,
    found: Route,
    made: Design,
    world: Ground,
    trace: Mapping[str, Tensor],
    course: Trajectory,
    turn: int,
    llm: Any,
    about: dict[str, Any],
) -> Reply:
    game, goal = made.game, made.goal
    raw = player.act(made.observation)
    action: Any = int(raw) if player.discrete else [float(v) for v in raw.reshape(-1)]
    following, _, over = world.step(made.state, action)
    fulfilled = _fulfilled(world, made, action)
    value = float(trace["value"])
    there = (
        world.observe(following) if world.valid(following) else None
    )  # an end can lie beyond what is valid
    after_value = math.nan if there is None else float(player.value(there))
    rng = torch.Generator().manual_seed(about["seed"])
    drawn = [torch.randn(game.observations, generator=rng) for _ in range(turn + 1)][-1]
    random = float(player.value(drawn))
    statements: list[Statement] = [reply.of_action(game, action), reply.of_goal(goal, found.named, fulfilled)]
    if player.core.out == player.core.width:
        moved = trace["rate"] if player.mode == "field" else trace["rate"] - trace["projected"]
        statements.append(
            reply.of_species(player.species, (moved / player.core.std.to(moved)).tolist(), player.mode)
        )
        shares = importance(player, made.observation, action=action if player.discrete else None)["share"]
        hung = reply.of_importance(player.species, shares.tolist())
        statements += [hung] if hung is not None else []
    statements.append(reply.of_value(value, random))
    statements.append(reply.of_end() if over else reply.of_gain(after_value, value))
    text, worded = " ".join(each.text for each in statements), "plain words"
    if llm is not None:
        text, worded = reply.reworded(statements, game, llm)
    before = Scene(tuple(made.observation.tolist()), _named(world, made.state), value, made.state)
    after = Scene(
        () if there is None else tuple(there.tolist()), _named(world, following), after_value, following
    )
    return Reply(
        text=text, action=action, fulfilled=fulfilled, trajectory=course, before=before, after=after, delta_value=value - random,
        gain=after_value - value, statements=tuple(statements), margin=made.margin, **{**about, "method": f"{found.method}, {worded}"},
    )  # fmt: skip


def _named(world: Ground, state: Any) -> dict[str, float]:
    return dict(zip(world.fields, world.numbers(state)))


def _fulfilled(world: Ground, made: Design, action: Any) -> bool:
    goal, game = made.goal, made.game
    if not goal.outcome:
        return goal.fulfilled(game.moves, action)
    import numpy as np

    joints = len(game.moves.names)
    pair = (
        [np.zeros(joints), np.asarray(action, dtype=float)]
        if not isinstance(game.moves, Choice)
        else [0, action]
    )
    outcome = world.ahead([made.state], pair, goal.outcome.removeprefix("-")).outcome
    assert outcome is not None
    raised = float(outcome[0, 1])
    return (-raised if goal.outcome.startswith("-") else raised) > 1e-9
