"""Talking with a trained network of a run: one question at a time, dropped as soon as nobody waits for the answer."""

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from unrolled.view import paths
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
        self._gate = asyncio.Semaphore(1)

    async def ask(self, study: str, id: str, question: str, gone: Callable[[], Awaitable[bool]]) -> Any:
        """The answer to a question, as JSON holds it.

        Args:
            study: the run's study.
            id: the run.
            question: what was typed.
            gone: whether whoever asked has left; looked at while the answer is worked out.

        Raises:
            ValueError: no question, or too long a one.
            Busy: too many of them.
            Unavailable: nobody to talk to.
            Missing: the run saved no policy.
            asyncio.CancelledError: whoever asked has left.
            TimeoutError: no answer in time.
        """
        if not question.strip() or len(question) > LONGEST:
            raise ValueError(f"a question has 1 to {LONGEST} characters, got {len(question)}")
        wait = self._limit.wait()
        if wait or self._gate.locked():
            raise Busy(wait or 1.0)
        async with self._gate:
            stop = threading.Event()
            work = asyncio.create_task(asyncio.to_thread(_answer, self._root, study, id, question, stop))
            try:
                async with asyncio.timeout(SECONDS):
                    while not work.done():
                        await asyncio.wait({work}, timeout=0.1)
                        if not work.done() and await gone():
                            raise asyncio.CancelledError
                return work.result()
            finally:
                stop.set()


def _answer(root: Path, study: str, id: str, question: str, stop: threading.Event) -> Any:
    with paths.opened(root, study, id, "config.json"):
        pass
    try:
        game = importlib.import_module("unrolled.languagegame")
        game.talk  # noqa: B018 - lazy: the name says whether it is there
    except (ImportError, AttributeError) as error:
        raise Unavailable(
            "talking needs the language game, which this version of unrolled does not have"
        ) from error
    raise Missing(f"{study}/{id} saved no policy to talk to")
