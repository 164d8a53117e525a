"""What changes while one looks: one watcher for all open pages, which sleeps when there are none."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from unrolled.runs import plain
from unrolled.view import folders

INTERVAL = 1.0
"""Seconds between two looks at the folders; longer where looking itself takes long."""
BEAT = 15.0
"""Seconds after which a silent stream says that it is alive."""
PAGES = 32
"""Streams open at once."""


class Watcher:
    """Looks at the runs while somebody listens, and tells every listener what is new.

    Args:
        root: folder of all runs.

    Attributes:
        looks: how often it has looked.
    """

    def __init__(self, root: Path) -> None:
        self.looks = 0
        self._over = False
        self._root = root
        self._listeners: dict[asyncio.Queue[str | None], tuple[tuple[str, str], ...]] = {}
        self._task: asyncio.Task[None] | None = None
        self._rows: dict[str, str] = {}
        self._stamps: dict[tuple[str, str], dict[str, str]] = {}

    @property
    def full(self) -> bool:
        """Whether no further page can listen."""
        return len(self._listeners) >= PAGES

    async def listen(self, watched: tuple[tuple[str, str], ...]) -> AsyncIterator[str]:
        """Server-sent events: `runs` with rows that changed or are gone, `run` with the parts of a watched run that did.

        Args:
            watched: (study, id) of the runs that the page shows.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=256)
        if self._over:
            return
        self._listeners[queue] = watched
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            yield "retry: 2000\n\n"
            while not self._over:
                try:
                    message = await asyncio.wait_for(queue.get(), BEAT)
                except TimeoutError:
                    message = ": still here\n\n"
                if message is not None:
                    yield message
        finally:
            self._listeners.pop(queue, None)

    def end(self) -> None:
        """End every stream: the server is about to stop, and waits for its answers."""
        self._over = True
        for queue in self._listeners:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        # What pages have loaded is at most as old as this: from here on, changes.
        self._rows, self._stamps = {}, {}
        first = True
        while self._listeners:
            began = time.monotonic()
            wanted = {run for runs in self._listeners.values() for run in runs}
            try:
                rows, stamps = await asyncio.to_thread(self._look, wanted)
            except OSError:
                await asyncio.sleep(INTERVAL)
                continue
            self._tell(rows, stamps, first)
            first = False
            self.looks += 1
            await asyncio.sleep(max(INTERVAL, 4 * (time.monotonic() - began)))

    def _look(
        self, wanted: set[tuple[str, str]]
    ) -> tuple[dict[str, str], dict[tuple[str, str], dict[str, str]]]:
        rows = {f"{row['study']}/{row['id']}": plain.dumps(row) for row in folders.runs(self._root)}
        stamps: dict[tuple[str, str], dict[str, str]] = {}
        for run in wanted:
            with contextlib.suppress(OSError):
                stamps[run] = folders.stamps(self._root, *run)
        return rows, stamps

    def _tell(self, rows: dict[str, str], stamps: dict[tuple[str, str], dict[str, str]], first: bool) -> None:
        if not first:
            changed = [text for key, text in rows.items() if self._rows.get(key) != text]
            gone = [key for key in self._rows if key not in rows]
            if changed or gone:
                self._send("runs", f'{{"changed": [{", ".join(changed)}], "gone": {plain.dumps(gone)}}}')
        for run, now in stamps.items():
            before = self._stamps.get(run)
            parts = [] if before is None else [key for key in now if now[key] != before.get(key)]
            if before is not None:
                parts += [key for key in before if key not in now]
            if parts:
                told: dict[str, Any] = {"study": run[0], "id": run[1], "parts": parts}
                self._send("run", plain.dumps(told), run)
        self._rows, self._stamps = rows, stamps

    def _send(self, event: str, data: str, run: tuple[str, str] | None = None) -> None:
        message = f"event: {event}\ndata: {data}\n\n"
        for queue, watched in self._listeners.items():
            if run is None or run in watched:
                with contextlib.suppress(asyncio.QueueFull):  # a page that sleeps loads anew when it wakes
                    queue.put_nowait(message)
