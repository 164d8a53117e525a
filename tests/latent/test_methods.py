"""Each method against what its paper says of it."""

import pytest
import torch
from tests.latent.conftest import gpt2, llama

from unrolled.latent import Thinker, methods, naive
from unrolled.latent.agents import Relay
from unrolled.latent.methods.colar import merge
from unrolled.latent.methods.soft_thinking import SoftThinking, entropy
from unrolled.latent.methods.swi_reasoning import SwiReasoning, Switch
from unrolled.latent.protocol import ask, supervise
from unrolled.latent.realign import realignment


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


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.load(n).sequential])
def test_a_rollout_shows_the_thoughts_that_thinking_makes(words, problems, name):
    """The System and `think` are two ways to the same thoughts (drawn ones from the same seed)."""
    if methods.load(name)(Thinker(gpt2(len(words))).backbone).plan(problems[0], None)[0] == 0:
        return
    thinker = Thinker(gpt2(len(words)), words, name).eval()
    again = Thinker(thinker.model, words, name).eval()
    again.method.load_state_dict(thinker.method.state_dict())
    rows = [thinker.text.question(problems[0].question, markers=thinker.method.markers)]
    stream = ask(thinker.backbone, rows, thinker.text.pad, "cpu")
    with torch.no_grad():
        made = thinker.method.think(thinker.backbone, stream, torch.tensor([4])).made
        path = again.rollout(rows, 3)
    assert made
    torch.testing.assert_close(path["thought"][: len(made), 0], torch.cat(made)[:4], rtol=1e-9, atol=1e-12)


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


# --- realignment, LatentMAS, LaTER -----------------------------------------------------------------------------------


def test_tied_embeddings_need_no_realignment():
    """A10: W_a = I where the tables are tied and of full column rank; the norm is the table's mean norm."""
    table = torch.randn(60, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(realignment(table, table), torch.eye(16).double(), atol=1e-3, rtol=0)
    other = torch.randn(60, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    W = realignment(table, other, ridge=1e-12)
    residual = other.T @ (other @ W - table)
    assert float(residual.abs().max()) < 1e-9, "normal equations of the regression"


def test_realigned_thoughts_have_the_tables_norm(words, problems):
    for name in ("latent_mas", "later"):
        thinker = Thinker(llama(len(words)), words, name, thoughts=4)
        path = thinker.rollout(problems[0].question, thoughts=3)
        norm = thinker.backbone.weights()[0].norm(dim=-1).mean()
        torch.testing.assert_close(
            path["thought"].norm(dim=-1), norm.expand(4, 1).detach(), rtol=1e-5, atol=0
        )


def test_later_stops_when_unsure(words, problems):
    """A new model is nearly uniform over its words: its entropy is above one threshold and below another."""
    thinker = Thinker(gpt2(len(words)), words, "later", thoughts=5, threshold=0.0)
    assert [r.thoughts for r in thinker.generate([problems[0].question], 5, max_new_tokens=2)] == [0]
    thinker.method.threshold = 100.0
    assert [r.thoughts for r in thinker.generate([problems[0].question], 5, max_new_tokens=2)] == [5]


def test_a_relay_is_one_concatenated_pass(words, problems):
    """A10: what agents hand over equals reading everything at once."""
    thinker = Thinker(gpt2(len(words)), words, "latent_mas")
    roles = ["{question}", "How many? {question}", "what is left."]
    reply = Relay(thinker, roles).answer(problems[0].question, thoughts=3, max_new_tokens=6)
    backbone = thinker.backbone
    with torch.no_grad():
        sequence = torch.zeros(0, backbone.width, dtype=torch.float64)
        for role in roles:
            ids = thinker.text.question(role.format(question=problems[0].question), markers=False)
            sequence = torch.cat([sequence, backbone.embed(torch.tensor(ids))])
            sequence = naive.thoughts(backbone, thinker.method, sequence, 3)
        said = []
        for _ in range(6):
            token = int(backbone.head(naive.hidden_states(backbone, sequence)[-1]).argmax())
            said.append(token)
            sequence = torch.cat([sequence, backbone.embed(torch.tensor([token]))])
    assert reply.thoughts == 9
    assert list(reply.tokens) == said[: len(reply.tokens)]
    assert reply.stop == "length" or said[len(reply.tokens)] == thinker.text.eos
    assert Relay(thinker, roles).answer(problems[0].question, max_new_tokens=3, text=True).thoughts == 0
    with pytest.raises(ValueError, match="at least one role"):
        Relay(thinker, [])


# --- SwiReasoning ----------------------------------------------------------------------------------------------------


def test_the_switch_by_hand():
    """A9: soft until surer than at the last switch; never soft again before the window has passed."""
    switch = Switch(window=512)
    h = [2.0, 2.5, 1.5] + [1.0] * 5 + [3.0] * 600
    soft = [bool(switch.step(torch.tensor([x]))) for x in h]
    assert soft[:2] == [True, True]
    assert not any(soft[2 : 2 + 512])
    assert soft[2 + 512]
    assert int(switch.switches) == 1
    assert float(switch.reference) == 3.0
    assert all(soft[2 + 512 :]), "equal is not below"


def test_rows_switch_alone():
    scripts = torch.tensor([[3.0, 2.0, 4.0, 4.0, 1.0], [1.0, 2.0, 0.5, 0.2, 9.0]])
    together, alone = Switch(1), [Switch(1), Switch(1)]
    for k in range(5):
        soft = together.step(scripts[:, k])
        assert soft.tolist() == [bool(alone[b].step(scripts[b : b + 1, k])) for b in (0, 1)]


def test_after_the_end_of_thinking_nothing_is_soft(words, problems):
    """With a window of 1 and `end` likeliest at once, reasoning is over, and every token after is plain."""
    thinker = Thinker(gpt2(len(words)), words, "swi_reasoning", thoughts=12, window=1, end=7, most=2)
    reply = thinker.generate(problems[0].question, 12, max_new_tokens=4)[0]
    assert reply.thoughts <= 12
    assert int(thinker.method.switch.switches.max()) <= 4
    normal = SwiReasoning(thinker.backbone, beta=1.0)
    normal.switch.step(torch.tensor([3.0]))
    normal.switch.step(torch.tensor([1.0]))
    hidden = torch.randn(1, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    token = thinker.backbone.head(hidden).argmax(-1)
    torch.testing.assert_close(
        normal.thought(thinker.backbone, hidden, 3), thinker.backbone.weights()[0][token]
    )


class Moody:
    """A backbone of eight tokens whose hidden state says how sure it is of which token: `[B, 2]`, sharpness and token."""

    table = torch.eye(8, dtype=torch.float64)

    def head(self, hidden):
        return hidden[:, :1] * self.table[hidden[:, 1].long()]

    def weights(self):
        return self.table, self.table


def test_used_up_switches_ask_for_the_answer():
    """A9, C_max: the second switch to words reads </think>, so does the third, and the fourth is asked for its answer; a
    row that says </think> by itself is not asked."""
    unsure, sure, said = (0.0, 1), (4.0, 2), (6.0, 7)
    script = [unsure, sure, unsure, sure, unsure, sure, unsure, sure, unsure]
    other = [unsure, sure, unsure, sure, said, said, said, said, said]
    method = SwiReasoning(Moody(), window=1, most=2, end=7, beta=1.0, final=(7, 3), budget=5)
    method.switch, stopped, read_end = Switch(1), [], []
    for step, rows in enumerate(zip(script, other, strict=True)):
        hidden = torch.tensor(rows, dtype=torch.float64)
        stopped.append(method.stop(Moody(), hidden, step).tolist())
        z = method.thought(Moody(), hidden, step)
        read_end.append([bool(torch.equal(row, Moody.table[7])) for row in z])
    assert next(k for k, (a, _) in enumerate(stopped) if a) == 7
    assert next(k for k, (_, b) in enumerate(stopped) if b) == 4
    assert [k for k, (a, _) in enumerate(read_end) if a] == [3, 5, 7]
    assert [b for _, b in read_end[:4]] == [False, False, False, True]
    assert method._asked.tolist() == [True, False]


def test_an_injected_prompt_is_read_and_bounds_the_answer(words, problems):
    """Rows that were asked read the prompt and say `budget` tokens at most; the others speak as ever; batch is no matter."""
    thinker = Thinker(gpt2(len(words)), words, "swi_reasoning", window=1, most=1, final=(6, 7, 8), budget=2)
    prompts = [p.question for p in problems[:6]]
    together = thinker.generate(prompts, 30, max_new_tokens=6)
    alone = [thinker.generate(p, 30, max_new_tokens=6)[0] for p in prompts]
    assert together == alone
    asked = thinker.method.think(
        thinker.backbone,
        ask(thinker.backbone, [thinker.text.question(p, markers=False) for p in prompts], 0, "cpu"),
        torch.full((6,), 30),
    )
    assert asked.prompts
    for reply, prompt, most in zip(together, asked.prompts, asked.limits, strict=True):
        assert len(reply.tokens) <= (2 if prompt else 6)
        assert most == (2 if prompt else None)
    k = next(k for k, prompt in enumerate(asked.prompts) if prompt)
    row = thinker.text.question(prompts[k], markers=False)
    one = thinker.method.think(thinker.backbone, ask(thinker.backbone, [row], 0, "cpu"), torch.tensor([30]))
    with torch.no_grad():
        sequence = thinker.backbone.embed(torch.tensor(row))
        sequence = torch.cat([sequence, torch.cat(one.made[: together[k].thoughts])])
        sequence = torch.cat([sequence, thinker.backbone.embed(torch.tensor([6, 7, 8]))])
        token = int(thinker.backbone.head(naive.hidden_states(thinker.backbone, sequence)[-1]).argmax())
    assert together[k].tokens[0] == token
    with pytest.raises(ValueError, match="most 0 at least 1"):
        SwiReasoning(None, most=0)


def test_mixing_at_switches(words):
    backbone = Thinker(gpt2(len(words))).backbone
    method = SwiReasoning(backbone, alpha=0.6, think=5, thoughts=10)
    hidden = torch.randn(1, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    method.switch.step(torch.tensor([3.0]))
    table = backbone.weights()[0]
    mixture = backbone.head(hidden).softmax(-1) @ table
    own = 0.6 + 0.4 * 0.2
    torch.testing.assert_close(method.thought(backbone, hidden, 2), own * mixture + (1 - own) * table[[5]])


# --- HRPO, CoLaR, SIM-CoT --------------------------------------------------------------------------------------------


def test_the_gate_begins_as_the_paper_has_it(words):
    """A11: a = u^r at the start; the blend keeps unit variance when the intake is open."""
    backbone = Thinker(gpt2(len(words), width=400)).backbone
    method = methods.load("hrpo")(backbone, span=(0.98, 0.999))
    r = torch.rand(3, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(method.share(r), method.u.expand(3, -1) ** r, atol=1e-6, rtol=0)
    with torch.no_grad():
        method.intake.weight.zero_()
        method.intake.bias.fill_(50.0)
    rng = torch.Generator().manual_seed(1)
    token, mixture = (torch.randn(4000, 400, generator=rng, dtype=torch.float64) for _ in range(2))
    assert float(method.blend(token, mixture).var()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5])
def test_merging_keeps_the_variance(r):
    """A12, the last, smaller group included."""
    embeds = torch.randn(20_003, 16, generator=torch.Generator().manual_seed(r), dtype=torch.float64)
    made = merge(embeds, r)
    assert len(made) == -(-20_003 // r)
    assert float(made.var()) == pytest.approx(1.0, abs=0.02)
    torch.testing.assert_close(merge(torch.ones(7, 2), 5)[-1], torch.full((2,), 2.0**0.5))


def test_colar_fits_its_thoughts(words, problems):
    """The latent head's loss falls, and its Gaussian is what is minimised: at the target, mse is zero."""
    torch.manual_seed(0)
    thinker = Thinker(gpt2(len(words), torch.float32), words, "colar", loss="mse", r=2)
    steps = torch.optim.AdamW(thinker.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        summed, count = thinker.loss(problems[:6])
        losses.append(float((summed / count).detach()))
        steps.zero_grad()
        (summed / count).backward()
        steps.step()
    assert losses[-1] < 0.7 * losses[0]
    with pytest.raises(ValueError, match="made from the steps"):
        thinker.loss([thinker.encode(problem) for problem in problems[:2]])


def test_sim_cot_reaches_every_thought_and_is_dropped(words, problems, tmp_path):
    thinker = Thinker(gpt2(len(words), torch.float32), words, "sim_cot", c=2, stages=2)
    plain = Thinker(thinker.model, words, "coconut", c=2, stages=2)
    thinker.method.weight = 0.0
    a, n = thinker.loss(problems[:3])
    b, m = plain.loss(problems[:3])
    torch.testing.assert_close(a, b)
    assert int(n) == int(m)
    thinker.method.weight = 1.0
    more, _ = thinker.loss(problems[:3])
    assert float(more.detach()) > float(a.detach())
    made = []
    original = thinker.method.think

    def think(*args):
        found = original(*args)
        for z in found.made:
            z.retain_grad()
        made.extend(found.made)
        return found

    thinker.method.think = think
    (thinker.loss(problems[:3])[0] - plain.loss(problems[:3])[0]).backward()
    assert len(made) == 4
    assert all(float(z.grad.abs().min(0).values.max()) > 0 for z in made)
    del thinker.method.think
    thinker.save_pretrained(tmp_path)
    again = Thinker.from_pretrained(tmp_path)
    prompts = [problem.question for problem in problems[:2]]
    assert again.generate(prompts, max_new_tokens=4) == thinker.generate(prompts, max_new_tokens=4)
    with pytest.raises(ValueError, match="pass problems"):
        thinker.loss([thinker.encode(problem) for problem in problems[:2]])


def test_hrpo_draws_by_its_seed(words, problems):
    thinker = Thinker(gpt2(len(words)), words, "hrpo", thoughts=3, seed=4)
    again = Thinker(thinker.model, words, "hrpo", thoughts=3, seed=4)
    again.method.load_state_dict(thinker.method.state_dict())
    prompts = [problem.question for problem in problems[:2]]
    assert thinker.generate(prompts, 3, max_new_tokens=4) == again.generate(prompts, 3, max_new_tokens=4)
    summed, _ = thinker.loss(problems[:2])
    summed.backward()
    assert float(thinker.method.decay.grad.abs().max()) > 0
