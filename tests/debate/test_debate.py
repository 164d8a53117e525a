"""Running debates: acceptance tests A12, A13 and A16, and endpoints that misbehave."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from _cases import debates, error, system

from unrolled.debate import LLM, Debate, DebateLog, Question, Recorded, Scripted, fit, load
from unrolled.debate.agents import AgentError, Retry, spoken

QUESTIONS = [
    {"id": f"q{i}", "text": f"Question {i}?", "choices": list("vwxyz"), "truth": i % 5} for i in range(8)
]


def crew(n=5, seed=0):
    return Scripted(system(n, torch.Generator().manual_seed(seed)), seed=seed)


class Flaky:
    """Fails a share of its calls, and counts them all."""

    def __init__(self, agent, share=0.0, garble=0.0):
        self.agent, self.name, self.share, self.garble = agent, agent.name, share, garble
        self.rng, self.calls = torch.Generator().manual_seed(0), 0

    def identity(self):
        return self.agent.identity()

    async def answer(self, request):
        self.calls += 1
        if torch.rand(1, generator=self.rng) < self.share:
            raise Retry("it fails on purpose", after=0.0)
        return await self.agent.answer(request)


def test_a13_agents_that_follow_fj_are_recovered_through_text(tmp_path):
    right, worst = 0, 0.0
    questions = [{**QUESTIONS[0], "id": f"q{i}"} for i in range(100)]
    for seed in range(1):
        group = crew(seed=seed)
        result = Debate([group], rounds=5, vote=False).run(questions, tmp_path / "t.jsonl")
        for found in fit(result.log.beliefs):
            worst = max(worst, error(found, group.fj, ["gamma"]))
            right += int(found.pi.argmax()) == int(group.fj.pi.argmax())
    assert worst < 1e-4
    assert right >= 99


SCRIPT = """
import sys, asyncio
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_debate import *
class Counted(Flaky):
    async def answer(self, request):
        with open({calls!r}, "a") as file:
            file.write(f"{{request.question}} {{request.round}} {{request.sample}} {{request.own and request.own.text}} {{self.name}} {{bool(request.peers)}}\\n")
        await asyncio.sleep({wait})
        return await self.agent.answer(request)
questions = [{{**QUESTIONS[0], "id": f"q{{i}}"}} for i in range({questions})]
Debate([Counted(m) for m in crew().members], rounds=5, concurrency=16).run(questions, {trace!r})
"""


def child(tmp_path, name, wait, questions):
    paths = {"calls": str(tmp_path / f"{name}.calls"), "trace": str(tmp_path / f"{name}.jsonl")}
    text = SCRIPT.format(tests=str(Path(__file__).parent), wait=wait, questions=questions, **paths)
    (script := tmp_path / f"{name}.py").write_text(text)
    return subprocess.Popen([sys.executable, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}), paths


@pytest.mark.parametrize("size", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a12_killed_and_resumed(tmp_path, size):
    """SIGKILL in the middle; then no call is made twice, and the trace is the same, byte for byte."""
    process, paths = child(tmp_path, "killed", 0.02, size)
    trace, calls = Path(paths["trace"]), Path(paths["calls"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (trace.exists() and trace.read_bytes().count(b"\n") > size):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = calls.read_text().splitlines()
    with trace.open("ab") as file:
        file.write(b'{"arm":"debate","question":"q')  # a torn line
    again, _ = child(tmp_path, "killed", 0.0, size)
    assert again.wait(timeout=120) == 0
    whole, other = child(tmp_path, "whole", 0.0, size)
    assert whole.wait(timeout=120) == 0
    assert trace.read_bytes() == Path(other["trace"]).read_bytes()
    after = calls.read_text().splitlines()[len(before) :]
    assert before
    assert after
    finished = (
        len(before) - 16
    )  # at most `concurrency` calls were under way when the process died, without an answer
    assert len({*before} & {*after}) <= 16
    assert len(before) + len(after) <= len(Path(other["calls"]).read_text().splitlines()) + 16
    assert finished > 0


def test_a12_a_second_run_costs_nothing(tmp_path):
    members = [Flaky(m) for m in crew().members]
    debate = Debate(members, rounds=3, cache=tmp_path / "cache")
    first = debate.run(QUESTIONS, tmp_path / "a.jsonl")
    assert first.calls == first.total_calls == sum(m.calls for m in members) == 8 * 5 * (4 + 3)
    second = debate.run(QUESTIONS, tmp_path / "b.jsonl")
    assert (second.calls, second.cached) == (0, 8 * 5 * 8)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    third = debate.run(QUESTIONS, tmp_path / "a.jsonl")
    assert (third.calls, third.cached) == (0, 0)


def test_a12_a_backend_that_fails_often_finishes(tmp_path):
    members = [Flaky(m, share=0.2) for m in crew().members]
    result = Debate(members, rounds=3, backoff=0.0, retries=20).run(QUESTIONS, tmp_path / "t.jsonl")
    assert result.status == "finished"
    assert result.calls == sum(m.calls for m in members) > result.total_calls
    plain = Debate([crew()], rounds=3).run(QUESTIONS, tmp_path / "plain.jsonl")
    assert (tmp_path / "t.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    assert plain.unread == 0


def test_a12_budget(tmp_path):
    group = [crew()]
    short = Debate(group, rounds=3, budget=100).run(QUESTIONS, tmp_path / "t.jsonl")
    assert short.status == "budget exhausted"
    assert short.calls == 100
    more = Debate(group, rounds=3, budget=1000).run(QUESTIONS, tmp_path / "t.jsonl")
    assert more.status == "finished"
    assert more.calls == 280 - 100
    none = Debate(group, rounds=3, budget=0).run(QUESTIONS, tmp_path / "none.jsonl")
    assert (none.status, none.calls, len(none.log)) == ("budget exhausted", 0, 0)


def test_a12_a_budget_is_kept_to_the_call_when_an_answer_takes_several(serve, tmp_path):
    """Mode samples: no call beyond the budget, and no finished sample is asked for again."""
    server = serve(lambda body, k: said("(A)"))
    agents = [LLM(server.url, "m", name=name, mode="samples", samples=4) for name in ("ann", "bob")]
    debate = Debate(agents, rounds=1, vote=False, budget=6)
    short = debate.run(QUESTIONS[:1], tmp_path / "t.jsonl")
    assert (short.status, short.calls, len(server.requests)) == ("budget exhausted", 6, 6)
    debate.budget = None
    rest = debate.run(QUESTIONS[:1], tmp_path / "t.jsonl")
    assert (rest.status, rest.calls, rest.total_calls) == ("finished", 10, 16)
    assert rest.log.beliefs[0][1, 0].tolist() == pytest.approx([4.5 / 6.5, *[0.5 / 6.5] * 4])


def test_a12_what_cannot_be_read_stays_missing(tmp_path):
    rng = torch.Generator().manual_seed(3)
    fj = system(3, rng)
    B = debates(fj, 5, 8, 1, rng)[0]
    B[3, 1] = float("nan")
    log = DebateLog([Question("q0", B, tuple("ABCDE"), ("a", "b", "c"), 0)])
    result = Debate([Recorded(log)], rounds=8, vote=False).run(QUESTIONS[:1], tmp_path / "t.jsonl")
    assert result.unread == result.log.missing == 1
    assert result.calls == 0
    found = fit(result.log.beliefs)[0]
    assert found.missing == 1
    assert error(found, fj) < 1e-6


def test_a16_vote_and_control(tmp_path):
    group = crew()
    result = Debate([group], rounds=3, control="no_peers").run(QUESTIONS, tmp_path / "t.jsonl")
    assert 0 <= result.vote <= 1
    assert "majority vote of as many samples" in str(result)
    # A scripted agent answers alike each time: its vote is the majority of the first answers.
    assert result.vote == pytest.approx(float(result.log.majority()[0]))
    tested = fit(result.log.beliefs, pool=True, control=result.control.beliefs)
    assert tested.control.peer_weight > 0.1
    assert tested.control.control_peer_weight < 0.01
    assert tested.control.p_value < 0.05
    assert load(tmp_path / "t.jsonl").kind == "trace"


def test_a16_a_log_estimates_the_vote_that_would_have_cost_as_much():
    """Three agents, each 60 % sure of the truth: the mean over first answers is .6, a vote of 9 draws is right more often."""
    B = torch.tensor([[[0.6, 0.4]] * 3] * 3, dtype=torch.float64)
    log = DebateLog([Question(f"q{i}", B, ("A", "B"), ("x", "y", "z"), 0) for i in range(20)])
    exact = sum(math.comb(9, k) * 0.6**k * 0.4 ** (9 - k) for k in range(5, 10))
    assert log.vote(draws=4000) == pytest.approx(exact, abs=0.01)
    assert log.vote(samples=1, draws=4000) == pytest.approx(0.6**3 + 3 * 0.6**2 * 0.4, abs=0.01)
    B[0, 2] = float("nan")
    assert 0.6 < DebateLog([Question("q", B, ("A", "B"), ("x", "y", "z"), 0)]).vote() < exact
    B[0] = float("nan")
    assert DebateLog([Question("q", B, ("A", "B"), ("x", "y", "z"), 0)]).vote() == 0
    with pytest.raises(ValueError, match="no question of this log has a known answer"):
        DebateLog([Question("q", B, ("A", "B"), ("x", "y", "z"))]).vote()


def test_topology_decides_who_is_heard(tmp_path):
    group = crew(3)
    ring = torch.eye(3).roll(1, 1)
    result = Debate([group], rounds=2, topology=ring, vote=False).run(QUESTIONS[:2], tmp_path / "t.jsonl")
    B, fj = result.log.beliefs[0], group.fj
    expected = fj.gamma[0] * B[0, 0] + fj.H[0, 0] * B[0, 0] + fj.H[0, 1] * B[0, 1]
    torch.testing.assert_close(B[1, 0], expected / expected.sum(), atol=1e-5, rtol=0)


def test_another_debate_does_not_touch_a_trace(tmp_path):
    Debate([crew()], rounds=2, vote=False).run(QUESTIONS, tmp_path / "t.jsonl")
    kept = (tmp_path / "t.jsonl").read_bytes()
    with pytest.raises(ValueError, match="trace of another debate: rounds differ"):
        Debate([crew()], rounds=3, vote=False).run(QUESTIONS, tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").read_bytes() == kept
    lines = kept.splitlines(keepends=True)
    (tmp_path / "t.jsonl").write_bytes(b"".join([*lines[:3], b"{broken}\n", *lines[3:]]))
    with pytest.raises(ValueError, match="line 4 is damaged"):
        Debate([crew()], rounds=2, vote=False).run(QUESTIONS, tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Debate([crew().members[0]]), "at least two agents, got 1"),
        (lambda: Debate([crew(), crew()]), "used twice: agent 0"),
        (lambda: Debate([crew()], rounds=0), "rounds and concurrency are at least 1"),
        (lambda: Debate([crew()], control="alone"), "control= is 'none' or 'no_peers'"),
        (lambda: Debate([crew()]).run([{"text": "?", "choices": ["one"]}]), "2 to 26 choices"),
        (lambda: Debate([crew()]).run([{"text": "?", "choices": list(range(27))}]), "2 to 26 choices"),
        (lambda: Debate([crew()]).run([]), "there is no question"),
        (lambda: Debate([crew()]).run([QUESTIONS[0]] * 2), "ids of their own"),
        (lambda: Debate([crew()]).run([{**QUESTIONS[0], "truth": "Q"}]), "truth 'Q' is none of its choices"),
        (lambda: LLM("http://x", "m", mode="guess"), "mode= is one of 'json'"),
    ],
)
def test_bad_input(call, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.parametrize(
    ("text", "belief"),
    [
        ('{"belief": {"A": 70, "B": 30}}', (0.7, 0.3)),
        ('```json\n{"A": 0.98, "B": 0.0}\n```', (1.0, 0.0)),
        ('{"belief": {"A": 1}} no wait {"belief": {"B": 1}}', (0.0, 1.0)),
        ('{"belief": {"A": 0.5, "B": 0.3}}', None),
        ('{"belief": {"A": 1.2, "B": -0.2}}', None),
        ('{"belief": {"A": NaN, "B": 1}}', None),
        ('{"belief": {"A": true, "B": 0}}', None),
        ('{"belief": {"A": 0.5, "C": 0.5}}', None),
        ('{"belief": "A"}', None),
        ('{"belief": {"A": 0.5, ', None),
        ("", None),
    ],
)
def test_beliefs_in_words(text, belief):
    assert spoken(text, ("A", "B")) == (None if belief is None else pytest.approx(belief))


# ---------------------------------------------------------------- a server on loopback that speaks the chat protocol


class Server:
    """Answers with what `script(body)` returns: (status, headers, text)."""

    def __init__(self, script):
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(body)
                status, headers, text = script(body, len(outer.requests))
                data = text.encode()
                try:
                    self.send_response(status)
                    for key, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(key, value)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except BrokenPipeError:
                    pass

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def said(text, **choice):
    message = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        **choice,
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [message],
        "usage": usage,
    }
    return 200, {}, json.dumps(body)


@pytest.fixture
def serve():
    pytest.importorskip("openai")
    started = []

    def start(script):
        started.append(Server(script))
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()


BELIEF = '{"reason": "r", "belief": {"A": 0.6, "B": 0.1, "C": 0.1, "D": 0.1, "E": 0.1}}'


def pair(url, **options):
    return [
        LLM(url, "m", name=name, timeout=options.pop("timeout", 5.0), **options) for name in ("ann", "bob")
    ]


def test_a_model_behind_an_endpoint(serve, tmp_path):
    server = serve(lambda body, k: said(BELIEF))
    agents = [
        LLM(server.url, "m", name=name, persona="You are a teacher.", price=(1.0, 2.0))
        for name in ("ann", "bob")
    ]
    result = Debate(agents, rounds=1).run(QUESTIONS[:1], tmp_path / "t.jsonl")
    assert result.log.beliefs[0][0, 0].tolist() == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1])
    assert result.tokens == (60, 30)  # two agents: two rounds, and one more vote each
    assert result.cost == pytest.approx((60 * 1 + 30 * 2) / 1e6)
    later = [b for b in server.requests if "[bob]" in b["messages"][1]["content"]]
    assert len(later) == 1
    assert "Your last answer" in later[0]["messages"][1]["content"]
    assert server.requests[0]["messages"][0]["content"].startswith("You are a teacher.")


def test_log_probabilities_and_samples(serve, tmp_path):
    top = [{"token": t, "logprob": p, "bytes": None} for t, p in ((" A", -1.0), ("B", -2.0), ("the", -0.5))]
    server = serve(
        lambda body, k: (
            said("A", logprobs={"content": [{**top[0], "top_logprobs": top}], "refusal": None})
            if body.get("logprobs")
            else said("(A)" if k % 2 else "(B)")
        )
    )
    agents = [
        LLM(server.url, "m", name="l", mode="logprobs"),
        LLM(server.url, "m", name="s", mode="samples", samples=4),
    ]
    result = Debate(agents, rounds=1, vote=False, concurrency=1).run(QUESTIONS[:1], tmp_path / "t.jsonl")
    one, many = result.log.beliefs[0][0]
    assert one.tolist() == pytest.approx([0.7310586, 0.2689414, 0, 0, 0], abs=1e-6)
    assert many.tolist() == pytest.approx([2.5 / 6.5, 2.5 / 6.5, 0.5 / 6.5, 0.5 / 6.5, 0.5 / 6.5])
    assert result.calls == 2 * (1 + 4)


def test_nothing_listens(tmp_path):
    pytest.importorskip("openai")
    debate = Debate(pair("http://127.0.0.1:9/v1"), rounds=1, retries=1, backoff=0.01)
    with pytest.raises(AgentError, match="cannot be reached; does a server run there.*the same call goes on"):
        debate.run(QUESTIONS, tmp_path / "t.jsonl")


def test_rate_limits_are_waited_for(serve, tmp_path):
    server = serve(lambda body, k: (429, {"retry-after": "0"}, "{}") if k <= 3 else said(BELIEF))
    result = Debate(pair(server.url), rounds=1, vote=False).run(QUESTIONS[:1], tmp_path / "t.jsonl")
    assert result.status == "finished"
    assert len(server.requests) == 4 + 3 == result.calls


def test_timeouts_are_tried_again(serve, tmp_path):
    def slow(body, k):
        if k == 1:
            time.sleep(1.0)
        return said(BELIEF)

    server = serve(slow)
    result = Debate(pair(server.url, timeout=0.5), rounds=1, vote=False, backoff=0.01).run(
        QUESTIONS[:1], tmp_path / "t.jsonl"
    )
    assert result.status == "finished"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            (200, {"content-type": "text/html"}, "<!DOCTYPE html><html>portal</html>"),
            "usually ends in /v1|should base_url end",
        ),
        ((200, {}, "<!DOCTYPE html>"), "should base_url end in /v1|usually ends in /v1"),
        ((401, {}, '{"error": {"message": "no key"}}'), "refuses: status 401"),
        ((404, {"content-type": "text/html"}, "<html>not here</html>"), "refuses: status 404"),
        ((200, {}, '{"choices": []}'), "answered without choices"),
    ],
)
def test_what_will_not_pass_stops_at_once(serve, tmp_path, reply, told):
    server = serve(lambda body, k: reply)
    with pytest.raises(AgentError, match=told):
        Debate(pair(server.url), rounds=1).run(QUESTIONS, tmp_path / "t.jsonl")
    assert len(server.requests) <= 8  # no retries, and nothing new after the failure


def test_whatever_a_model_says_can_be_read_again(serve, tmp_path):
    """Separators that are no newline, quotes, control characters: one line of the trace each."""
    odd = 'a\u2028b\u0085c\x1c\x0b\r\n"\\ \ud83d\ude00 (A)'
    server = serve(lambda body, k: said(odd))
    agents = [LLM(server.url, "m", name=name, mode="samples", samples=1) for name in ("ann", "bob")]
    result = Debate(agents, rounds=1).run(QUESTIONS[:2], tmp_path / "t.jsonl")
    assert result.status == "finished"
    assert load(tmp_path / "t.jsonl").questions[0].texts[0][0].startswith("a\u2028b")
    again = Debate(agents, rounds=1).run(QUESTIONS[:2], tmp_path / "t.jsonl")
    assert (again.calls, again.cached) == (0, 0)


def test_finished_answers_survive_a_failing_endpoint(serve, tmp_path):
    server = serve(lambda body, k: said(BELIEF) if k <= 10 else (500, {}, "{}"))
    debate = Debate(pair(server.url), rounds=2, vote=False, retries=0, concurrency=1)
    with pytest.raises(AgentError, match="failed with status 500"):
        debate.run(QUESTIONS, tmp_path / "t.jsonl")
    good = serve(lambda body, k: said(BELIEF))
    server.server.RequestHandlerClass.do_POST = good.server.RequestHandlerClass.do_POST
    result = debate.run(QUESTIONS, tmp_path / "t.jsonl")
    assert result.status == "finished"
    assert result.calls == 8 * 2 * 3 - 10
