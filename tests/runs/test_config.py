import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from unrolled.runs.config import from_dict, identity, nearest, to_dict
from unrolled.runs.plain import dumps, loads


class Kind(enum.Enum):
    A = "a"
    B = "b"


@dataclass(frozen=True)
class Model:
    depth: int = 2
    widths: tuple[int, int] = (4, 8)


@dataclass(frozen=True)
class Config:
    preset: str
    seed: int = 0
    rate: float = 1.0
    model: Model = field(default_factory=Model)
    kind: Kind = Kind.A
    text: Path | None = None
    rates: tuple[float, ...] = (0.1,)
    names: list[str] = field(default_factory=list)
    scales: dict[int, float] = field(default_factory=dict)
    which: Literal["x", "y"] = "x"
    either: int | str = 3
    layers: tuple[Model, ...] = ()


def test_a_config_comes_back_from_json_as_it_was():
    config = Config(
        "tiny", 3, float("inf"), Model(5, (1, 2)), Kind.B, Path("a/b"), (0.5, 1.0), ["u"], {3: 0.5}, "y", "z", (Model(7),)
    )  # fmt: skip
    assert from_dict(Config, loads(dumps(to_dict(config)))) == config
    assert from_dict(Config, loads(dumps(to_dict(Config("tiny"))))) == Config("tiny")


def test_an_int_where_a_float_belongs_becomes_one():
    assert isinstance(from_dict(Config, {"preset": "tiny", "rate": 1}).rate, float)


@pytest.mark.parametrize(
    ("values", "told"),
    [({"preset": "t", "sed": 1}, "no field 'sed'"), ({"seed": 1}, "no value for 'preset'")],
)
def test_a_config_of_another_version_is_refused(values, told):
    with pytest.raises(ValueError, match=f"does not fit Config: {told}.*may have changed"):
        from_dict(Config, values)


def test_identity_tells_cells_apart_and_only_cells():
    a, b = Config("tiny", 1), Config("tiny", 2)
    assert identity("s", a) == identity("s", Config("tiny", 1)) == identity("s", to_dict(a))
    assert len({identity("s", a), identity("s", b), identity("t", a)}) == 3


def test_to_dict_refuses_what_is_no_config():
    with pytest.raises(TypeError, match="a dataclass or a dict, got list"):
        to_dict([1])
    with pytest.raises(TypeError, match="got type"):
        to_dict(Config)


def test_nearest():
    assert nearest("adamw", ["adam", "muon"]) == "; did you mean 'adam'?"
    assert nearest("zzz", ["adam", "muon"]) == "."
