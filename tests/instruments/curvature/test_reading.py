"""StepReading: fields, frame, plot, round trip."""

import math

import pytest
import torch

from unrolled.instruments import Reading
from unrolled.instruments.curvature import StepReading, decompose
from unrolled.instruments.curvature.reading import Part


@pytest.fixture
def reading(gpt, loss_fn, tokens, random_update):
    return decompose(gpt(), loss_fn, random_update(gpt()), batches=[tokens()], split="exact")


def test_is_a_reading(reading):
    assert isinstance(reading, Reading)
    assert reading["gain"] == reading.gain
    assert reading["rows"] is reading.rows
    assert reading["coupling"].shape == (4, 4)
    assert "NDS" in reading.definition
    with pytest.raises(KeyError, match="it has 'gain'"):
        reading["gian"]
    assert "gain = " in str(reading)


def test_frame_has_a_row_per_group(reading):
    pytest.importorskip("pandas")
    frame = reading.to_frame()
    assert frame["group"].tolist() == list(reading.groups) == ["embed", "blocks.0", "blocks.1", "other"]
    assert frame["rows"].sum() == pytest.approx(2 * frame.attrs["penalty"])
    assert frame["gains"].sum() == pytest.approx(frame.attrs["gain"])
    assert math.sqrt((frame["norms"] ** 2).sum()) == pytest.approx(reading.norm)
    assert frame.attrs["method"] == "double_backward"


def test_plot(reading, gpt, loss_fn, tokens):
    pytest.importorskip("matplotlib").use("Agg")
    ax = reading.plot()
    assert [round(bar.get_height(), 12) for bar in ax.patches] == [
        round(x, 12) for x in (reading.gain, reading.penalty, reading.predicted, reading.actual)
    ]
    assert "NDS" in ax.get_title()
    zero = {name: torch.zeros_like(p) for name, p in gpt().named_parameters()}
    failed = decompose(gpt(), loss_fn, zero, batches=[tokens()])
    assert "update is zero" in failed.plot(reading.plot()).get_title()


def test_round_trip(reading, tmp_path):
    reading.z_opt, reading.z_decay, reading.step = Part(1.0, 2.0, math.nan), Part(3.0, 4.0, 5.0), 7
    torch.save(reading.state_dict(), tmp_path / "r.pt")
    again = StepReading.from_state_dict(torch.load(tmp_path / "r.pt", weights_only=True))
    assert again.groups == reading.groups
    assert again.notes == reading.notes
    assert again.z_decay == reading.z_decay
    assert math.isnan(again.z_opt.penalty)
    assert again.step == 7
    assert torch.equal(again.coupling, reading.coupling)
    assert {k: v for k, v in again.scalars().items() if v == v and "z_" not in k} == {
        k: v for k, v in reading.scalars().items() if v == v and "z_" not in k
    }
