import json
import math

import pytest
import torch

from unrolled.instruments.reading import Reading
from unrolled.runs import ExhibitError, Run, exhibits, kinds

ONES = torch.ones
GOOD = {
    "lines": ({"a": ONES(3), "b": ONES(3, 2)}, {"columns": {"b": ["x", "y"]}, "roles": {"a": "minus"}, "log": "y"}),
    "raster": (
        {"values": ONES(3, 4)},
        {"groups": [{"label": "in", "start": 0, "stop": 4}], "bands": [{"label": "minus", "start": 0, "stop": 1}]},
    ),
    "heatmap": ({"V1": ONES(3, 2, 2), "V2": ONES(4, 5)}, {"rows": {"V1": ["a", "b"]}, "diverging": True, "follow": "rows"}),
    "bars": ({"values": ONES(3, 2, 4)}, {"labels": list("ABCD"), "groups": ["ann", "bob"], "stacked": True, "mark": 1}),
    "graph": ({"edges": ONES(3, 2, 2), "size": ONES(2), "ring": ONES(3, 2)}, {"nodes": ["ann", "bob"]}),
    "frontier": (
        {"weight": ONES(3, 2)},
        {"nodes": ["a", "b"], "edges": [[0, 1]], "start": 0, "goals": [1], "positions": [[0, 0], [1, 1]]},
    ),
    "transcript": (
        {},
        {"entries": [{"speaker": "ann", "text": "<script>", "index": 1, "moved_by": {"bob": 0.5}, "note": "B"}]},
    ),
    "lens": ({"probability": ONES(3, 1, 2)}, {"text": [[["a", "b"]]] * 3, "rows": ["thought"]}),
    "phase": (
        {"x": ONES(3), "y": ONES(3), "u": ONES(4, 5), "v": ONES(4, 5)},
        {"xrange": [0, 1], "yrange": [0, 1], "points": [{"x": 1, "y": 2, "label": "saddle", "stable": False}]},
    ),
    "scatter": ({"x": ONES(5), "y": ONES(3, 5), "group": ONES(5)}, {"groups": ["Adam", "Muon"], "diagonal": True}),
    "frames": ({"before": torch.zeros(3, 4, 4, 3, dtype=torch.uint8), "after": ONES(3, 4, 4)}, {}),
    "table": ({}, {"columns": ["x"], "rows": [[1], ["a"], [None]], "index": [0, 1, 2]}),
    "talk": ({}, {"about": "a network", "examples": ["go left"], "model": "policy.safetensors", "settings": {"k": 3}}),
}  # fmt: skip


def test_every_kind_has_an_example_here():
    assert set(GOOD) == set(kinds.KINDS)


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_saved_comes_back(tmp_path, kind):
    arrays, data = GOOD[kind]
    exhibits.save(
        tmp_path, "one", kind, title="T", caption="C", unit="round", t=[0, 1, 2.5], data=data, arrays=arrays
    )
    body = exhibits.load(tmp_path, "one")
    assert (body["kind"], body["title"], body["unit"], body["t"]) == (kind, "T", "round", [0.0, 1.0, 2.5])
    assert body["data"] == data
    back = exhibits.arrays(tmp_path, "one")
    assert {k: list(v.shape) for k, v in back.items()} == {k: list(v.shape) for k, v in arrays.items()}
    assert {k: v["shape"] for k, v in body["arrays"].items()} == {k: list(v.shape) for k, v in back.items()}
    assert all(torch.equal(back[k].double(), arrays[k].double()) for k in arrays)
    assert exhibits.names(tmp_path) == ["one"]


@pytest.mark.parametrize(
    ("kind", "t", "arrays", "data", "told"),
    [
        ("pie", None, {}, {}, "no kind 'pie'; there are lines"),
        ("lines", [0, 1], {"a": ONES(3)}, {}, r"'a' has shape \[3\], expected axes \[T | T n\] where T = 2"),
        ("lines", [0, 1], {}, {}, "needs an array of any name"),
        ("lines", None, {"a": ONES(3)}, {}, "needs an array 'x'"),
        ("lines", None, {"x": ONES(3)}, {}, "needs an array of any name"),
        ("lines", None, {"x": ONES(3), "y": ONES(4)}, {}, "where n = 3"),
        ("lines", [1, 1], {"a": ONES(2)}, {}, "t must be finite and increase"),
        ("lines", [0, math.nan], {"a": ONES(2)}, {}, "t must be finite and increase"),
        ("lines", [], {"a": ONES(0)}, {}, "t is empty"),
        ("raster", None, {"values": ONES(3, 2)}, {}, "needs t"),
        ("raster", [0, 1], {"values": ONES(2)}, {}, r"expected axes \[T n\]"),
        ("phase", [0, 1], {"x": ONES(2)}, {}, "needs an array 'y'"),
        ("phase", [0, 1], {"x": ONES(2), "y": ONES(2), "z": ONES(2)}, {}, "nobody reads array 'z'"),
        ("bars", [0, 1], {"values": ONES(2, 3)}, {}, "data needs 'labels', a list of texts"),
        ("bars", [0, 1], {"values": ONES(2, 3)}, {"labels": ["a"]}, r"one for each \(n = 3\), got \['a'\]"),
        ("bars", None, {"values": ONES(3)}, {"labels": list("abc"), "mark": 3}, "an index"),
        ("bars", None, {"values": ONES(3)}, {"labels": list("abc"), "color": "red"}, "'color', which nobody reads"),
        ("graph", [0], {"edges": ONES(1, 2, 3)}, {"nodes": ["a", "b"]}, r"expected axes \[T n n\]"),
        ("frontier", None, {"weight": ONES(2)}, {"nodes": ["a", "b"], "edges": [[0, 2]], "start": 0}, "pairs"),
        ("lens", [0], {"probability": ONES(1, 1, 2)}, {"text": [[["a"]]]}, "in the shape of 'probability'"),
        ("frames", [0], {"a": ONES(1, 4, 4, 4)}, {}, "expected axes"),
        ("transcript", [0], {}, {"entries": [{"speaker": "a", "text": 3}]}, "a list of {speaker, text"),
        ("transcript", [0], {}, {"entries": [{"speaker": "a", "text": "b", "html": "<b>"}]}, "a list of {speaker, text"),
        ("heatmap", None, {"a": ONES(2, 2)}, {"range": [1, 0]}, "two numbers, the lower first"),
        ("lines", [0], {"a": torch.ones(1, dtype=torch.complex64)}, {}, "is complex"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_kind_is_refused_and_nothing_is_written(tmp_path, kind, t, arrays, data, told):
    with pytest.raises(ExhibitError, match=told):
        exhibits.save(tmp_path, "one", kind, title="T", t=t, data=data, arrays=arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".hidden", "x" * 90, "a b"])
def test_names_are_safe_as_files(tmp_path, name):
    with pytest.raises(ExhibitError, match="no name for an exhibit"):
        exhibits.save(tmp_path, name, "table", title="T", data={"columns": [], "rows": []})


def test_too_much_json_is_refused(tmp_path):
    entries = [{"speaker": "a", "text": "x" * 1_000_000}] * 10
    with pytest.raises(ExhibitError, match=r"takes 9\.5 MiB as JSON, the most is 8"):
        exhibits.save(tmp_path, "one", "transcript", title="T", data={"entries": entries})


def test_nan_is_a_gap_and_the_file_stays_json(tmp_path):
    exhibits.save(
        tmp_path, "one", "table", title="T", data={"columns": ["x"], "rows": [[math.nan], [math.inf]]}
    )
    json.loads(
        (tmp_path / "exhibits" / "one.json").read_text(),
        parse_constant=lambda c: pytest.fail(f"{c} is no JSON"),
    )
    assert math.isnan(exhibits.load(tmp_path, "one")["data"]["rows"][0][0])


def test_arrays_that_are_gone_leave_no_file_behind(tmp_path):
    exhibits.save(tmp_path, "one", "lines", title="T", t=[0], arrays={"a": ONES(1)})
    exhibits.save(tmp_path, "one", "table", title="T", data={"columns": [], "rows": []})
    assert exhibits.arrays(tmp_path, "one") == {}


def test_damaged_files_are_named(tmp_path):
    exhibits.save(tmp_path, "one", "lines", title="T", t=[0], arrays={"a": ONES(1)})
    (tmp_path / "exhibits" / "one.safetensors").write_bytes(b"\x08\0\0\0")
    with pytest.raises(ExhibitError, match=r"one\.safetensors is damaged"):
        exhibits.arrays(tmp_path, "one")
    for text, told in (
        ("{", r"one\.json is damaged"),
        ("[]", "is no exhibit"),
        ('{"kind": "x"}', "is no exhibit"),
    ):
        (tmp_path / "exhibits" / "one.json").write_text(text)
        with pytest.raises(ExhibitError, match=told):
            exhibits.load(tmp_path, "one")


def test_a_run_saves_exhibits_and_readings_and_one_that_is_read_does_not(tmp_path):
    reading = Reading(
        "Delta 2", {"rate": torch.tensor(0.5), "x": torch.tensor([1.0, math.nan]), "z": 3 + 4j}, "x", "1", ("t", torch.arange(2)),
        notes=("careful",),
    )  # fmt: skip
    with Run.create("demo", {"seed": 0}, root=tmp_path) as run:
        run.save_exhibit("loss", "lines", title="Loss", t=range(2), arrays={"loss": [1.0, 2.0]})
        run.save_reading(reading)
        run.save_reading(reading, "again")
    back = Run.open(run.path)
    assert back.exhibits() == ["loss"]
    assert list(back.readings()) == ["again", "delta-2"]
    values = back.readings()["delta-2"]["values"]
    assert (values["rate"], values["x"][0], values["z"]) == (0.5, 1.0, 5.0)
    assert math.isnan(values["x"][1])
    with pytest.raises(RuntimeError, match="open for reading"):
        back.save_exhibit("loss", "lines", title="Loss", t=[0], arrays={"loss": [1.0]})
