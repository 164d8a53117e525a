import itertools
import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unrolled.view import arrays
from unrolled.view.arrays import BLOCK, File, TooLarge, thinned


@pytest.fixture
def saved(tmp_path):
    def save(**tensors):
        save_file(tensors, tmp_path / "a.safetensors")
        return File.open(tmp_path, "a.safetensors")

    return save


def envelope(values, edges):
    """Minimum and maximum of each bucket, NaN left out, in the plainest way."""
    made = []
    for a, b in itertools.pairwise(edges):
        rows = [values[a:b][~np.isnan(values[a:b, c]), c] for c in range(values.shape[1])]
        made += [[r.min() if len(r) else np.nan for r in rows], [r.max() if len(r) else np.nan for r in rows]]
    return np.array(made)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
)
def test_rows_come_back_as_they_were(saved, dtype):
    x = torch.arange(60).reshape(10, 2, 3).to(dtype)
    part = saved(x=x, y=x + 1).part("x", 3, 7)
    assert part.values.shape == (4, 2, 3)
    assert part.values.tolist() == x[3:7].double().tolist()
    assert part.index.tolist() == [3, 4, 5, 6]
    assert not part.decimated


def test_clocks_keep_their_digits(saved):
    t = torch.tensor([2**53 - 1, 2**53], dtype=torch.float64)
    assert saved(t=t).part("t").values.tolist() == t.tolist()


@pytest.mark.parametrize("chunk", [1, 40, 8 << 20])
@pytest.mark.parametrize(
    ("start", "stop", "points"), [(0, 1000, 100), (7, 993, 31), (999, 1000, 1), (0, 1000, 999), (100, 103, 2)]
)
def test_minima_and_maxima_lose_no_spike(saved, monkeypatch, chunk, start, stop, points):
    monkeypatch.setattr(arrays, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 3)).astype(np.float32)
    x[rng.random((1000, 3)) < 0.1] = np.nan
    x[100:150, 1] = np.nan
    part = saved(x=torch.tensor(x)).part("x", start, stop, points)
    if not part.decimated:
        np.testing.assert_array_equal(part.values, x[start:stop])
        return
    edges = [*part.index[::2].astype(int), stop]
    np.testing.assert_array_equal(part.index[::2], part.index[1::2])
    np.testing.assert_array_equal(part.values, envelope(x, edges).astype(np.float32))
    assert len(part.values) <= points + points % 2


def test_a_long_stretch_is_made_of_kept_blocks_and_equal(saved):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BLOCK * 40 + 17, 2)).astype(np.float32)
    file = saved(x=torch.tensor(x))
    part = file.part("x", points=20)
    edges = [*part.index[::2].astype(int), len(x)]
    assert all(edge % BLOCK == 0 for edge in edges[:-1])
    np.testing.assert_array_equal(part.values, envelope(x, edges).astype(np.float32))
    mean = file.part("x", points=10, reduce="mean")
    most = file.part("x", points=10, reduce="max")
    edges = [*mean.index.astype(int), len(x)]
    for a, b, low, high in zip(edges, edges[1:], mean.values, most.values):
        assert low == pytest.approx(x[a:b].mean(0), abs=1e-6)
        assert (high == x[a:b].max(0)).all()


def test_kept_blocks_do_not_outlive_the_file(tmp_path):
    for value in (1.0, 2.0):
        save_file({"x": torch.full((BLOCK * 10,), value)}, tmp_path / "a.safetensors")
        assert File.open(tmp_path, "a.safetensors").part("x", points=2).values.tolist() == [value, value]


def test_a_file_written_anew_meanwhile_is_not_mixed_with_the_old(tmp_path):
    save_file({"x": torch.zeros(10)}, tmp_path / "a.safetensors")
    file = File.open(tmp_path, "a.safetensors")
    save_file({"x": torch.ones(100)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="written anew"):
        file.part("x")


def test_columns_of_the_flattened_trailing_axes(saved):
    x = torch.arange(24.0).reshape(4, 2, 3)
    part = saved(x=x).part("x", columns=(2, 5))
    assert part.values.tolist() == x.flatten(1)[:, 2:5].tolist()


def test_numbers_and_empty_arrays(saved):
    file = saved(x=torch.tensor(3.0), y=torch.empty(0, 3), z=torch.empty(4, 0))
    assert file.part("x").values.tolist() == [3.0]
    assert file.part("y").values.shape == (0, 3)
    assert file.part("y", points=3).values.shape == (0, 3)
    assert file.part("z").values.shape == (4, 0)


def test_what_cannot_be_asked(saved):
    file = saved(x=torch.zeros(10, 4))
    for wrong in (
        {"start": -1},
        {"start": 5, "stop": 3},
        {"start": 11},
        {"points": 0},
        {"columns": (0, 5)},
        {"columns": (3, 2)},
        {"reduce": "median"},
    ):
        with pytest.raises(ValueError):
            file.part("x", **wrong)
    with pytest.raises(KeyError, match="no array 'nope'; there are 'x'"):
        file.part("nope")
    assert file.part("x", 0, 10**9).values.shape == (10, 4)


def test_an_answer_has_a_limit(saved, monkeypatch):
    monkeypatch.setattr(arrays, "LIMIT", 1000)
    file = saved(x=torch.zeros(100, 4))
    with pytest.raises(TooLarge, match="ask for fewer points, rows or columns"):
        file.part("x")
    assert len(file.part("x", points=50).values) == 50


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1, -30])
def test_a_truncated_file_says_so(tmp_path, cut):
    save_file({"x": torch.zeros(10)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:cut])
    with pytest.raises(ValueError, match="truncated"):
        File.open(tmp_path, "a.safetensors")


@pytest.mark.parametrize(
    "head",
    [
        {"x": {"dtype": "F32", "shape": [10], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [10], "data_offsets": [4000, 4040]}},
        {"x": {"dtype": "F32", "shape": [-1, -10], "data_offsets": [0, 40]}},
        {"x": {"dtype": "F32", "shape": [10], "data_offsets": [-40, 0]}},
        {"x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 40]}},
        {"x": 3},
        [1],
    ],
)
def test_a_header_that_lies_reads_nothing_outside_the_file(tmp_path, head):
    text = json.dumps(head).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 40)
    with pytest.raises(ValueError, match="no safetensors file"):
        File.open(tmp_path, "a.safetensors")


def test_thinned_is_the_same_for_an_array_at_hand(saved):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((100, 3))
    for reduce in ("minmax", "mean", "max"):
        ours = thinned(x, 5, 95, 14, reduce)
        theirs = saved(x=torch.tensor(x)).part("x", 5, 95, 14, reduce)
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-6)
        np.testing.assert_array_equal(ours.index, theirs.index)
