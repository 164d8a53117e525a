import builtins
import math
import os

import pytest

from unrolled.runs.metrics import Metrics


@pytest.fixture
def metrics(tmp_path):
    made = Metrics(tmp_path)
    yield made
    made.close()


def fill(metrics, n=3):
    rows = [{"step": i, "loss": 1 / (i + 1)} for i in range(n)]
    for row in rows:
        metrics.append(row)
    return rows


def test_rows_are_there_before_the_file_is_closed(metrics, tmp_path):
    rows = fill(metrics)
    assert Metrics(tmp_path).rows() == rows


@pytest.mark.parametrize(
    "torn", [b'{"step": 3, "lo', b"\n", b"\0" * 40, b'{"step": 3}', b"[1]\n", b"\xff\xfe\n"]
)
def test_a_torn_last_line_is_dropped_and_then_cut_off(metrics, tmp_path, torn):
    rows = fill(metrics)
    metrics.close()
    with open(metrics.jsonl, "ab") as file:
        file.write(torn)
    again = Metrics(tmp_path)
    assert again.rows() == rows
    again.append({"step": 9})
    assert again.rows() == [*rows, {"step": 9}]
    assert metrics.jsonl.read_bytes().count(b"\n") == 4


def test_damage_in_the_middle_is_named_and_touches_nothing(metrics):
    fill(metrics)
    lines = metrics.jsonl.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b"garbage\n" + lines[2]
    metrics.jsonl.write_bytes(damaged)
    with pytest.raises(ValueError, match="line 2 is damaged: b'garbage"):
        metrics.rows()
    with pytest.raises(ValueError, match="line 2 is damaged"):
        metrics.repair()
    assert metrics.jsonl.read_bytes() == damaged


def test_cut(metrics):
    rows = fill(metrics)
    metrics.cut(3)
    assert metrics.rows() == rows
    metrics.cut(1)
    metrics.append({"step": 7})
    assert metrics.rows() == [rows[0], {"step": 7}]
    metrics.cut(0)
    assert metrics.rows() == []
    with pytest.raises(ValueError, match="has 0 rows, 1 were expected"):
        metrics.cut(1)


ROWS = {
    "uniform": [{"step": i, "loss": i / 7} for i in range(50)],
    "missing fields": [{"step": 0, "a": 1.0}, {"step": 1, "b": "x"}, {"c": [1.0, 2.0]}],
    "nan": [{"step": 0, "loss": math.nan}, {"step": 1, "loss": math.inf}, {"step": 2}],
    "unicode": [{"step": 0, "name": "μ ∂"}],
    "flags": [{"ok": True}, {"ok": False}],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_parquet_gives_every_row_back(metrics, tmp_path, rows):
    pytest.importorskip("pyarrow")
    for row in rows:
        metrics.append(row)
    before = repr([sorted(row.items()) for row in metrics.rows()])
    assert metrics.compact()
    assert not metrics.jsonl.exists()
    assert repr([sorted(row.items()) for row in metrics.rows()]) == before
    again = Metrics(tmp_path)
    again.append({"step": 99})
    assert not again.parquet.exists()
    assert repr([sorted(row.items()) for row in again.rows()[:-1]]) == before
    again.close()


MIXED = {
    "int and float": [{"x": 1}, {"x": 2.5}],
    "number and text": [{"x": 1.0}, {"x": "one"}],
    "none": [{"x": None}, {"x": 1.0}],
    "nested": [{"x": {"a": 1}}, {"x": {"b": 2}}],
    "large": [{"x": 2**70}],
}


@pytest.mark.parametrize("rows", MIXED.values(), ids=MIXED)
def test_what_parquet_would_change_stays_as_lines(metrics, rows):
    for row in rows:
        metrics.append(row)
    assert not metrics.compact()
    assert metrics.rows() == rows
    assert sorted(os.listdir(metrics.jsonl.parent)) == ["metrics.jsonl"]


def test_without_pyarrow_the_lines_stay_and_parquet_asks_for_the_extra(metrics, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    fill(metrics)
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", absent)
        assert not metrics.compact()
    assert metrics.compact()
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"unrolled\[report\]"):
        Metrics(tmp_path).rows()


def test_a_disk_that_is_full_at_the_end_leaves_the_lines(metrics, monkeypatch):
    pytest.importorskip("pyarrow")
    rows = fill(metrics)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert not metrics.compact()
    assert metrics.rows() == rows
    assert os.listdir(metrics.jsonl.parent) == ["metrics.jsonl"]
