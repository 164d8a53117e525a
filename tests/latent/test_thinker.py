"""The fast path against the definition: loss, every gradient, every token; rows that do not touch one another."""

import pytest
import torch

from unrolled.core import check_system, rollout
from unrolled.latent import Example, Thinker, Thoughtless, Words, naive
from unrolled.latent.methods import load


def close(a, b, tolerance):
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def gradients(thinker):
    return {name: p.grad.clone() for name, p in thinker.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("stage", [0, 1, 2, 3, None])
def test_loss_and_every_gradient_equal_the_definition(model, words, problems, stage):
    """Rows of different lengths; stage 3 and None say no step, stage 0 thinks no thought."""
    thinker, exact = Thinker(model, words, "coconut", c=2, stages=3), model.exact
    rows = [thinker.encode(problem, stage) for problem in problems[:5]]
    summed, count = thinker.loss(rows)
    summed.backward()
    fast = gradients(thinker)
    thinker.zero_grad()
    expected, number = naive.loss(thinker.backbone, thinker.method, rows)
    expected.backward()
    assert int(count) == int(number)
    close(summed, expected, exact)
    slow = gradients(thinker)
    assert fast.keys() == slow.keys()
    for name in slow:
        close(fast[name], slow[name], exact)


def ragged(words):
    """Rows with 0, 1, 3 and 5 thoughts, questions and tails of all lengths."""
    rng = torch.Generator().manual_seed(3)
    rows = []
    for question, thoughts, tail in ((4, 3, 6), (9, 0, 2), (1, 5, 1), (6, 1, 9)):
        draw = torch.randint(5, len(words), (question + tail,), generator=rng).tolist()
        labels = [t if k % 2 == 0 else -100 for k, t in enumerate(draw[question:])]
        rows.append(Example(tuple(draw[:question]), thoughts, tuple(draw[question:]), tuple(labels)))
    return rows


def test_ragged_rows_equal_the_definition(model, words):
    thinker, exact = Thinker(model, words, "coconut"), model.exact
    rows = ragged(words)
    summed, _ = thinker.loss(rows)
    summed.backward()
    fast = gradients(thinker)
    thinker.zero_grad()
    expected, _ = naive.loss(thinker.backbone, thinker.method, rows)
    expected.backward()
    close(summed, expected, exact)
    for name, value in gradients(thinker).items():
        close(fast[name], value, exact)


def test_rows_do_not_touch_one_another(model, words):
    """Changing one row leaves the others' loss and tokens as they were."""
    thinker = Thinker(model, words, "coconut")
    rows = ragged(words)
    alone = [thinker.loss([row])[0].item() for row in rows]
    assert thinker.loss(rows)[0].item() == pytest.approx(sum(alone), rel=10 * model.exact)
    embeds = []
    for batch in (rows, [rows[2], *rows[1:2]]):
        made = thinker.generate(
            [row.question for row in batch], [row.thoughts for row in batch], max_new_tokens=12
        )
        embeds.append(made)
    assert embeds[0][1] == embeds[1][1]
    assert embeds[0][2] == embeds[1][0]


@pytest.mark.parametrize("name", ["coconut", "pause", "no_cot"])
def test_generation_in_a_batch_is_generation_alone_and_by_the_definition(model, words, problems, name):
    thinker = Thinker(model, words, name)
    counts = [0, 2, 5, 3, 1, 4] if name != "no_cot" else [0] * 6
    prompts = [problem.question for problem in problems[:6]]
    together = thinker.generate(prompts, counts, max_new_tokens=10)
    for prompt, count, reply in zip(prompts, counts, together, strict=True):
        assert thinker.generate(prompt, count, max_new_tokens=10) == [reply]
        assert reply.thoughts == count
    if name == "pause":
        return
    front = [thinker.text.end] if thinker.method.markers else []
    for prompt, count, reply in zip(prompts, counts, together, strict=True):
        row = Example(thinker.text.question(prompt, markers=thinker.method.markers), count, (), ())
        said = naive.generate(
            thinker.backbone, thinker.method, row, front=front, eos=thinker.text.eos, most=10
        )
        assert list(reply.tokens) == said


def test_a_pass_for_the_question_one_a_thought_one_a_token(words, problems):
    """1 + K + tokens passes at most, none of a thought asks for the head."""
    from tests.latent.conftest import gpt2

    thinker = Thinker(gpt2(len(words)), words, "coconut")
    passes, heads = [], []
    advance, head = thinker.backbone.advance, thinker.backbone.head
    thinker.backbone.advance = lambda *a: (passes.append(a[0].shape[1]), advance(*a))[1]
    thinker.backbone.head = lambda h: (heads.append(h.shape), head(h))[1]
    [reply] = thinker.generate(problems[0].question, 4, max_new_tokens=7)
    new = len(reply.tokens) + (reply.stop == "eos")
    assert len(passes) <= 1 + 4 + new
    assert passes[1:4] == [1, 1, 1]
    assert len(heads) == new
    passes.clear()
    heads.clear()
    thinker.loss([thinker.encode(problems[0], None)])
    assert len(passes) == 1 + 6
    assert len(heads) == 1


def test_pause_hands_nothing_on(words, problems):
    """A pause is the same vector whatever was read; its gradient is there, and thoughts cost one pass."""
    from tests.latent.conftest import EXACT, gpt2

    thinker, exact = Thinker(gpt2(len(words)), words, "pause", c=2, stages=2), EXACT["gpt2"]
    rows = [thinker.encode(problem, None) for problem in problems[:3]]
    summed, _ = thinker.loss(rows)
    summed.backward()
    assert float(thinker.method.vector.grad.abs().max()) > 0
    fast = thinker.method.vector.grad.clone()
    thinker.zero_grad()

    class Alone(type(thinker.method)):
        """One pause after the other, by the definition."""

        def thought(self, backbone, hidden, step):
            return thinker.method.vector.expand(hidden.shape[0], -1)

    expected, _ = naive.loss(thinker.backbone, Alone(thinker.backbone), rows)
    expected.backward()
    close(summed, expected, exact)
    close(fast, thinker.method.vector.grad, exact)


def test_the_system_keeps_the_contract_and_is_what_generation_does(model, words, problems):
    thinker = Thinker(model, words, "coconut")
    tokens = torch.tensor([thinker.text.question(p.question, markers=True)[-12:] for p in problems[:3]])
    check_system(thinker.system(), tokens)
    path = thinker.rollout(tokens.tolist(), thoughts=4)
    stepped = rollout(thinker.system(4), tokens, 4, every=1, record=lambda state: {**state})
    for name in ("thought", "hidden"):
        close(path[name], stepped[name], 10 * model.exact)
    with pytest.raises(ValueError, match=r"make it with system\(room=5\)"):
        rollout(thinker.system(4), tokens, 5)
    sequence = thinker.backbone.embed(tokens[1])
    with torch.no_grad():
        sequence = naive.thoughts(thinker.backbone, thinker.method, sequence, 5)
    close(path["thought"][:, 1], sequence[tokens.shape[1] :], model.exact)


def test_a_thought_that_is_not_finite_is_named(words):
    from tests.latent.conftest import gpt2

    thinker = Thinker(gpt2(len(words)), words, "coconut")
    rows = ragged(words)

    def edit(thought, step):
        return torch.where(torch.tensor([[False], [True], [True], [False]]) & (step == 2), torch.nan, thought)

    with pytest.raises(Thoughtless, match="thought 3 is not finite in row 2") as error:
        thinker.generate([row.question for row in rows], [row.thoughts for row in rows], edit=edit)
    assert (error.value.step, error.value.rows) == (3, [2])


def test_icot_takes_tokens_from_the_left(words, problems):
    from tests.latent.conftest import gpt2

    thinker = Thinker(gpt2(len(words)), words, "icot", remove=3, stages=100)
    whole = thinker.encode(problems[0], 0)
    for stage in (1, 2, 100):
        row = thinker.encode(problems[0], stage)
        answer = thinker.encode(problems[0], None).tail
        kept = whole.tail[3 * stage :] if len(whole.tail) - 3 * stage > len(answer) else answer
        assert row.tail == kept
    rng = torch.Generator().manual_seed(0)
    offsets = [load("icot")(None).offset(rng) for _ in range(20000)]
    assert offsets.count(1) / offsets.count(0) == pytest.approx(2.718281828**-4, rel=0.15)


@pytest.mark.parametrize("name", ["coconut", "pause"])
def test_save_and_load(tmp_path, model, words, problems, name):
    thinker = Thinker(model, words, name, c=1, stages=2)
    thinker.save_pretrained(tmp_path)
    own = None
    if not hasattr(model, "base_model"):  # transformers does not know it, so the caller reads it
        with pytest.raises(ValueError, match=r"read it yourself.*model="):
            Thinker.from_pretrained(tmp_path)
        own = type(model).from_pretrained(tmp_path / "model", dtype=torch.float64)
    again = Thinker.from_pretrained(tmp_path, model=own).to(thinker.backbone.weights()[0].dtype)
    assert again.options == {"c": 1, "stages": 2}
    prompts = [p.question for p in problems[:2]]
    assert again.generate(prompts, max_new_tokens=5) == thinker.generate(prompts, max_new_tokens=5)
    with pytest.raises(FileNotFoundError, match="no thinker"):
        Thinker.from_pretrained(tmp_path / "model")


def test_bad_input(words, problems):
    from tests.latent.conftest import gpt2

    small = gpt2(len(words), context=32)
    with pytest.raises(TypeError, match="Linear has no embed, head_of, new_cache"):
        Thinker(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="Pass a causal language model"):
        Thinker(small.transformer)
    with pytest.raises(ValueError, match="no method 'coconuts'"):
        Thinker(small, words, "coconuts")
    with pytest.raises(ValueError, match="lacks the marker token"):
        Thinker(small, Plain(), "coconut")
    thinker = Thinker(small, words, "coconut")
    with pytest.raises(ValueError, match="more than the model's context of 32"):
        thinker.generate("Grace has 2 apples.", 100)
    with pytest.raises(ValueError, match="an empty batch"):
        thinker.loss([])
    with pytest.raises(ValueError, match="nothing but padding"):
        thinker.generate([[]], 1)
    with pytest.raises(ValueError, match="a question of no tokens"):
        Example((), 1, (1,), (1,))
    with pytest.raises(ValueError, match="one for each of 1 prompts"):
        thinker.generate("Grace has 2 apples.", [1, 2])
    with pytest.raises(ValueError, match="'zebra' is not among"):
        thinker.generate("Grace zebra.", 1)
    with pytest.raises(ValueError, match="no prompts"):
        thinker.generate([], 1)


class Plain:
    """A tokenizer of letters without markers."""

    eos_token_id = 1

    def encode(self, text):
        return [2 + ord(letter) % 30 for letter in text]

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def test_a_model_of_tokens_alone_needs_no_tokenizer(words):
    from tests.latent.conftest import gpt2

    thinker = Thinker(gpt2(len(words)))
    rows = ragged(words)
    assert float(thinker.loss(rows)[0]) > 0
    assert len(thinker.generate([row.question for row in rows], 2, max_new_tokens=3)) == 4
    with pytest.raises(ValueError, match="takes prompts of token ids"):
        thinker.generate("words")


def test_words_come_back(words, problems):
    for problem in problems:
        assert words.encode(words.decode(words.encode(problem.text()))) == words.encode(problem.text())
    again = Words(words=words.words[5:])
    assert again.words == words.words
