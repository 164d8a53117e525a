import pytest

GOOD = """
import torch

class Good:
    def init(self, input, *, rng=None):
        return {"x": input.clone()}
    def step(self, state, input, *, rng=None):
        return {"x": 0.5 * state["x"] + input}
    def example_input(self):
        return torch.ones(3, 2)

class Plain(Good):
    example_input = None
    def init(self, input, *, rng=None):
        return {"x": torch.zeros(2) if input is None else input.clone()}
    def step(self, state, input, *, rng=None):
        return {"x": 0.5 * state["x"]}

class InPlace:
    def init(self, input, *, rng=None):
        return torch.zeros(3)
    def step(self, state, input, *, rng=None):
        state += 1
        return state

class Sized(Plain):
    def __init__(self, hidden, *, rate=0.5):
        self.hidden = hidden

class Broken(Plain):
    def __init__(self):
        raise RuntimeError("no weights here")

def make_sized():
    return Sized(4)

two = torch.ones(2, 4)
def three():
    return torch.ones(3, 4)
ready = Good()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "syntax.py").write_text("import torch\ndef f(:\n")
    (tmp_path / "missing.py").write_text("import not_there_at_all\n")
    (tmp_path / "nothing.py").write_text("x = 1\n")


def test_a_system_that_keeps_the_contract(unrolled, file):
    told = unrolled("check", "mine.py:Good")
    assert "pass batch" in told
    assert "skip run there is no fused run" in told
    assert "Good keeps the contract" in told


def test_a_system_that_breaks_it(unrolled, file):
    told = unrolled("check", "mine.py:InPlace", code=1)
    assert "FAIL purity step changed its state in place" in told
    assert "pass shapes" in told
    assert "InPlace breaks" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        (["mine.py:Plain"], "skip batch"),
        (["mine.py:Plain", "--input", "two"], "pass batch"),
        (["mine.py:Plain", "--input", "three"], "pass batch"),
        (["mine.py:make_sized"], "skip batch"),
        (["mine.py:ready"], "pass batch"),
        (["mine.py:Good", "--steps", "2", "--seed", "5"], "pass batch"),
    ],
)
def test_ways_to_give_a_system_and_an_input(unrolled, file, words, batch):
    assert batch in unrolled("check", *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent.py:X"], "no file absent.py: give FILE:NAME"),
        (["mine.py:Godo"], "mine.py has no 'Godo'; did you mean 'Good'? It has Good, Plain"),
        (["mine.py"], "say which system in the file: mine.py:Good"),
        (["nothing.py"], "nothing.py has no system in it. A system is a class with init and step"),
        (["nothing.py:X"], "nothing.py has no 'X'. A system is a class with init and step"),
        (["syntax.py:X"], "line 2: invalid syntax"),
        (
            ["missing.py:X"],
            "missing.py cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'",
        ),
        (["mine.py:Sized"], "Sized needs arguments (hidden). Add a function without any to the file,"),
        (["mine.py:Broken"], "Broken() raised RuntimeError: no weights here"),
        (["mine.py:Good", "--input", "tow"], "mine.py has no 'tow'; did you mean 'two'?"),
        (["mine.py:Good", "--steps", "1"], "2 steps or more (got 1)"),
    ],
)
def test_what_cannot_be_checked_says_why(unrolled, file, words, told):
    shown = unrolled("check", *words, code=2)
    assert told in shown
    assert "Traceback" not in shown
