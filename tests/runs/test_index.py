import json
import os
import shutil
import sqlite3
import time

import pytest

from unrolled.runs import Claim, Run, RunError, folder, index


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "runs"
    for seed in range(3):
        with Run.create("toy", {"preset": "tiny", "seed": seed, "model": {"depth": seed}}, root) as run:
            run.save_claims(
                [Claim.not_attempted("a", "b", why="c"), Claim("d", "e", ours=1.0, status="reproduced")]
            )
    with pytest.raises(ZeroDivisionError), Run.create("other", {"preset": "small", "rate": 0.1}, root):
        raise ZeroDivisionError
    return root


def told(root, **filters):
    return [(row["study"], row["config"].get("seed"), row["state"]) for row in index.query(root, **filters)]


ALL = [("toy", 0, "finished"), ("toy", 1, "finished"), ("toy", 2, "finished"), ("other", None, "failed")]


def test_the_table(root):
    assert sorted(told(root), key=str) == sorted(ALL, key=str)
    row = index.query(root, study="toy")[0]
    assert row["claims"] == {"not attempted": 1, "reproduced": 1}
    assert row["hash"] == Run.open(row["path"]).hash
    assert (row["preset"], row["source"]) == ("tiny", None)
    assert index.query(root, state="failed")[0]["error"] == "ZeroDivisionError: "


def test_filters(root):
    assert told(root, where={"seed": "1"}) == told(root, where={"seed": 1}) == [ALL[1]]
    assert told(root, where={"model.depth": 2}) == [ALL[2]]
    assert told(root, where={"rate": "1e-1"}) == [ALL[3]]
    assert told(root, where={"nothing": 1}) == []
    assert told(root, preset="small") == told(root, state="failed") == [ALL[3]]
    with pytest.raises(ValueError, match="no state 'lsot'; did you mean 'lost'"):
        index.query(root, state="lsot")


def test_folders_are_the_truth(root):
    first = index.query(root)
    shutil.rmtree(first[0]["path"])
    assert len(index.query(root)) == 3
    with Run.create("toy", {"seed": 9}, root):
        assert told(root, where={"seed": 9}) == [("toy", 9, "running")]
    assert told(root, where={"seed": 9}) == [("toy", 9, "finished")]


def garbage(path):
    path.write_bytes(b"not a database at all" * 100)


def other_table(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE runs (x)")
        database.execute("PRAGMA user_version = 1")


def wrong_rows(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE runs SET row = '{'")


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def old_version(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 77")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", [garbage, other_table, wrong_rows, half, old_version, empty, os.unlink])
def test_a_damaged_index_is_rebuilt_without_a_word(root, damage):
    before = index.query(root)
    damage(root / index.FILE)
    assert index.query(root) == before
    assert index.query(root) == before
    with sqlite3.connect(root / index.FILE) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (4,)


def test_a_locked_index_does_not_stop_a_reader(root):
    index.query(root)
    (root / "toy" / os.listdir(root / "toy")[0] / "claims.json").unlink()
    with sqlite3.connect(root / index.FILE) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert len(index.query(root)) == 4


def test_damaged_folders_show_as_lost_and_break_nothing(root):
    path = index.query(root)[0]["path"]
    (root / "toy" / path / "status.json").write_text("{")
    (root / "toy" / path / "claims.json").write_text("3")
    row = next(row for row in index.query(root) if row["path"] == path)
    assert (row["state"], row["claims"]) == ("lost", {})
    (root / "toy" / path / "config.json").write_text("[]")
    assert len(index.query(root)) == 4
    (root / "stray").mkdir()
    (root / "note.txt").write_text("")
    assert len(index.query(root)) == 4


def test_rebuild(root):
    index.query(root)
    assert index.rebuild(root) == 4
    assert index.rebuild(root / "none") == 0


def test_frame(root):
    pytest.importorskip("pandas")
    frame = index.frame(root, study="toy")
    assert sorted(frame["config.seed"]) == [0, 1, 2]
    assert set(frame["state"]) == {"finished"}


def test_find(root):
    row = index.query(root, study="toy")[1]
    assert str(index.find(row["path"], root)) == row["path"]
    assert str(index.find(row["id"], root)) == row["path"]
    assert str(index.find(row["id"].rpartition("-")[2][:7], root)) == row["path"]
    assert index.find("last", root) == (root / "other" / os.listdir(root / "other")[0])
    assert str(index.find("last", root, states=("finished",))).startswith(str(root / "toy"))
    with pytest.raises(RunError, match=r"fits \d runs"):
        index.find(row["id"][:4], root)
    with pytest.raises(RunError, match="no run 'zzz' under"):
        index.find("zzz", root)
    with pytest.raises(RunError, match="no run under .* is lost"):
        index.find("last", root, states=("lost",))
    with pytest.raises(RunError, match="there are no runs under"):
        index.find("last", root / "none")


def test_a_thousand_runs_open_within_a_second(tmp_path):
    path = folder.make("toy", {"preset": "tiny", "seed": 0}, tmp_path, None, state="running")
    folder.give_up(path, "for a test")
    texts = {name: (path / name).read_text() for name in ("config.json", "status.json", "environment.json")}
    for i in range(1, 1000):
        copy = tmp_path / "toy" / f"20260101-000000-{i:08x}"
        copy.mkdir()
        for name, text in texts.items():
            (copy / name).write_text(text)
        (copy / "config.json").write_text(json.dumps({"preset": "tiny", "seed": i}))
    fresh = min(_seconds(lambda: index.rebuild(tmp_path)) for _ in range(2))
    again = min(_seconds(lambda: index.query(tmp_path)) for _ in range(2))
    print(f"1,000 runs: {fresh:.3f} s from the folders, {again:.3f} s with the index")
    assert len(index.query(tmp_path)) == 1000
    assert fresh < 1.0
    assert again < 1.0


def _seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
