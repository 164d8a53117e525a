"""Parts of batches, whatever they are made of."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch

from unrolled.instruments.curvature.batches import leading, row_count

Pair = namedtuple("Pair", "x y")


@dataclass
class Record:
    tokens: torch.Tensor
    names: list
    length: int = 3


def test_every_container_is_cut_alike():
    x, y = torch.arange(24).view(8, 3), torch.arange(8)
    for batch in ((x, y), [x, y], {"x": x, "y": y}, Pair(x, y)):
        (part,) = leading([batch], 0.5)
        assert type(part) is type(batch)
        values = part.values() if isinstance(part, dict) else part
        assert [len(v) for v in values] == [4, 4]
    assert torch.equal(leading([x], 0.3)[0], x[:3])  # rounded up


def test_what_has_no_rows_stays():
    mask = torch.ones(3, 3)
    part = leading([{"x": torch.zeros(8, 2), "mask": mask, "t": torch.tensor(5), "k": 7}], 0.25)[0]
    assert part["x"].shape == (2, 2)
    assert part["mask"] is mask
    assert part["t"] == 5
    assert part["k"] == 7
    record = leading([Record(torch.zeros(4, 2), list("abcd"))], 0.5)[0]
    assert record.names == ["a", "b"]
    assert record.length == 3


def test_whole_micro_batches_first():
    micro = [torch.full((4,), float(i)) for i in range(10)]
    assert len(leading(micro, 0.3)) == 3
    assert leading(micro, 1.0) == micro
    (part,) = leading(micro, 0.05)  # half of the first
    assert part.shape == (2,)


def test_nothing_to_cut():
    with pytest.raises(ValueError, match="fraction=0.5.*str"):
        leading(["text"], 0.5)
    assert row_count({"n": 3, "x": [torch.tensor(1), torch.zeros(5)]}) == 5
