"""Each method against what its paper says of it."""

import pytest
import torch
from tests.latent.conftest import gpt2, llama

from unrolled.latent import Thinker, methods, naive
from unrolled.latent.methods.soft_thinking import SoftThinking, entropy
from unrolled.latent.protocol import ask, supervise


@pytest.mark.parametrize("name", methods.names())
def test_every_method_says_where_it_stands(name):
    method = methods.load(name)
    assert method.name == name
    assert method.paper
    assert method.__doc__
    assert all(
        (
            method.cell.architecture,
            method.cell.representation,
            method.cell.computation,
            method.cell.optimization,
        )
    )


# --- PCCoT ------------------------------------------------------------------------------------------------------------


def test_as_many_iterations_as_thoughts_are_the_sequence(words, problems):
    """A6: with T >= c the answer's hidden states are the sequential ones; with T = c - 1 they are not."""
    c = 5
    thinker = Thinker(gpt2(len(words), torch.float32, layers=3), words, "pccot", thoughts=c).eval()
    sequential = Thinker(thinker.model, words, "codi", thoughts=c).eval()
    sequential.method.load_state_dict(
        {k: v for k, v in thinker.method.state_dict().items() if k.startswith("prj")}
    )
    rows = [thinker.encode(problem) for problem in problems[:3]]
    expected = supervise(sequential.backbone, sequential.method, rows, sequential.text)[0]
    gaps = []
    for iterations in range(1, 8):
        thinker.method.iterations = iterations
        gaps.append(
            float(
                (supervise(thinker.backbone, thinker.method, rows, thinker.text)[0] - expected).abs().detach()
            )
        )
    assert max(gaps[4:]) < 1e-4 * float(expected)
    assert min(gaps[:4]) > 1e-4 * float(expected)


def test_jacobi_rows_do_not_touch_one_another(words, problems):
    thinker = Thinker(gpt2(len(words)), words, "pccot", thoughts=4, iterations=2).eval()
    prompts, counts = [problem.question for problem in problems[:4]], [4, 0, 1, 3]
    together = thinker.generate(prompts, counts, max_new_tokens=6)
    assert [
        thinker.generate(p, k, max_new_tokens=6)[0] for p, k in zip(prompts, counts, strict=True)
    ] == together


# --- CODI -------------------------------------------------------------------------------------------------------------


def terms(thinker, problems, **weights):
    for name, value in {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, **weights}.items():
        setattr(thinker.method, name, value)
    summed, count = thinker.loss(problems)
    return summed / count


def test_the_teacher_is_not_drawn_to_the_student(words, problems, monkeypatch):
    """A7: the gradient of the distance with respect to the teacher's pass is zero."""
    thinker = Thinker(gpt2(len(words)), words, "codi", thoughts=2)
    kept = {}
    original = thinker.method._teacher

    def teacher(*args):
        found = original(*args)
        kept["layers"] = [layer.requires_grad_() for layer in found[2]]
        for layer in kept["layers"]:
            layer.retain_grad()
        return found

    monkeypatch.setattr(thinker.method, "_teacher", teacher)
    terms(thinker, problems[:3], gamma=1.0).backward()
    assert all(layer.grad is None for layer in kept["layers"])
    assert float(thinker.method.prj[1].weight.grad.abs().max()) > 0


def test_the_distance_is_in_units_of_the_teacher_s_spread():
    method = methods.load("codi")(Thinker(gpt2(9)).backbone, distance="l2")
    rng = torch.Generator().manual_seed(0)
    teacher = torch.randn(6, 24, generator=rng, dtype=torch.float64)
    assert float(method.gap([teacher], [teacher])) == 0.0
    smooth = methods.load("codi")(Thinker(gpt2(9)).backbone)
    far = teacher + 50
    one, ten = float(smooth.gap([teacher], [far])), float(smooth.gap([10 * teacher], [10 * far]))
    assert ten == pytest.approx(one, rel=0.02), "far out, smooth L1 is linear, and the ratio knows no scale"
    by_hand = ((far - teacher).abs() - 0.5).mean() / teacher.std()
    assert one == pytest.approx(float(by_hand), rel=1e-9)


def test_teacher_and_student_losses_are_plain_cross_entropies(words, problems):
    model = gpt2(len(words))
    thinker = Thinker(model, words, "codi", thoughts=0, keep_last=True)
    cot, none = Thinker(model, words, "cot"), Thinker(model, words, "no_cot")
    summed, count = cot.loss(problems[:4])
    assert float(terms(thinker, problems[:4], alpha=1.0)) == pytest.approx(float(summed / count), rel=1e-9)
    with pytest.raises(ValueError, match="teacher reads the steps"):
        thinker.loss([none.encode(problem) for problem in problems[:2]])


def test_a_thought_of_codi_is_projected(words, problems):
    """The fast student equals the definition with z = prj(h)."""
    thinker = Thinker(gpt2(len(words)), words, "codi", thoughts=3).eval()
    rows = [thinker.encode(problem) for problem in problems[:3]]
    fast = supervise(thinker.backbone, thinker.method, rows, thinker.text)[0]
    slow = naive.loss(thinker.backbone, thinker.method, rows)[0]
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=0)


# --- Soft Thinking ----------------------------------------------------------------------------------------------------


def test_one_token_is_greedy_decoding(words, problems):
    """A8: with k = 1 the thoughts are the embeddings of the tokens greedy decoding would say."""
    thinker = Thinker(llama(len(words)), words, "soft_thinking", k=1, thoughts=6)
    plain = Thinker(thinker.model, words, "no_cot")
    prompts = [problem.question for problem in problems[:3]]
    thinker.text.eos = plain.text.eos = -1
    said = plain.generate(prompts, 0, max_new_tokens=10)
    after = thinker.generate(prompts, 6, max_new_tokens=4)
    assert [reply.tokens[6:] for reply in said] == [reply.tokens for reply in after]


def test_a_soft_thought_lies_in_the_convex_hull_and_knows_no_order(words):
    backbone = Thinker(llama(len(words))).backbone
    method = SoftThinking(backbone, k=5)
    logits = torch.randn(7, len(words), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = method.weights_of(logits)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(7).double())
    assert int((weights > 0).sum(-1).max()) <= 5
    shuffle = torch.randperm(len(words), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(method.weights_of(logits[:, shuffle]), weights[:, shuffle])


def test_filters_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).double()
    at = SoftThinking(None, temperature=1.0, k=4, top_p=0.9, min_p=0.0).weights_of(p.log())
    torch.testing.assert_close(at, torch.tensor([[0.5, 0.3, 0.15, 0.0]]).double() / 0.95)
    at = SoftThinking(None, temperature=1.0, k=4, top_p=1.0, min_p=0.4).weights_of(p.log())
    torch.testing.assert_close(at, torch.tensor([[0.5, 0.3, 0.0, 0.0]]).double() / 0.8)


class Scripted:
    """A backbone whose entropy follows a script: column 0 of the hidden state is the sharpness of its logits."""

    def head(self, hidden):
        return torch.cat([hidden[:, :1], torch.zeros(hidden.shape[0], 9)], 1)


def test_cold_stop_counts_steps_in_a_row():
    """It fires at exactly the 256th cold step, and one warm step begins the count anew."""
    method, cold, warm = SoftThinking(None), torch.full((1, 1), 50.0), torch.zeros(1, 1)
    assert float(entropy(Scripted().head(cold))) < 0.01 < float(entropy(Scripted().head(warm)))
    fired = [bool(method.stop(Scripted(), cold, step)) for step in range(258)]
    assert fired.index(True) == 255
    method._cold = None
    script = [cold] * 255 + [warm] + [cold] * 256
    fired = [bool(method.stop(Scripted(), state, step)) for step, state in enumerate(script)]
    assert fired.index(True) == len(script) - 1


def test_the_end_token_ends_thinking_in_each_row(words, problems):
    thinker = Thinker(gpt2(len(words)), words, "soft_thinking", thoughts=8)
    prompts = [problem.question for problem in problems[:4]]
    rows = [thinker.text.question(prompt, markers=False) for prompt in prompts]
    stream = ask(thinker.backbone, rows, thinker.text.pad, "cpu")
    first = thinker.backbone.head(stream.hidden).argmax(-1)
    thinker.method.end = int(first[2])
    thinking = thinker.method.think(thinker.backbone, stream, torch.full((4,), 8))
    assert int(thinking.counts[2]) == 0
    assert thinking.stops[2] == "stopped"
    together = thinker.generate(prompts, 8, max_new_tokens=5)
    for prompt, reply in zip(prompts, together, strict=True):
        assert thinker.generate(prompt, 8, max_new_tokens=5) == [reply]
