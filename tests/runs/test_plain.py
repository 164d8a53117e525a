import dataclasses
import enum
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from unrolled.runs.plain import dumps, loads, plain


class Kind(enum.Enum):
    A = "a"


@dataclasses.dataclass(frozen=True)
class Inner:
    rates: tuple[float, ...] = (0.1, 0.2)
    kind: Kind = Kind.A
    where: Path = Path("x/y")


def test_every_kind_of_value_becomes_plain():
    value = {
        "inner": Inner(),
        "np": np.float32(0.5),
        "array": np.arange(3),
        "tensor": torch.tensor([[1.0, 2.0]]),
        "scalar": torch.tensor(7),
        "set": {3, 1, 2},
        "flag": np.bool_(True),
        2: None,
    }
    assert plain(value) == {
        "inner": {"rates": [0.1, 0.2], "kind": "a", "where": "x/y"},
        "np": 0.5,
        "array": [0, 1, 2],
        "tensor": [[1.0, 2.0]],
        "scalar": 7,
        "set": [1, 2, 3],
        "flag": True,
        "2": None,
    }


def test_what_json_cannot_hold_is_refused_by_name():
    with pytest.raises(TypeError, match=r"config\['model'\]\[1\] is a Linear"):
        plain({"model": [1, torch.nn.Linear(1, 1)]}, where="config")


def test_not_finite_numbers_survive_and_the_text_is_valid_json():
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.0], "c": {"d": math.nan}}
    text = dumps(value)
    assert json.loads(text, parse_constant=lambda _: pytest.fail("not valid JSON"))
    back = loads(text)
    assert math.isnan(back["a"])
    assert back["b"] == value["b"]
    assert math.isnan(back["c"]["d"])


@pytest.mark.parametrize("x", [0.1, 1e-310, 1.7976931348623157e308, float(torch.tensor(0.1)), 2**60])
def test_numbers_come_back_bit_for_bit(x):
    assert loads(dumps({"x": x}))["x"] == x
