import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from unrolled.runs import Run, atomic
from unrolled.view import events
from unrolled.view.events import Watcher


def apart(coroutine):
    """Run to its end in a thread of its own: Playwright's loop goes on in this one once a browser test has run."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "INTERVAL", 0.02)


def told(message):
    """Kind and data of an event."""
    fields = dict(line.split(": ", 1) for line in message.strip().splitlines())
    return fields.get("event"), json.loads(fields["data"]) if "data" in fields else None


async def until(fact):
    async with asyncio.timeout(20):
        while not fact():
            await asyncio.sleep(0.01)


def listening(root, watched=()):
    """Runs a test within a watcher: `wait(wanted)` gives the first event that fits."""

    def decorate(body):
        async def main():
            watcher = Watcher(root)
            stream = watcher.listen(tuple(watched))
            assert (await anext(stream)).startswith("retry")

            async def wait(wanted):
                async with asyncio.timeout(20):
                    async for message in stream:
                        kind, data = told(message)
                        if kind is not None and wanted(kind, data):
                            return data
                return None

            await until(lambda: watcher.looks)  # the first look is what later ones are compared with
            try:
                await body(wait)
            finally:
                await stream.aclose()
                await watcher.close()

        apart(main())

    return decorate


def test_a_new_run_its_end_and_its_removal_are_told(root):
    root.mkdir()

    @listening(root)
    async def _(wait):
        import shutil

        run = Run.create("toy", {"seed": 0}, root=root)
        data = await wait(lambda kind, data: kind == "runs" and data["changed"])
        assert data["changed"][0]["state"] == "running"
        run.end()
        data = await wait(
            lambda kind, data: (
                kind == "runs" and data["changed"] and data["changed"][0]["state"] == "finished"
            )
        )
        shutil.rmtree(run.path)
        data = await wait(lambda kind, data: kind == "runs" and data["gone"])
        assert data["gone"] == [f"toy/{run.id}"]


def test_a_watched_run_tells_which_part_changed(root):
    run = Run.create("toy", {"seed": 0}, root=root)

    @listening(root, [("toy", run.id)])
    async def _(wait):
        run.log(step=0, loss=1.0)
        assert await wait(lambda kind, data: kind == "run" and "metrics" in data["parts"])
        (run.path / "readings").mkdir()
        atomic.write_json(run.path / "readings" / "r.json", {})
        data = await wait(lambda kind, data: kind == "run" and "readings/r" in data["parts"])
        assert (data["study"], data["id"]) == ("toy", run.id)

    run.end()


def test_a_killed_run_is_told_as_lost_though_no_file_changes(root):
    code = f"import time; from unrolled.runs import Run; Run.create('toy', {{'seed': 0}}, root={str(root)!r}); print('there', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "there\n"

        @listening(root)
        async def _(wait):
            child.kill()
            child.wait()
            data = await wait(lambda kind, data: kind == "runs" and data["changed"])
            assert data["changed"][0]["state"] == "lost"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_nobody_listens_nobody_looks(root):
    async def main():
        watcher = Watcher(root)
        for _ in range(2):  # and once more after a rest
            seen = watcher.looks
            stream = watcher.listen(())
            await anext(stream)
            await until(lambda seen=seen: watcher.looks > seen)
            await stream.aclose()
            await until(lambda: watcher._task.done())
        await watcher.close()

    apart(main())


def test_a_page_that_sleeps_does_not_fill_the_memory(root):
    watcher = Watcher(root)
    queue = asyncio.Queue(maxsize=2)
    watcher._listeners[queue] = ()
    for _ in range(5):
        watcher._send("runs", "{}")
    assert queue.qsize() == 2


def test_pages_have_a_limit(client, monkeypatch):
    monkeypatch.setattr(events, "PAGES", 0)
    assert client.get("/api/events").status_code == 503
    monkeypatch.setattr(events, "PAGES", 1)
    assert client.get("/api/events?run=../x").status_code == 403
