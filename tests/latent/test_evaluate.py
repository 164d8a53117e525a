"""Scores and controls on a model whose thoughts are known to matter, or not."""

import pytest
import torch
from tests.latent.conftest import gpt2

from unrolled.latent import Method, Problem, Thinker, Words
from unrolled.latent.evaluate import CONTROLS, Score, compare, mcnemar, score
from unrolled.latent.protocol import Cell


@pytest.fixture(scope="module")
def few():
    problems = [Problem(f"Say {word}", (), word) for word in ("one", "two", "three", "four")]
    return problems, Words.of(problems)


class Recorded(Method):
    """Coconut that notes what it made."""

    name, paper, cell = "recorded", "-", Cell("-", "-", "-", "-")

    def plan(self, problem, stage):
        """Three thoughts."""
        return 3, ()


def oracle(thinker, problems, said):
    """Let the thinker say what `said` decides from the thoughts it read: right answers only for untouched ones."""
    made = {}

    def generate(prompts, thoughts=None, *, max_new_tokens, edit=None, **options):
        from unrolled.latent import Reply

        replies = []
        count = thoughts if isinstance(thoughts, int) else thoughts[0]
        rows = torch.tensor([[float(ord(prompt[-1]))] for prompt in prompts])
        read = []
        for step in range(count):
            own = rows * (step + 1)
            read.append(own if edit is None else edit(own, step))
        made[len(made)] = read
        for k, prompt in enumerate(prompts):
            untouched = count == 3 and all(torch.equal(read[s][k], rows[k] * (s + 1)) for s in range(3))
            answer = prompt.split()[-1] if untouched else "one"
            tokens = tuple(thinker.text.encode(f"### {answer}"))
            replies.append(Reply("", tokens, count, "eos"))
        return replies

    thinker.generate = generate
    return made


def test_every_control_breaks_a_chain_that_matters(few):
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, Recorded())
    oracle(thinker, problems, None)
    assert score(thinker, problems).accuracy == 1.0
    for control in CONTROLS[1:]:
        found = score(thinker, problems, control=control, seed=1)
        assert found.accuracy == pytest.approx(0.25), control
        assert found.name == f"recorded, thoughts {control}"


def test_controls_leave_a_pause_where_it_is(few):
    """All its thoughts are one vector: another order, or another problem's, changes nothing."""
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, "pause", c=1, stages=3)
    prompts = [p.question for p in problems]
    plain = thinker.generate(prompts, max_new_tokens=4)
    assert [reply.thoughts for reply in plain] == [3] * 4
    assert score(thinker, problems).correct == score(thinker, problems, control="permuted").correct


def test_an_edit_reaches_every_pause(few):
    """Controls change what a pause reads too: noise in place of its vector, and zero in place of it."""
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, "pause", c=1, stages=3)
    tokens, seen = [thinker.text.question(p.question, markers=True) for p in problems], []
    thinker.generate(tokens, 3, edit=lambda z, step: (seen.append((step, z)), z)[1])
    assert [step for step, _ in seen] == [0, 1, 2]
    assert all(torch.equal(z, thinker.method.vector.expand(4, -1)) for _, z in seen)
    advance, read = thinker.backbone.advance, []
    thinker.backbone.advance = lambda *a: (read.append(a[0]), advance(*a))[1]
    thinker.generate(tokens, 3, max_new_tokens=1, edit=lambda z, step: torch.zeros_like(z))
    assert not bool(read[1].any())


@pytest.mark.parametrize("name", ["pccot", "swi_reasoning"])
def test_thoughts_that_hang_on_more_than_the_last_state_refuse_controls_and_systems(few, name):
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, name, thoughts=3)
    for control in ("permuted", "transplanted", "noise"):
        with pytest.raises(ValueError, match="cannot be edited one by one"):
            score(thinker, problems, control=control)
    with pytest.raises(ValueError, match="cannot be the steps of a System"):
        thinker.rollout("Say one", 2)
    assert len(score(thinker, problems, control="removed").correct) == 4


def test_how_long_to_think_follows_the_problem_where_the_method_says_so(few):
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, "coconut", c=2, stages=3, pad_to_max=False)
    with pytest.raises(ValueError, match="depends on the problem's steps"):
        thinker.generate("Say one", max_new_tokens=1)
    stepped = [Problem(p.question, ("one",) * k, p.answer) for k, p in enumerate(problems)]
    assert score(thinker, stepped, max_new_tokens=1).thoughts == (0 + 2 + 4 + 6) / 4


def test_a_wrong_end_or_a_longer_answer_is_wrong(few):
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, Recorded())
    from unrolled.latent import Reply

    def fixed(text, stop):
        return lambda prompts, *a, **k: [Reply("", tuple(words.encode(text)), 0, stop) for _ in prompts]

    thinker.generate = fixed("### one", "eos")
    assert score(thinker, problems).correct == (True, False, False, False)
    thinker.generate = fixed("two ### one", "eos")
    assert score(thinker, problems).correct == (True, False, False, False)
    for text, stop in (("### one", "length"), ("### one two", "eos"), ("one", "eos"), ("", "eos")):
        thinker.generate = fixed(text, stop)
        assert not any(score(thinker, problems).correct)


def test_mcnemar_against_the_binomial():
    assert mcnemar([True] * 3, [True] * 3) == 1.0
    assert mcnemar([True] * 6 + [False], [False] * 6 + [True]) == pytest.approx(2 * (1 + 7) / 2**7)
    with pytest.raises(ValueError, match="got 2 and 1"):
        mcnemar([True, False], [True])


def test_a_comparison_names_its_arms():
    arms = [Score("a", (True,) * 9 + (False,), 2.0, 3.0), Score("b", (False,) * 10, 4.0, 0.0)]
    found = compare(arms)
    frame = found.to_frame()
    assert list(frame["arm"]) == ["a", "b"]
    assert frame["p"][1] == pytest.approx(2**-8)
    assert found.plot().get_title() == "10 problems, 95 % Wilson intervals"
    with pytest.raises(ValueError, match="no arm is called 'c'"):
        compare(arms, "c")


def test_bad_input(few):
    problems, words = few
    thinker = Thinker(gpt2(len(words)), words, Recorded())
    with pytest.raises(ValueError, match="control is one of none"):
        score(thinker, problems, control="shuffled")
    with pytest.raises(ValueError, match="no problems"):
        score(thinker, [])
