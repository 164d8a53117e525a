"""The fuser against its definition, what it may be fed, and that only it learns."""

import pytest
import torch
from tests.latent.conftest import F64, gpt2, llama, looped

from unrolled.latent import Problem, Thinker, Words
from unrolled.latent.agents import Consult, Relay, alike
from unrolled.latent.backbone import HuggingFace, keys_values, read, with_keys_values
from unrolled.latent.methods.cache_to_cache import Fuser, shapes
from unrolled.latent.text import pad_left


def pair(words, **options):
    """A shallow GPT-2 receives from a deeper Llama with grouped heads."""
    receiver, sharer = gpt2(len(words), layers=2), llama(len(words), layers=3)
    return Thinker(receiver, words, "cache_to_cache", source=sharer, hidden=16, **options)


def opened(thinker):
    with torch.no_grad():
        thinker.method.logit.fill_(1.0)
    return thinker.eval()


def test_a_fuser_by_hand():
    """target + gate * sigmoid(scalar) * proj, keys and values alike, position by position."""
    torch.manual_seed(0)
    fuser = Fuser((2, 3), (1, 5), 7).double()
    source, target = torch.randn(2, 2, 4, 3).double(), torch.randn(2, 1, 4, 5).double()
    made = fuser(source, target, 0.5)
    x = torch.cat([source[1, 0, 2], source[1, 1, 2], target[1, 0, 2]])
    inner = fuser.mlp(x)
    expected = target[1, 0, 2] + 0.5 * fuser.scalar(inner).sigmoid() * fuser.project(inner)
    torch.testing.assert_close(made[1, 0, 2], expected)
    torch.testing.assert_close(fuser(source, target, 0.0), target, rtol=0, atol=0)


def test_before_training_the_receiver_answers_as_if_alone(words, problems):
    thinker = pair(words).eval()
    alone = Thinker(thinker.model, words, "no_cot")
    prompts = [p.question for p in problems[:4]]
    assert thinker.generate(prompts, max_new_tokens=6) == alone.generate(prompts, max_new_tokens=6)


def test_batches_of_different_questions_do_not_touch_one_another(words, problems):
    thinker = opened(pair(words))
    prompts = [p.question for p in problems[:4]]
    together = thinker.generate(prompts, max_new_tokens=6)
    assert together == [thinker.generate(p, max_new_tokens=6)[0] for p in prompts]
    alone = Thinker(thinker.model, words, "no_cot").generate(prompts, max_new_tokens=6)
    assert [r.tokens for r in together] != [r.tokens for r in alone], "an open gate changes what is said"


def test_a_question_is_read_as_the_definition_says(words, problems):
    """Both read all but the last token; layers are aligned from the last; the last token is read on top."""
    thinker = opened(pair(words))
    method, backbone = thinker.method, thinker.backbone
    row = thinker.text.question(problems[0].question, markers=False)
    with torch.no_grad():
        stream = method.ask(backbone, [row], 0, torch.device("cpu"))
        caches = []
        for model in (method.sharer[0], backbone):
            caches.append(keys_values(read(model, None, model.embed(torch.tensor([row[:-1]])))[1].cache))
        for k in (0, 1):
            for j, fusers in enumerate((method.keys, method.values)):
                fused = fusers[k](caches[0][k + 1][j], caches[1][k][j], 1.0)
                torch.testing.assert_close(keys_values(stream.cache)[k][j][:, :, :-1], fused)


def test_a_cache_with_its_own_keys_and_values_is_itself(words, problems):
    backbone = HuggingFace(llama(len(words)))
    tokens, valid = pad_left([words.encode(p.question) for p in problems[:3]], 0, "cpu")
    _, stream = read(backbone, None, backbone.embed(tokens), valid)
    again = with_keys_values(stream.cache, keys_values(stream.cache))
    before = [k.clone() for k, _ in keys_values(stream.cache)]
    one = backbone.embed(torch.full((3, 1), 5))
    hidden, _ = read(backbone, stream.fork(backbone), one)
    other, _ = read(
        backbone, type(stream)(stream.hidden, stream.length, stream.columns, stream.seen, again), one
    )
    torch.testing.assert_close(hidden, other, rtol=0, atol=0)
    for k, (now, _) in zip(before, keys_values(stream.cache), strict=True):
        torch.testing.assert_close(k, now, rtol=0, atol=0)


def test_only_the_fuser_learns(words, problems):
    thinker = pair(words).train()
    summed, count = thinker.loss(problems[:3])
    (summed / count).backward()
    learnt = {name for name, p in thinker.named_parameters() if p.grad is not None}
    assert learnt == {name for name, _ in thinker.named_parameters() if name.startswith("method.")}
    assert float(thinker.method.logit.grad.abs().max()) > 0
    assert not any(p.grad is not None for p in thinker.method.sharer[0].model.parameters())


def test_the_gate_is_soft_in_training_and_hard_after(words):
    method = pair(words, anneal=100_000).method.train()
    with torch.no_grad():
        method.logit.copy_(torch.tensor([1.0, -1.0]))
    early = torch.stack([method.gates() for _ in range(20)])
    assert int(method.passes) == 20
    assert float(((early > 0.01) & (early < 0.99)).double().mean()) > 0.9
    method.passes.fill_(100_000)
    late = torch.stack([method.gates() for _ in range(200)])
    assert float(((late < 0.01) | (late > 0.99)).double().mean()) > 0.95
    assert method.eval().gates().tolist() == [1.0, 0.0]
    again = pair(words, anneal=100_000).method.train()
    with torch.no_grad():
        again.logit.copy_(method.logit)
    assert torch.equal(again.gates(), early[0]), "noise is a function of the seed and the pass"


def test_what_only_the_sharer_knows_can_be_learnt():
    """The receiver's own reading is kept from it (its embeddings are all alike); the sharer's cache tells it the letter."""
    asked = [Problem(f"It is {a}. Which is it?", (), a) for a in "abcd"]
    letters = Words.of(asked)
    receiver, sharer = gpt2(len(letters), torch.float32), gpt2(len(letters), torch.float32, seed=1)
    blind = torch.tensor([letters.encode(a)[0] for a in "abcd"])
    receiver.lm_head.weight = torch.nn.Parameter(receiver.lm_head.weight.detach().clone())
    with torch.no_grad():
        receiver.transformer.wte.weight[blind] = receiver.transformer.wte.weight[blind[0]].clone()
    thinker = Thinker(receiver, letters, "cache_to_cache", source=sharer, hidden=32, anneal=1000).train()
    optimizer = torch.optim.AdamW(thinker.method.parameters(), lr=3e-3)
    for _ in range(200):
        summed, count = thinker.loss(asked)
        optimizer.zero_grad()
        (summed / count).backward()
        optimizer.step()
    said = [r.text for r in thinker.eval().generate([p.question for p in asked], max_new_tokens=3)]
    assert said == [f"### {a}" for a in "abcd"]
    with torch.no_grad():
        thinker.method.logit.fill_(-1.0)
    shut = [r.text for r in thinker.generate([p.question for p in asked], max_new_tokens=3)]
    assert len(set(shut)) == 1, "with shut gates it cannot tell them apart"


def test_shapes_that_differ_are_refused(words, problems):
    small, large = HuggingFace(gpt2(len(words))), HuggingFace(llama(len(words), layers=3))
    with pytest.raises(
        ValueError, match="2 layers of 2 heads of 12, width 24, .* to one with 3 layers of 2 heads of 6"
    ):
        alike(small, large)
    thinkers = [Thinker(gpt2(len(words)), words, "latent_mas"), Thinker(large.model, words, "latent_mas")]
    with pytest.raises(ValueError, match="fit a fuser"):
        Relay(thinkers, ["{question}", "{question}"])
    with pytest.raises(ValueError, match="1 thinkers for 2 roles"):
        Relay(thinkers[:1], ["a", "b"])
    with pytest.raises(ValueError, match="the same ids would be other words"):
        Thinker(gpt2(len(words)), words, "cache_to_cache", source=gpt2(len(words) + 3))
    with pytest.raises(ValueError, match="source=model"):
        Thinker(gpt2(len(words)), words, "cache_to_cache")
    with pytest.raises(TypeError, match="does not hold keys and values"):
        Thinker(looped(len(words)), words, "cache_to_cache", source=gpt2(len(words)))
    method = pair(words).method
    other = [(torch.zeros(1, 2, 3, 5, dtype=F64), torch.zeros(1, 2, 3, 5, dtype=F64))] * 3
    own = [(torch.zeros(1, 2, 3, 12, dtype=F64), torch.zeros(1, 2, 3, 12, dtype=F64))] * 2
    with pytest.raises(
        ValueError,
        match="the source's cache has 2 heads of 5 over 3 columns; this fuser was made for 2 heads of 6",
    ):
        method.eval().fuse(other, own)
    with pytest.raises(ValueError, match="caches of 3 and 1 layers"):
        method.fuse(other, own[:1])
    with pytest.raises(ValueError, match="one token leaves nothing"):
        pair(words).generate([[4]])
    assert shapes(small) == [(2, 12)] * 2


def test_it_is_saved_without_its_sharer(words, problems, tmp_path):
    thinker = opened(pair(words))
    thinker.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="saved without source: pass source="):
        Thinker.from_pretrained(tmp_path)
    again = Thinker.from_pretrained(tmp_path, source=thinker.method.sharer[0].model).to(F64).eval()
    prompts = [p.question for p in problems[:2]]
    assert again.generate(prompts, max_new_tokens=5) == thinker.generate(prompts, max_new_tokens=5)


def test_agents_consult_and_believe(words, problems):
    """A belief is the likelihood of each option; text is the control, and says what the sharer says."""
    thinker = opened(pair(words))
    agent, question = Consult(thinker), problems[0].question
    assert agent.answer(question, max_new_tokens=5) == thinker.generate(question, max_new_tokens=5)[0]
    with torch.no_grad():
        row = thinker.text.question(question, markers=False)
        stream = thinker.method.ask(thinker.backbone, [row], 0, torch.device("cpu"))
        one, two = (int(words.encode(x)[0]) for x in "12")
        p = thinker.backbone.head(stream.hidden)[0].softmax(-1)
        log = torch.log(p)
        hidden, _ = read(
            thinker.backbone, stream.fork(thinker.backbone), thinker.backbone.embed(torch.tensor([[one]]))
        )
        twelve = log[one] + thinker.backbone.head(hidden)[0, 0].log_softmax(-1)[two]
    expected = torch.stack([twelve, log[two]]).softmax(0)
    torch.testing.assert_close(
        torch.tensor(agent.belief(question, ["12", "2"])), expected.float(), rtol=1e-5, atol=0
    )
    sharer = Thinker(thinker.method.sharer[0].model, words, "no_cot")
    alone = Thinker(thinker.model, words, "no_cot")
    told = sharer.generate(question, max_new_tokens=5)[0].text
    expected = alone.generate(f"{question}\n{told}", max_new_tokens=5)[0]
    assert agent.answer(question, max_new_tokens=5, text=True) == expected
    with pytest.raises(TypeError, match="there is Relay"):
        Consult(alone)
    with pytest.raises(ValueError, match="two options or more"):
        agent.belief(question, ["12"])


def test_versions_of_a_model_hand_on_their_caches(words, problems):
    """Two models of one shape: the second's answer depends on what the first has read."""
    first, second, other = (Thinker(gpt2(len(words), seed=k), words, "latent_mas") for k in range(3))
    roles, question = ["{question}", "How many?"], problems[0].question
    one = Relay([first, second], roles).belief(question, ["1", "2", "3"], 2)
    two = Relay([other, second], roles).belief(question, ["1", "2", "3"], 2)
    assert sum(one) == pytest.approx(1)
    assert one != two
    same = Relay([first, first], roles)
    assert same.answer(question, 2, max_new_tokens=4) == Relay(first, roles).answer(
        question, 2, max_new_tokens=4
    )
