"""Axon's weight files: written as Axon writes them, read back, and refused when they do not fit."""

import gzip
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from unrolled.core import rollout
from unrolled.cortex import Network, interop, thalamus
from unrolled.cortex.tasks import ra25, reber
from unrolled.instruments import delta

AXON = """{
	"Network": "Demo",
	"Layers": [
		{
			"Layer": "In"
		},
		{
			"Layer": "Hid",
			"MetaData": {
				"ActMAvg": "0.25",
				"ActPAvg": "0.3",
				"GiMult": "1.05"
			},
			"Units": {
				"ActAvg": [ 0.1, 0.2 ],
				"TrgAvg": [ 0.5, 2 ]
			},
			"Paths": [
				{
					"From": "In",
					"Rs": [
						{
							"Ri": 0,
							"N": 3,
							"Si": [ 0, 1, 2 ],
							"Wt": [ 0.15, 0.5, 0.8369 ],
							"Wt1": [ 0.5, 0.5, 0.5 ]
						},
						{
							"Ri": 1,
							"N": 3,
							"Si": [ 0, 1, 2 ],
							"Wt": [ 0.9633, 0.7115, 0.3 ],
							"Wt1": [ 0.6, 0.4, 0.2 ]
						}
					]
				}
			]
		}
	]
}
"""  # laid out as Axon's own files are


def small(n=3):
    net = Network(seed=3)
    net.layer("In", (1, n), kind="input")
    net.layer("Hid", (1, 2))
    net.connect("In", "Hid")
    return net


@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_axon_writes(packed, tmp_path):
    file = tmp_path / ("demo.wts.gz" if packed else "demo.wts")
    file.write_bytes(gzip.compress(AXON.encode()) if packed else AXON.encode())
    net = small()
    assert interop.load_wts(net, file) == ["In->Hid"]
    path = net["In->Hid"]
    assert torch.allclose(path.wt, torch.tensor([[0.15, 0.9633], [0.5, 0.7115], [0.8369, 0.3]]), atol=1e-6)
    assert path.swt[:, 1].tolist() == pytest.approx([0.6, 0.4, 0.2])
    assert float(path.lwt[0, 0]) == pytest.approx(0.42822415, abs=1e-6)  # Axon's own test value
    assert net.gi_mult["Hid"] == 1.05
    assert net.activity["Hid"]["act_m_avg"] == 0.25
    assert net.activity["Hid"]["trg_avg"].tolist() == [0.5, 2.0]


def test_a_read_network_behaves_as_its_weights_say(tmp_path):
    file = tmp_path / "ra25.wts"
    pairs, net = ra25.patterns(), ra25.network(seed=0)
    ra25.epoch(net, pairs, torch.arange(4))
    net.state = None
    interop.save_wts(net, file, figures=9)
    other = ra25.network(seed=9)
    other.present(pairs.inputs[:1])  # so that its fused cycle holds weights already
    interop.load_wts(other, file)
    shown = [
        n.present(pairs.inputs[:1], pairs.outputs[:1], record=["Spike"])["Spike"][:60] for n in (net, other)
    ]
    assert shown[0].sum() > 100
    assert torch.equal(*shown)  # later the last digits of the weights tell: the dynamics is chaotic
    for name, path in net.paths.items():
        assert torch.allclose(path.wt, other.paths[name].wt, atol=1e-5), name
        assert torch.allclose(path.swt, other.paths[name].swt, atol=1e-6), name


def test_written_files_have_axon_s_keys_and_figures(tmp_path):
    file = tmp_path / "x.wts"
    interop.save_wts(small(), file, name="Demo")
    mine, axon = json.loads(file.read_text()), json.loads(AXON)
    assert list(mine) == list(axon)
    assert list(mine["Layers"][1]) == list(axon["Layers"][1])
    row, theirs = mine["Layers"][1]["Paths"][0]["Rs"][1], axon["Layers"][1]["Paths"][0]["Rs"][1]
    assert list(row) == list(theirs)
    assert row["Si"] == theirs["Si"]
    assert all(len(str(w).lstrip("0.")) <= 4 for w in row["Wt"])
    assert "Units" not in mine["Layers"][0]  # only layers that adapt have targets
    assert isinstance(mine["Layers"][1]["MetaData"]["GiMult"], str)


def test_masks_are_kept(tmp_path):
    net = Network(seed=0)
    net.layer("In", (1, 3), kind="input")
    net.layer("Hid", (1, 3))
    net.connect("In", "Hid", "one-to-one")
    file = tmp_path / "x.wts.gz"
    interop.save_wts(net, file)
    rows = json.loads(gzip.decompress(file.read_bytes()))["Layers"][1]["Paths"][0]["Rs"]
    assert [row["Si"] for row in rows] == [[0], [1], [2]]
    interop.load_wts(net, file)
    assert (net["In->Hid"].wt * (1 - torch.eye(3))).abs().sum() == 0


def test_two_paths_from_one_sender_are_told_apart_by_order(tmp_path):
    net = reber.network(seed=0, hidden=3)
    file = tmp_path / "x.wts"
    interop.save_wts(net, file, figures=9)
    other = reber.network(seed=4, hidden=3)
    interop.load_wts(other, file)
    context, keeps = "HiddenCT->HiddenCT", "HiddenCT->HiddenCT:maintenance"
    assert not torch.allclose(net[context].wt, net[keeps].wt)
    for name in (context, keeps):
        assert torch.allclose(net[name].wt, other[name].wt, atol=1e-5)
    assert net["HiddenCT"].kind.name == thalamus.CT().name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not json", "no Axon weight file"),
        ('{\n\t"TestNet": [\n\t]\n}', "no Axon weight file"),
        ("[1, 2]", "no Axon weight file"),
        (AXON.replace('"Layer": "Hid"', '"Layer": "Hidden"'), "has layers Hidden; this network has In, Hid"),
        (AXON.replace('"From": "In"', '"From": "Inn"'), "Hid receives from In"),
        (AXON.replace('"Ri": 1', '"Ri": 2'), "receiver 2 of In->Hid"),
        (AXON.replace('"Si": [ 0, 1, 2 ]', '"Si": [ 0, 1, 3 ]'), "not connected here"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_change_nothing(text, match, tmp_path):
    file = tmp_path / "bad.wts"
    file.write_text(text)
    net = small().build()
    before = net["In->Hid"].lwt.clone()
    with pytest.raises(ValueError, match=match):
        interop.load_wts(net, file)
    assert torch.equal(net["In->Hid"].lwt, before)


def test_names_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"\.wts or \.wts\.gz"):
        interop.save_wts(small(), tmp_path / "x.json")
    with pytest.raises(FileNotFoundError):
        interop.load_wts(small(), tmp_path / "none.wts")
    broken = tmp_path / "x.wts.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="no Axon weight file"):
        interop.load_wts(small(), broken)


def test_spikes_are_time_first_without_the_start():
    net = small()
    trial = net.present(torch.ones(2, 3), record=["In.Spike"])
    spikes = interop.spikes(trial, "In")
    assert spikes.shape == (200, 2, 3)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(spikes, trial["In.Spike"][1:])
    with pytest.raises(KeyError, match="was not recorded"):
        interop.spikes(trial, "Hid")


def driven():
    net = Network(seed=2)
    net.layer("In", (2, 5), interop.SPIKES)
    net.layer("Hid", (3, 3))
    net.layer("Out", (1, 2), kind="target")
    net.connect("In", "Hid")
    net.connect("Hid", "Out", back=True)
    return net


def trains(rate, steps=200, data=3, n=10):
    return (torch.rand(steps, data, n, generator=torch.Generator().manual_seed(0)) < rate).float()


@pytest.mark.parametrize("twin", [False, True], ids=["fused", "naive"])
def test_a_layer_fires_in_the_cycles_it_is_told_to_but_for_refractoriness(twin):
    net, given = driven(), trains(0.1)
    expected, last = torch.zeros_like(given), torch.full((3, 10), -100)
    for t, now in enumerate(given):
        expected[t] = (now > 0) & (t - last > 3)
        last = torch.where(expected[t] > 0, t, last)
    assert expected.sum() < given.sum()  # some come too soon
    moments = interop.moments(net, {"In": given}, torch.eye(2)[[0, 1, 0]])
    if twin:
        fired = rollout(net.naive, moments, 200, record=lambda state: state["layers"]["In"]["Spike"])[
            "value"
        ][1:]
    else:
        fired = interop.spikes(rollout(net, moments, 200, record=["In.Spike"]), "In")
    assert torch.equal(fired, expected)


def test_spike_trains_drive_and_teach():
    net, given = driven(), trains(0.08)
    trial = rollout(
        net, interop.moments(net, {"In": given}, torch.eye(2)[[0, 1, 0]]), 200, record=["Hid.Spike"]
    )
    assert interop.spikes(trial, "Hid").sum() > 0
    assert float(net.learn(trial)["In->Hid"].abs().max()) > 0


def test_spikes_of_another_simulator_become_a_trajectory():
    given = trains(0.2)
    trial = interop.recording({"Net": given}, minus=150)
    assert torch.equal(interop.spikes(trial, "Net"), given)
    change = trial.window(151, 201)["Net.Spike"].mean(0) - trial.window(101, 151)["Net.Spike"].mean(0)
    torch.testing.assert_close(change, given[150:].mean(0) - given[100:150].mean(0))
    assert math.isfinite(
        float(delta(trial, minus=(100, 151), plus=(151, 201), of="Net.Spike")["norm"].mean())
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: interop.recording({}), "got no layers"),
        (lambda: interop.recording({"a": trains(0.1), "b": trains(0.1, 100)}), "one number of time steps"),
        (lambda: interop.recording({"a": trains(0.1)[0]}), r"expected \[time, batch, neurons\]"),
        (lambda: interop.recording({"a": trains(0.1) * 2}), "expected 0 and 1, got values from 0.0 to 2.0"),
        (lambda: interop.recording({"a": trains(0.1) * float("nan")}), "expected 0 and 1"),
        (lambda: interop.moments(driven(), {"In": trains(0.1, 100)}), r"expected \[200, batch, 10\]"),
        (lambda: interop.moments(driven(), {"In": trains(0.1, n=9)}), r"expected \[200, batch, 10\]"),
        (
            lambda: interop.moments(driven(), {"Hid": trains(0.1)}),
            r"of kind SPIKES, made with .*there are \['In'\]",
        ),
    ],
)
def test_spikes_that_are_none_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_our_own_file_is_plain_safetensors_with_the_exact_weights(tmp_path):
    net = small()
    net.save(tmp_path / "net.safetensors")
    tensors = load_file(tmp_path / "net.safetensors")
    lwt = net["In->Hid"].lwt
    assert any(x.shape == lwt.shape and torch.equal(x, lwt) for x in tensors.values())
