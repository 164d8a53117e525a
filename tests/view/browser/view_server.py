"""A server over a folder of runs, in this process, for as long as a test needs it."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(root: Path):
    """The address of a server over `root`, in this process."""
    uvicorn = pytest.importorskip("uvicorn", reason="the view needs uvicorn (extra view)")
    from unrolled.view import server

    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            server.app(root, port=port), log_level="warning", ws="none", timeout_graceful_shutdown=1
        )
        made = uvicorn.Server(config)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        end = time.monotonic() + 20
        while not made.started and time.monotonic() < end:
            time.sleep(0.02)
        assert made.started, "the server did not start"
        yield f"http://127.0.0.1:{port}/"
        made.should_exit = True
        thread.join(10)
