import json
import math

import numpy as np
import pytest

from unrolled.runs import Run
from unrolled.view import series


def told(table):
    return {(one.name, *one.labels.values()): (one.x.tolist(), one.y.tolist()) for one in table.series}


@pytest.fixture
def folder(root):
    path = root / "toy" / "one"
    path.mkdir(parents=True)
    return path


def write(folder, *rows, end="\n"):
    text = "\n".join(json.dumps(row) for row in rows) + end
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(text)


def test_a_finished_run_and_one_that_goes_on_read_the_same(root, run):
    compacted = series.read(root, run.study, run.id)
    (run.path / "metrics.parquet").unlink()
    write(run.path, *[{k: v for k, v in row.items() if k != "time"} for row in rows_of()])
    assert told(series.read(root, run.study, run.id)) == told(compacted)
    assert compacted.rows == 80
    assert set(told(compacted)) == {("loss", "muon"), ("loss", "adam")}


def rows_of():
    for step in range(40):
        yield {"step": step, "loss": math.exp(-step / 10), "optimizer": "muon"}
        yield {"step": step, "loss": math.exp(-step / 20), "optimizer": "adam"}


def test_new_lines_are_added_and_a_torn_one_waits_for_its_end(root, folder):
    write(folder, {"step": 0, "loss": 1.0})
    write(folder, {"step": 1, "loss": 0.5}, end="")
    assert told(series.read(root, "toy", "one")) == {("loss",): ([0.0], [1.0])}
    write(folder, {"step": 2, "loss": 0.25, "late": 1}, end="")
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().replace("}{", "}\n{") + "\n")
    table = series.read(root, "toy", "one")
    assert told(table) == {("loss",): ([0.0, 1.0, 2.0], [1.0, 0.5, 0.25]), ("late",): ([2.0], [1.0])}


def test_a_resumed_run_is_cut_back(root, folder):
    write(folder, *({"step": step, "loss": 1.0} for step in range(5)))
    assert series.read(root, "toy", "one").rows == 5
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:2]))
    assert series.read(root, "toy", "one").rows == 2


def test_nan_is_a_value_and_a_missing_field_is_none(root, folder):
    write(folder, {"step": 0, "a": "NaN"}, {"step": 1, "b": 2}, {"step": 2, "a": "Infinity"})
    table = told(series.read(root, "toy", "one"))
    assert table[("b",)] == ([1.0], [2.0])
    x, y = table[("a",)]
    assert x == [0.0, 2.0]
    assert np.isnan(y[0])
    assert y[1] == np.inf


def test_without_steps_rows_are_counted(root, folder):
    write(folder, {"loss": 1.0}, {"loss": 2.0})
    assert told(series.read(root, "toy", "one")) == {("loss",): ([0.0, 1.0], [1.0, 2.0])}


def test_rows_without_a_step_among_others_are_told_besides(root, folder):
    write(
        folder, {"corpus": 300}, {"step": 0, "loss": 1.0}, {"step": 5, "loss": 0.5}, {"done": 1, "loss": 0.1}
    )
    table = series.read(root, "toy", "one")
    assert told(table) == {("loss",): ([0.0, 5.0], [1.0, 0.5])}
    assert table.once == {"corpus": 300.0, "done": 1.0, "loss": 0.1}


def test_a_text_with_many_values_splits_nothing_and_is_named(root, folder):
    write(folder, *({"step": i, "loss": 1.0, "question": f"q{i}"} for i in range(100)))
    table = series.read(root, "toy", "one")
    assert len(table.series) == 1
    assert "'question' has 100 values" in table.notes[0]


def test_damage_is_told_and_what_is_whole_is_shown(root, folder):
    write(folder, {"step": 0, "loss": 1.0}, end="\nnot json\n")
    write(folder, {"step": 2, "loss": 1.0})
    table = series.read(root, "toy", "one")
    assert table.rows == 1
    assert table.notes == ["line 2 of metrics.jsonl is damaged; what follows it is not shown"]


def test_a_truncated_parquet_is_told(root, run):
    path = run.path / "metrics.parquet"
    if not path.exists():
        pytest.skip("metrics stay lines without pyarrow (extra report)")
    path.write_bytes(path.read_bytes()[:200])
    table = series.read(root, run.study, run.id)
    assert table.rows == 0
    assert "metrics.parquet is damaged" in table.notes[0]


def test_a_run_without_metrics_has_none(root):
    run = Run.create("toy", {"seed": 0}, root=root)
    run.end()
    assert series.read(root, run.study, run.id).series == []
