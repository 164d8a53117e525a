"""What a user can get wrong, item by item: each is an error that says what to do, and nothing falls back to text."""

import pytest
import torch
from tests.latent.conftest import gpt2, llama

from unrolled.latent import Problem, Thinker, Thoughtless, methods, naive
from unrolled.latent.agents import Relay
from unrolled.latent.curriculum import train
from unrolled.latent.text import Example

THINKING = [
    name
    for name in methods.names()
    if name not in ("cot", "no_cot", "icot", "cache_to_cache") and methods.load(name)
]


class Tokens(torch.nn.Module):
    """A decoder that reads token ids alone."""

    def forward(self, input_ids, attention_mask=None):
        return input_ids


class OfTokens(torch.nn.Module):
    """A causal language model without `inputs_embeds`."""

    def __init__(self):
        super().__init__()
        self.base_model, self.table = Tokens(), torch.nn.Embedding(5, 3)

    def get_input_embeddings(self):
        return self.table

    def get_output_embeddings(self):
        return torch.nn.Linear(3, 5)


class Letters:
    """A tokenizer of letters without markers, or with an unknown token in their place."""

    eos_token_id = 1

    def __init__(self, unknown=None):
        self.unk_token_id = unknown

    def encode(self, text):
        return [9] if text.startswith("<|") and self.unk_token_id == 9 else [2 + ord(c) % 30 for c in text]

    def decode(self, ids):
        return str(ids)


def test_a_model_without_inputs_embeds():
    with pytest.raises(TypeError, match="OfTokens cannot be fed vectors: its decoder takes no inputs_embeds"):
        Thinker(OfTokens())


@pytest.mark.parametrize("unknown", [None, 9])
def test_a_tokenizer_without_markers(words, unknown):
    with pytest.raises(ValueError, match=r"lacks the marker token .* call latent.add_markers"):
        Thinker(gpt2(len(words)), Letters(unknown), "coconut")


@pytest.mark.parametrize("name", THINKING)
def test_no_thought_at_all(words, problems, name):
    """K = 0 is no error: the answer is said straight after the question, as the definition says it."""
    thinker = Thinker(gpt2(len(words)), words, name).eval()
    [reply] = thinker.generate(problems[0].question, 0, max_new_tokens=4)
    front = [thinker.text.end] if thinker.method.markers else []
    row = Example(thinker.text.question(problems[0].question, markers=thinker.method.markers), 0, (), ())
    said = naive.generate(thinker.backbone, thinker.method, row, front=front, eos=thinker.text.eos, most=4)
    assert (reply.thoughts, list(reply.tokens)) == (0, said)


@pytest.mark.parametrize("name", THINKING)
def test_more_thoughts_than_the_context_holds(words, problems, name):
    thinker = Thinker(gpt2(len(words), context=64), words, name)
    with pytest.raises(ValueError, match=r"64 of them thoughts\) are more than the model's context of 64"):
        thinker.generate("Grace has 2 apples.", 64)
    row = Example((5, 6), 70, (7,), (7,))
    with pytest.raises(ValueError, match="more than the model's context of 64"):
        thinker.loss([row])


def test_a_row_of_nothing_but_padding(words):
    thinker = Thinker(gpt2(len(words)), words, "coconut")
    with pytest.raises(ValueError, match="nothing but padding"):
        thinker.generate([[5, 6], []], 2)
    with pytest.raises(ValueError, match="nothing but padding"):
        Example((), 2, (7,), (7,))
    with pytest.raises(ValueError, match="at least one token each"):
        thinker.system().init(((5, 6), ()))


@pytest.mark.parametrize("name", ["coconut", "codi", "pccot", "sim_cot", "colar", "pause", "icot", "cot"])
def test_a_line_of_data_without_steps(words, problems, name):
    """It would be trained on silently, or by what is not there: it is named instead, wherever it stands."""
    thinker = Thinker(gpt2(len(words)), words, name)
    empty = Problem("Grace has 2 apples.", (), "2")
    with pytest.raises(
        ValueError, match=rf"'Grace has 2 apples.' has no steps, from which {name} is trained"
    ):
        thinker.loss([*problems[:2], empty])
    with pytest.raises(ValueError, match="has no steps"):
        train(thinker, [*problems[:3], empty], epochs=1, batch=4)


def test_methods_that_need_no_steps_take_them(words):
    for name in ("no_cot", "hrpo"):
        assert float(Thinker(gpt2(len(words)), words, name).loss([Problem("Grace has 2.", (), "2")])[0]) > 0


@pytest.mark.parametrize(
    "name", ["coconut", "codi", "pccot", "pause", "hrpo", "colar", "latent_mas", "soft_thinking"]
)
def test_thoughts_that_are_not_numbers(words, problems, name):
    """A broken weight is named by the first thought that shows it; nothing is said."""
    thinker = Thinker(gpt2(len(words)), words, name)
    with torch.no_grad():
        target = (
            thinker.method.vector if name == "pause" else thinker.model.transformer.h[0].mlp.c_proj.weight
        )
        target.fill_(torch.nan)
    with pytest.raises(Thoughtless, match=r"thought \d+ is not finite in rows 0, 1"):
        thinker.generate([p.question for p in problems[:2]], 3, max_new_tokens=3)


def test_untied_heads_are_no_error(words, problems):
    """Mixtures are of what is read, logits of what is said; realignment is between the two."""
    thinker = Thinker(llama(len(words)), words, "soft_thinking", k=3, thoughts=2)
    into, out = thinker.backbone.weights()
    assert into is not out
    hidden = torch.randn(2, 24, generator=torch.Generator().manual_seed(0), dtype=into.dtype)
    weights = thinker.method.weights_of(hidden @ out.T)
    torch.testing.assert_close(thinker.method.thought(thinker.backbone, hidden, 0), weights.to(into) @ into)
    aligned = Thinker(llama(len(words)), words, "latent_mas").method.matrix
    assert float((aligned - torch.eye(24)).abs().max()) > 0.1


def test_models_of_different_shape_in_a_hand_over(words):
    pair = [Thinker(gpt2(len(words), layers=n), words, "latent_mas") for n in (1, 2)]
    with pytest.raises(ValueError, match=r"a model with 1 layers .* to one with 2 layers .*hand on text"):
        Relay(pair, ["{question}", "{question}"])
