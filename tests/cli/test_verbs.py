"""The top-level verbs are a promise: adding one is a decision, renaming one breaks scripts."""

import importlib
import subprocess
import sys

import pytest

import unrolled
from unrolled.cli import VERBS


def test_the_verbs_are_frozen():
    assert [*VERBS] == [
        "list",
        "run",
        "sweep",
        "resume",
        "runs",
        "report",
        "view",
        "check",
        "debate",
        "looped",
        "latent",
        "sbml",
        "talk",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_file_whose_help_teaches_with_an_example(unrolled, verb):
    assert callable(importlib.import_module(f"unrolled.cli.{verb}").main)
    told = unrolled(verb, "--help")
    assert "example: unrolled" in told
    assert f"usage: unrolled {verb}" in told
    assert max(map(len, unrolled.out.splitlines())) <= 100


def test_the_first_screen(unrolled):
    for words in ([], ["--help"], ["help"]):
        told = unrolled(*words)
        assert all(f"{verb} {meaning}" in told for verb, meaning in VERBS.items())


def test_version(unrolled):
    assert unrolled("--version").split() == ["unrolled", __import__("unrolled").__version__]


@pytest.mark.parametrize(("word", "meant"), [("rnu", "run"), ("swep", "sweep"), ("resum", "resume")])
def test_a_misspelt_verb_is_suggested(unrolled, word, meant):
    assert f"error: no verb '{word}'; did you mean '{meant}'?" in unrolled(word, code=2)


def test_the_command_runs_as_a_module_and_is_quick_without_torch():
    code = "import sys; from unrolled.cli import main; main(['list']); main(['runs']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "unrolled", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"unrolled {unrolled.__version__}"


def test_view_says_what_it_cannot_show(unrolled):
    assert "one run, or two side by side; got 3" in unrolled("view", "a", "b", "c", code=2)
    assert "no run 'nothing'" in unrolled("view", "nothing", code=2)
    assert "nothing to bundle" in unrolled("view", "--bundle", "site", code=2)


def test_a_closed_pipe_is_no_error(tmp_path):
    code = "import sys; from unrolled.cli import main; sys.exit(main(['--help']))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert b"Traceback" not in child.communicate()[1]
