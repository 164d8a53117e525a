"""Importers: every format, what stays missing, and damaged files."""

import json
import math
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from _cases import debates, system

from unrolled.debate import DebateLog, Question, fit, load
from unrolled.debate.importers import letter, table
from unrolled.debate.importers.answers import letters

DATA = Path(__file__).parents[3] / "shared" / "data" / "debates.tar.xz"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    if not DATA.is_file():
        pytest.skip(f"needs {DATA}")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder := tmp_path_factory.mktemp("debates"), filter="data")
    return folder / "debates"


def csv_file(tmp_path, text):
    (path := tmp_path / "log.csv").write_text(text)
    return path


def test_csv_goes_round(tmp_path):
    rng = torch.Generator().manual_seed(0)
    B = debates(system(3, rng), 4, 3, 2, rng)
    B[1, 2, 0] = math.nan
    log = DebateLog([Question(f"q{i}", b, tuple("ABCD"), ("x", "y", "z"), i) for i, b in enumerate(B)])
    again = load(table.write(log, tmp_path / "log.csv"))
    assert again.kind == "csv"
    assert again.missing == 1
    assert [q.truth for q in again.questions] == [0, 1]
    for q, b in zip(again.questions, B):
        order = [q.agents.index(name) for name in ("x", "y", "z")]
        torch.testing.assert_close(q.beliefs[:, order], b, equal_nan=True, atol=0, rtol=0)
    assert fit(again.beliefs)[0].status == "identified"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("question,round,agent,option\nq,0,x,A\n", "is no debate log that is known: a CSV needs the columns"),
        ("question,round,agent,option,prob\n", "header and no rows"),
        ("question,round,agent,option,prob\nq,zero,x,A,1\n", "line 2: round is a whole number, got 'zero'"),
        ("question,round,agent,option,prob\nq,0,x,A,half\n", "line 2: prob is a number, got 'half'"),
        (
            "question,round,agent,option,prob\nq,0,x,A,1\nq,0,x,A,0\n",
            "line 3: agent 'x' says option 'A' twice",
        ),
        (
            "question,round,agent,option,prob,truth\nq,0,x,A,1,Z\n",
            "truth 'Z', which is none of its options A",
        ),
        ("<!DOCTYPE html><html>", "is no debate log that is known"),
        ("", "is no debate log that is known"),
    ],
)
def test_bad_csv(tmp_path, text, told):
    with pytest.raises(ValueError, match=told):
        load(csv_file(tmp_path, text))


def test_csv_sums_are_judged_by_fit(tmp_path):
    rows = [f"q,{t},{a},{o},{p}" for t in (0, 1) for a in "xy" for o, p in (("A", 0.5), ("B", 0.47))]
    log = load(csv_file(tmp_path, "\n".join(["question,round,agent,option,prob", *rows])))
    with pytest.raises(ValueError, match="sums to 0.97"):
        fit(log.beliefs)


QUESTION = "What is 1+1? : A) one, B) two, C) three Answer."


def messages(*answers):
    return [
        m
        for text in answers
        for m in ({"role": "user", "content": "?"}, {"role": "assistant", "content": text})
    ]


def test_messages(tmp_path):
    path = tmp_path / "log.json"
    said = [
        messages("(A)", "<think>(A)</think> now \\boxed{B}"),
        messages("no idea", "It is (B)."),
        messages("(Z)"),
    ]
    path.write_text(json.dumps({QUESTION: [said, "B"]}))
    (question,) = load(path).questions
    assert question.options == ("A", "B", "C")
    assert question.truth == 1
    assert question.beliefs[0, 0].tolist() == [1, 0, 0]
    assert question.beliefs[1, :2].tolist() == [[0, 1, 0]] * 2
    assert question.missing == 3  # no idea; (Z); and agent 2 said nothing in round 1
    assert question.texts[1] == ["<think>(A)</think> now \\boxed{B}", "It is (B).", ""]


def test_free_text_through_a_function(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({QUESTION: [[messages("two, surely"), messages("maybe")], "B"]}))
    log = load(path, answer=lambda text, options: [0.1, 0.8, 0.1] if "two" in text else None)
    assert log.questions[0].beliefs[0, 0].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert log.missing == 1
    for wrong in ("Q", 7, [0.5, 0.5], object()):
        with pytest.raises(ValueError, match="answer= returned"):
            load(path, answer=lambda text, options, wrong=wrong: wrong)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"q": [[', "no whole JSON file .* cut off"),
        ("{}", "expected {question"),
        (json.dumps({"q": [1]}), "is not \\[\\[messages of each agent\\], answer\\]"),
        (json.dumps({"no options": [[messages("(A)")], "A"]}), "lists no options"),
        (json.dumps({QUESTION: [[[]], "A"]}), "no answer of any agent"),
    ],
)
def test_bad_messages(tmp_path, content, told):
    (path := tmp_path / "log.json").write_text(content)
    with pytest.raises(ValueError, match=told):
        load(path)


def test_letters_of_questions_and_answers():
    assert letters("Which? A) x, B) y Q) z C) w") == ("A", "B", "C")
    assert letter("\\boxed{\\text{C}} ", "ABC") == "C"
    assert letter("(D)", "ABC") is None
    assert letter("<think>unfinished (A)", "ABC") is None


def sample(**meta):
    messages = [
        {"role": "assistant", "content": "(A)", "metadata": {"agent": a, "round": t, **meta}}
        for t in (0, 1)
        for a in "xy"
    ]
    return {"id": "s1", "choices": ["one", "two"], "target": "B", "messages": messages}


@pytest.mark.parametrize("zipped", [False, True])
def test_inspect(tmp_path, zipped):
    path = tmp_path / ("log.eval" if zipped else "log.json")
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("samples/s1_epoch_1.json", json.dumps(sample(belief={"A": 0.25, "B": 0.75})))
    else:
        path.write_text(json.dumps({"version": 2, "eval": {}, "samples": [sample(belief=[0.25, 0.75])]}))
    (question,) = load(path).questions
    assert question.beliefs[1, 1].tolist() == [0.25, 0.75]
    assert question.agents == ("x", "y")
    assert question.truth == 1


def test_inspect_without_beliefs_reads_the_text_and_bad_logs_say_why(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": 2, "eval": {}, "samples": [sample()]}))
    assert load(path).questions[0].beliefs[0, 0].tolist() == [1, 0]
    path.write_text(json.dumps({"version": 2, "eval": {}, "samples": []}))
    with pytest.raises(ValueError, match="holds no samples"):
        load(path)
    path.write_text(json.dumps({"version": 2, "eval": {}, "samples": [{**sample(), "choices": []}]}))
    with pytest.raises(ValueError, match="has 0 choices"):
        load(path)


def test_cascade_file_and_folder(tmp_path):
    rng = torch.Generator().manual_seed(1)
    B = debates(system(3, rng), 4, 2, 1, rng)[0]
    for t in (0, 2):
        rows = ["A,B,C,D", *(",".join(map(repr, row)) for row in B[t].tolist())]
        (tmp_path / f"belief_after_item_ab12_round{t}.csv").write_text("\n".join(rows))
    (question,) = load(tmp_path).questions
    assert (question.id, question.missing) == ("ab12", 3)
    torch.testing.assert_close(question.beliefs[[0, 2]], B[[0, 2]])
    whole = tmp_path / "ab12_beliefs.csv"
    rows = ["round," + ",".join("AAABBBCCCDDD"), "," + ",".join("ABCD" * 3)]
    rows += [f"round{t}," + ",".join(map(repr, b.flatten().tolist())) for t, b in enumerate(B)]
    whole.write_text("\n".join(rows))
    torch.testing.assert_close(load(whole).questions[0].beliefs, B)
    whole.write_text("\n".join(rows[:2]))
    with pytest.raises(ValueError, match="has 2 rows"):
        load(whole)


def test_no_such_file_or_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="no debate log at"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="folder without"):
        load(tmp_path)
    with pytest.raises(ValueError, match="kind= is one of"):
        load(tmp_path, kind="xml")


def test_truth_from_elsewhere(tmp_path):
    rows = [f"q,{t},{a},{o},{p}" for t in (0, 1) for a in "xy" for o, p in (("A", 1), ("B", 0))]
    path = csv_file(tmp_path, "\n".join(["question,round,agent,option,prob", *rows]))
    assert load(path, truth={"q": "B"}).accuracy().tolist() == [0, 0]
    with pytest.raises(ValueError, match="no question of this log has a known answer"):
        load(path).accuracy()


@pytest.mark.data
def test_recorded_debates(recorded):
    """Fact sheet, set 1: Qwen3-14B at five temperatures."""
    log = load(next(recorded.glob("mmlu_Qwen3-14B_temp0.5+0.6+0.7+0.9+1.0_agents5_rounds3.json")))
    assert len(log) == 20
    assert [q.beliefs.shape[:2] for q in log.questions] == [(3, 5)] * 20
    assert log.majority().tolist()[0] == pytest.approx(0.90, abs=1e-9)
    assert log.majority().tolist()[-1] == pytest.approx(0.95, abs=1e-9)


@pytest.mark.data
def test_a14_human_groups(recorded):
    """Slider games with 4 players and at least 9 consecutive common rounds that end at round 12."""
    table = pd.read_csv(recorded / "human_groups_of_four_slider.csv")
    games = []
    for _, game in table.groupby("gameID"):
        wide = game.pivot_table(index="idx", columns="playerID", values="guess")
        if wide.shape[1] != 4 or 12 not in wide.index:
            continue
        first = 12
        while first in wide.index and wide.loc[first].notna().all():
            first -= 1
        if 12 - first >= 9:
            games.append(torch.tensor(wide.loc[first + 1 :].to_numpy(), dtype=torch.float64) / 100)
    assert len(games) == 24
    traces = [torch.stack([x, 1 - x], -1) for x in games]
    fits = fit(traces)
    entries = sum((len(x) - 1) * 4 for x in games)
    square = sum(f.mse * f.transitions for f in fits)
    assert math.sqrt(square / entries) == pytest.approx(0.0817, abs=1e-3)
    stay = sum(float((x[1:] - x[:-1]).square().sum()) for x in games)
    assert math.sqrt(stay / entries) == pytest.approx(0.1240, abs=1e-3)
    held = 0.0
    for f, x in zip(fit([t[:-3] for t in traces]), games):
        for t in range(len(x) - 4, len(x) - 1):
            held += float((f.gamma * x[0] + f.H @ x[t] - x[t + 1]).square().sum())
    assert math.sqrt(held / (len(games) * 12)) == pytest.approx(0.0879, abs=1e-3)
