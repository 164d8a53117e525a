"""Talking with a trained network of a run: one question at a time, dropped as soon as nobody waits for the answer."""

import asyncio
import contextlib
import importlib
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.view import folders, paths
from unrolled.view.folders import Missing
from unrolled.view.safety import Limit

LONGEST = 500
"""Characters of a question."""
SECONDS = 60.0
"""After which an answer is given up."""


class Unavailable(NotImplementedError):
    """This installation has nobody to talk to; the message says what is missing."""


class Busy(RuntimeError):
    """Too many questions; `after` is the number of seconds to wait."""

    def __init__(self, after: float) -> None:
        super().__init__(f"one question at a time: ask again in {max(1, round(after))} s")
        self.after = after


class Talker:
    """Answers questions to the policies that runs have saved.

    Args:
        root: folder of all runs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._limit = Limit(burst=5, rate=0.5)
        self._one = threading.Lock()
        self._policies: dict[str, Any] = {}

    async def ask(self, told: Mapping[str, Any], gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        """The answer to a question, as JSON holds it.

        Args:
            told: `study`, `id`, `exhibit` (of kind `talk`), `text`, and the `session` of the answer before, if any.
            gone: whether whoever asked has left; looked at while the answer is worked out.

        Returns:
            `reply`, `session`; where the system acted also `t`, `unit`, `traces`, `phase`, `before`, `after`, `facts`.

        Raises:
            ValueError: no question, or too long a one; a policy that cannot be read.
            Busy: too many of them.
            Unavailable: nobody to talk to.
            Missing: the run saved no policy.
            asyncio.CancelledError: whoever asked has left.
            TimeoutError: no answer in time.
        """
        question, turn = told["text"], told.get("session") or 0
        if not question.strip() or len(question) > LONGEST:
            raise ValueError(f"a question has 1 to {LONGEST} characters, got {len(question)}")
        if not isinstance(turn, int) or not 0 <= turn < 10_000:
            raise ValueError("the session is what the answer before gave")
        wait = self._limit.wait()
        if wait or self._one.locked():
            raise Busy(wait or 1.0)
        stop = threading.Event()
        work = asyncio.create_task(asyncio.to_thread(self._answer, told, turn, stop))
        # Of an answer nobody waits for, the error is not heard either.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(SECONDS):
                while not work.done():
                    await asyncio.wait({work}, timeout=0.1)
                    if not work.done() and await gone():
                        raise asyncio.CancelledError
            return work.result()
        finally:
            stop.set()

    def _answer(self, told: Mapping[str, Any], turn: int, stop: threading.Event) -> dict[str, Any]:
        try:
            game = importlib.import_module("unrolled.languagegame")
            talk, load = game.talk, game.Policy.load
        except (ImportError, AttributeError) as error:
            raise Unavailable(
                "talking needs the language game, which this version of unrolled does not have"
            ) from error
        study, id = told["study"], told["id"]
        data = folders.exhibit(self._root, study, id, told.get("exhibit") or "talk")["data"]
        if not isinstance(data, dict) or not isinstance(data.get("model"), str):
            raise Missing(f"{study}/{id} names no policy to talk to")
        with self._one:
            policy = self._policy(load, study, id, data["model"])
            return _told(talk(policy, told["text"], turn=turn, cancel=stop), policy) | {"session": turn + 1}

    def _policy(self, load: Callable[[Path], Any], study: str, id: str, model: str) -> Any:
        try:
            with paths.opened(self._root, study, id, model) as file:
                status = os.fstat(file.fileno())
        except FileNotFoundError as error:
            raise Missing(f"{study}/{id} has no file {model!r} to talk to") from error
        key = f"{status.st_dev}.{status.st_ino}.{status.st_mtime_ns}"
        if key not in self._policies:
            if len(self._policies) >= 4:
                self._policies.pop(next(iter(self._policies)))
            self._policies[key] = load(self._root / study / id / model)
        return self._policies[key]


def _told(reply: Any, policy: Any) -> dict[str, Any]:
    """A reply as the page shows it: the words, what moved, and the world before and after."""
    made: dict[str, Any] = {"reply": reply.text}
    made["facts"] = {
        key: getattr(reply, key)
        for key in ("game", "goal", "fulfilled", "delta_value", "gain", "system", "method")
    }
    course = reply.trajectory
    if course is not None and len(course):
        names = list(course.records)
        made |= {"t": course.t.tolist(), "unit": str(course.meta.get("unit", "time"))}
        made["traces"] = {name: course[name].tolist() for name in names}
        if len(names) > 1:
            # The two that move most, in units of their own spread over the course.
            x, y = sorted(
                names, key=lambda name: -float(course[name].std() / (course[name].abs().mean() + 1e-12))
            )[:2]
            made["phase"] = {"x": course[x].tolist(), "y": course[y].tolist(), "xlabel": x, "ylabel": y}
    for name in ("before", "after"):
        scene = getattr(reply, name)
        picture = None if scene is None else _picture(policy.env_id, scene)
        if picture is not None:
            made[name] = {"shape": list(picture.shape), "data": picture.ravel().tolist()}
    return made


def _picture(env_id: str, scene: Any) -> Any:
    """The environment drawn at a moment, at a third of its size; None where it cannot be drawn from its state alone."""
    try:
        import gymnasium

        with contextlib.closing(
            gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
        ) as env:
            env.reset(seed=0)
            world: Any = env.unwrapped
            if not hasattr(world, "state"):
                return None
            world.state = np.asarray(list(scene.state.values()), dtype=np.float64)
            world.last_u = None  # the pendulum's arrow
            return np.asarray(env.render())[::3, ::3]
    except Exception:  # a picture is an extra: no display library, an environment of another make
        return None
