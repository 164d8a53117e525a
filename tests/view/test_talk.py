import asyncio
import json
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unrolled.core import Trajectory
from unrolled.runs import atomic
from unrolled.view import talk
from unrolled.view.talk import Talker


def apart(coroutine):
    """Run to its end in a thread of its own: Playwright's loop goes on in this one once a browser test has run."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


ORIGIN = {"origin": "http://127.0.0.1:8420"}


class Reply:
    """As `languagegame.talk` gives it; the game of the same name has its own test below."""

    game, goal, fulfilled, delta_value, gain, system, method = (
        "toy",
        "stay",
        True,
        0.1,
        float("nan"),
        "net",
        "plain",
    )
    before = after = None

    def __init__(self, text):
        self.text = text
        self.trajectory = Trajectory.from_records(
            [0.0, 1.0, 2.0], {"A": [1.0, 2.0, 3.0], "B": [1.0, 1.0, 1.0]}, meta={"unit": "min"}
        )


@pytest.fixture
def network(run, monkeypatch):
    """A run that can be talked to, and a language game that answers as the test wants."""
    import importlib

    game = types.SimpleNamespace(asked=[], answer=lambda text, cancel: Reply(f"heard {text}"))

    def answer(policy, text, *, turn, cancel):
        game.asked.append((policy, text, turn))
        return game.answer(text, cancel)

    game.talk = answer
    game.Policy = types.SimpleNamespace(load=lambda path: types.SimpleNamespace(path=path, env_id=""))
    real = importlib.import_module
    monkeypatch.setattr(
        talk.importlib, "import_module", lambda name: game if name == "unrolled.languagegame" else real(name)
    )
    (run.path / "exhibits").mkdir()
    atomic.write_json(
        run.path / "exhibits" / "talk.json",
        {"kind": "talk", "data": {"about": "", "examples": [], "model": "policy.safetensors"}},
    )
    (run.path / "policy.safetensors").write_bytes(b"weights")
    game.question = {"study": run.study, "id": run.id, "exhibit": "talk", "text": "hello"}
    return game


def test_a_question_gets_an_answer_and_what_moved(client, network, run):
    answer = client.post("/api/talk", json=network.question, headers=ORIGIN)
    assert answer.status_code == 200
    told = answer.json()
    assert told["reply"] == "heard hello"
    assert told["traces"]["A"] == [1, 2, 3]
    assert (told["phase"]["xlabel"], told["unit"], told["session"]) == ("A", "min", 1)
    client.post("/api/talk", json=network.question | {"session": 1}, headers=ORIGIN)
    assert [turn for _, _, turn in network.asked] == [0, 1]
    assert network.asked[0][0] is network.asked[1][0]
    assert network.asked[0][0].path == Path(run.path / "policy.safetensors")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": ""}, 422),
        ({"text": " \n"}, 422),
        ({"text": "x" * 501}, 422),
        ({"text": 3}, 422),
        ({"session": "one"}, 422),
        ({"session": -1}, 422),
        ({"id": ".."}, 403),
        ({"id": "nothing"}, 404),
        ({"exhibit": "../status"}, 403),
        ({"exhibit": "other"}, 404),
    ],
)
def test_what_is_no_question(client, network, change, status):
    answer = client.post("/api/talk", json=network.question | change, headers=ORIGIN)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert network.asked == []


def test_what_is_no_json(client, network):
    for body, kind, status in (
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"x" * 20_000, "application/json", 413),
    ):
        assert (
            client.post("/api/talk", content=body, headers={**ORIGIN, "content-type": kind}).status_code
            == status
        )


@pytest.mark.parametrize("model", ["../policy.safetensors", "/etc/passwd", "nothing.safetensors", 3])
def test_a_policy_lies_in_its_run(client, network, run, model):
    atomic.write_json(
        run.path / "exhibits" / "talk.json",
        {"kind": "talk", "data": {"about": "", "examples": [], "model": model}},
    )
    assert client.post("/api/talk", json=network.question, headers=ORIGIN).status_code in (403, 404, 422)
    assert network.asked == []


def test_talking_is_rationed(client, network):
    answers = [client.post("/api/talk", json=network.question, headers=ORIGIN) for _ in range(9)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    refused = answers[-1]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_one_question_at_a_time_and_none_when_the_asker_has_left(network, root):
    started, seen = threading.Event(), []

    def slow(text, cancel):
        started.set()
        seen.append(cancel.wait(20))
        return Reply("late")

    network.answer = slow

    async def main():
        talker, left = Talker(root), False

        async def gone():
            return left

        first = asyncio.create_task(talker.ask(network.question, gone))
        await asyncio.to_thread(started.wait, 20)
        with pytest.raises(talk.Busy):
            await talker.ask(network.question, gone)
        left = True
        with pytest.raises(asyncio.CancelledError):
            await first
        began = time.monotonic()
        while not seen and time.monotonic() - began < 20:
            await asyncio.sleep(0.01)
        assert seen == [True]

    apart(main())


def test_an_answer_that_takes_too_long_is_given_up(network, root, monkeypatch):
    monkeypatch.setattr(talk, "SECONDS", 0.05)
    network.answer = lambda text, cancel: cancel.wait(20) and Reply("late")

    async def main():
        async def here():
            return False

        with pytest.raises(TimeoutError):
            await Talker(root).ask(network.question, here)

    apart(main())


def test_without_the_language_game_it_says_so(client, network, monkeypatch):
    del network.talk
    answer = client.post("/api/talk", json=network.question, headers=ORIGIN)
    assert answer.status_code == 501
    assert "does not have" in answer.json()["error"]


def test_the_answer_is_valid_json_whatever_is_in_it(client, network):
    network.answer = lambda text, cancel: Reply("</script>\ud800"[:-1] + "\u2028")
    told = json.loads(client.post("/api/talk", json=network.question, headers=ORIGIN).content)
    assert told["reply"] == "</script>\u2028"
    assert told["facts"]["gain"] == "NaN"
