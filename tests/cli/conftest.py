import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unrolled.cli import main

TOY = str(Path(__file__).parent / "toy_study.py")


class Screen:
    """Runs a command in this process, in a folder of its own, and keeps what it printed."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        got = main([str(word) for word in words])
        captured = self._capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        assert got == code, f"{words} ended with {got}\n{self.out}\n{self.err}"
        # Lines are wrapped to the terminal: words are what counts.
        return " ".join((self.out + self.err).split())


@pytest.fixture
def unrolled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Screen(capsys)


def _hear_interrupts():
    """A background job is started deaf to Ctrl-C, and so would be the commands that these tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def process(tmp_path):
    """Starts a command in a process of its own."""
    started = []

    def start(*words: str, **environment: str) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "unrolled", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_interrupts,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


@pytest.fixture
def toy():
    return TOY
