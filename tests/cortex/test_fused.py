"""The fused cycle equals the naive twin: states and weight changes, on ordinary and on adversarial input; T7."""

import pytest
import torch

from unrolled.core import Trajectory, check_system, rollout
from unrolled.cortex import ThetaCycle
from unrolled.cortex.axon.kinds import Moment
from unrolled.cortex.axon.sheets import Rule

LAYERS_DIFFER = [
    Rule(
        "#Hidden1",
        {"membrane.ge_tau": 7.0, "membrane.c": 200.0, "membrane.e_i": -75.0, "nmda.mgc": 1.2, "spike.tr": 1},
    ),
    Rule(
        "#Hidden2",
        {"gabab.gk": 0.006, "nmda.tau": 200.0, "kna.gk": 0.2, "decay.act": 0.0, "decay.glong": 0.0},
    ),
    Rule(
        "#Output",
        {"vgcc.ge": 0.0, "decay.gbufs": True, "decay.ahp": 0.5, "spike_ca.m_tau": 2.0, "rlrate.diff": False},
    ),
    Rule("#Input->Hidden1", {"delay": 0}),
    Rule("#Hidden2->Output", {"delay": 4}),
    Rule("#Hidden1->Hidden2", {"scale.abs": 1.7, "learn": False}),
]
LEARNING = [
    Rule("Path", {"dwt.learn_thr": 0.1, "dwt.sub_mean": 1.0, "dwt.ca_plus": 30}),
    Rule(".hidden", {"learn_ca.etrace_scale": 0.3, "learn_ca.pos_bias": 1.05}),
]
SATURATION = [
    Rule("Layer", {"inhib.layer.gi": 0.0, "clamp.ge": 20.0}, "no inhibition, an input beyond reason"),
    Rule("Path", {"scale.abs": 40.0}),
]
NO_INHIBITION = [
    Rule("Layer", {"inhib.layer.on": False, "inhib.pool.on": False}),
    Rule("Path", {"scale.abs": 5.0}),
]
CRUSHED = [Rule("Layer", {"inhib.layer.gi": 60.0, "inhib.pool.gi": 60.0}), Rule("Path", {"scale.abs": 40.0})]
ONE_SPIKE_PER_MS = [
    Rule(
        "Layer",
        {"spike.tr": 1, "inhib.layer.gi": 0.0, "clamp.ge": 50.0, "spike.exp_thr": -75.0, "spike.v_r": -60.0},
    ),
    Rule("Path", {"scale.abs": 10.0}),
]

CASES = {
    "ordinary": {},
    "sub-pools": {"pools": True},
    "inhibitory path": {"inhibitory": True},
    "layers differ": {"sheet": LAYERS_DIFFER},
    "thresholds, means, eligibility": {"sheet": LEARNING, "pools": True},
    "silence": {"density": 0.0},
    "everything on": {"density": 1.0},
    "saturation": {"sheet": SATURATION, "density": 1.0},
    "no inhibition": {"sheet": NO_INHIBITION, "pools": True, "density": 1.0},
    "crushed by inhibition": {"sheet": CRUSHED, "pools": True, "density": 1.0},
    "a spike per ms": {"sheet": ONE_SPIKE_PER_MS, "density": 1.0},
    "100 + 100 with rest": {"theta": ThetaCycle(100, 100, rest=20)},
}


def differences(net, data, trials, density, seed=0):
    """Largest difference of every variable, and of every weight change, over trials that carry over; and the spikes."""
    worst, naive, fused, spikes = {}, None, None, 0.0
    for trial in range(trials):
        inputs, targets = net_patterns(net, data, seed + trial, density)
        moments = net.theta.moments(inputs, targets)
        if naive is None:
            naive, fused = net.naive.init(moments[0]), net.init(moments[0])
        for moment in moments:
            naive = net.naive.step(naive, moment)
        fused, records = net.run(fused, moments, len(moments), record=["Spike"])
        flat = net.naive.flat(naive)
        assert flat.keys() == fused.keys()
        for name, x in flat.items():
            if isinstance(x, torch.Tensor):
                assert torch.isfinite(x).all(), name
                worst[name] = max(worst.get(name, 0.0), float((x - fused[name]).abs().max()))
            else:
                assert x == fused[name], name
        expected = net.naive.dwt(naive)
        made = net.learn(Trajectory(torch.zeros(1), {}, fused))
        assert made.keys() == expected.keys()
        for name, dwt in made.items():
            worst[f"dWt {name}"] = max(
                worst.get(f"dWt {name}", 0.0), float((dwt - expected[name]).abs().max())
            )
        spikes += float(records["Spike"].mean())
    return worst, spikes / trials


net_patterns = None


@pytest.fixture(autouse=True)
def _patterns(nets):
    global net_patterns
    net_patterns = nets.patterns


@pytest.mark.parametrize("case", CASES)
def test_fused_equals_naive_in_float64(nets, case):
    options = dict(CASES[case])
    density = options.pop("density", 0.3)
    if case not in ("ordinary", "saturation"):
        options.setdefault("theta", ThetaCycle(90, 30))
    net = nets.random(dtype=torch.float64, **options)
    worst, spikes = differences(net, data=3, trials=2, density=density)
    assert max(worst.values()) < 1e-6, {k: v for k, v in worst.items() if v >= 1e-6}
    if case == "silence":
        assert spikes == 0
    if case == "a spike per ms":
        assert spikes > 0.4
    if case == "saturation":
        assert spikes > 0.15


def test_in_float32_the_fused_cycle_rounds_no_worse_than_the_equations(nets):
    net, exact = nets.random(), nets.random(dtype=torch.float64)
    for name, path in net.paths.items():
        for which in ("swt", "lwt", "wt"):
            setattr(exact[name], which, getattr(path, which).double())
    exact.apply([])  # take the weights over
    inputs, targets = nets.patterns(net, 8)
    moments = net.theta.moments(inputs, targets)[:60]
    doubled = exact.theta.moments(*({k: v.double() for k, v in p.items()} for p in (inputs, targets)))[:60]
    naive, truth, fused = net.naive.init(moments[0]), exact.naive.init(doubled[0]), net.init(moments[0])
    names = (
        "Vm",
        "VmDend",
        "Ge",
        "Gi",
        "Gk",
        "VgccH",
        "MahpN",
        "GababX",
        "CaP",
        "CaD",
        "LearnCaP",
        "Act",
        "bins",
    )
    ours, theirs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for moment, double in zip(moments, doubled):
        naive, truth, fused = (
            net.naive.step(naive, moment),
            exact.naive.step(truth, double),
            net.step(fused, moment),
        )
        flat, right = net.naive.flat(naive), exact.naive.flat(truth)
        assert torch.equal(fused["Spike"], right["Spike"].float())
        for name in names:  # over all cycles: the worst neuron of one cycle is a matter of luck
            ours[name] += float((fused[name] - right[name]).abs().max()) / len(moments)
            theirs[name] += float((flat[name] - right[name]).abs().max()) / len(moments)
    assert right["CaM"].max() > 1
    rounding = {name: 4 * torch.finfo(torch.float32).eps * float(right[name].abs().max()) for name in names}
    worse = {n: (ours[n], theirs[n]) for n in names if ours[n] > 1.5 * theirs[n] + rounding[n]}
    assert not worse


def test_T7_a_batch_of_four_is_four_single_runs(nets):
    net = nets.random()
    inputs, targets = nets.patterns(net, 4)
    whole = net.run(net.init(Moment(inputs, targets)), net.theta.moments(inputs, targets), 200)
    single = []
    for d in range(4):
        mine = [{k: v[d : d + 1] for k, v in p.items()} for p in (inputs, targets)]
        alone = net.run(net.init(Moment(*mine)), net.theta.moments(*mine), 200)
        for name, x in whole.items():
            if isinstance(x, torch.Tensor):
                assert torch.equal(x[d : d + 1], alone[name]), name  # the fact sheet asks for 1e-6
        single.append(alone)

    made = [net.build().learn(Trajectory(torch.zeros(1), {}, state)) for state in (whole, *single)]
    for name, dwt in made[0].items():
        assert torch.allclose(dwt, sum(each[name] for each in made[1:]), rtol=0, atol=1e-6), name
        assert dwt.abs().max() > 0


def test_chunks_and_threads_change_nothing(nets, monkeypatch):
    net, threads = nets.random(pools=True), torch.get_num_threads()
    moments = net.theta.moments(*nets.patterns(net, 5))
    start = net.init(moments[0])
    whole, spikes = net.run(start, moments, 200, record=["Spike", "Hidden1.Vm"])
    monkeypatch.setattr("unrolled.cortex.axon.fused.CHUNK", 2 * net.n)
    monkeypatch.setattr("unrolled.cortex.axon.fused.LEAST", 1)
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            parts, same = net.run(start, moments, 200, record=["Spike", "Hidden1.Vm"])
            assert torch.get_num_threads() == count
            for name, x in whole.items():
                assert torch.equal(x, parts[name]) if isinstance(x, torch.Tensor) else x == parts[name], name
            assert all(torch.equal(spikes[name], same[name]) for name in spikes)
    finally:
        torch.set_num_threads(threads)


def test_tiny_numbers_are_flushed_within_a_run_only(nets):
    net = nets.random()
    moments = net.theta.moments(*nets.patterns(net, 1))
    state = net.init(moments[0])
    state["CaM"] = torch.full_like(state["CaM"], 2e-38)
    least = torch.finfo(torch.float32).tiny
    ca_m = net.run(state, moments[:20], 20)["CaM"]
    assert ((ca_m == 0) | (ca_m >= least)).all()
    assert (ca_m == 0).any()
    assert float(torch.tensor(2e-38) * 0.1) > 0  # as before


def test_blocks_per_layer_equal_one_block(nets, monkeypatch):
    one = nets.random(dtype=torch.float64, pools=True, sheet=LAYERS_DIFFER)
    monkeypatch.setattr("unrolled.cortex.axon.gather.SMALL", 0)
    many = nets.random(dtype=torch.float64, pools=True, sheet=LAYERS_DIFFER)
    moments = one.theta.moments(*nets.patterns(one, 2))
    a, b = (net.run(net.init(moments[0]), moments, 200) for net in (one, many))
    assert max(float((a[k] - b[k]).abs().max()) for k in a if isinstance(a[k], torch.Tensor)) < 1e-9


def test_learning_on_few_rows_equals_all_rows(nets, monkeypatch):
    net = nets.random(dtype=torch.float64, sheet=LEARNING)
    moments = net.theta.moments(*nets.patterns(net, 6))
    trial = Trajectory(torch.zeros(1), {}, net.run(net.init(moments[0]), moments, 200))
    dense = net.learn(trial)
    net.build()
    monkeypatch.setattr("unrolled.cortex.axon.products.SPARSE", 0)
    sparse = net.learn(trial)
    assert max(float((dense[k] - sparse[k]).abs().max()) for k in dense) < 1e-12


def test_the_network_is_a_system(nets):
    net = nets.random(pools=True)
    inputs, targets = nets.patterns(net, 3)
    check_system(net, Moment(inputs, targets, "minus"), steps=30)
    check_system(net, net.theta.moments(inputs, targets)[120:180], steps=60)
    check_system(net.naive, Moment(inputs, targets, "plus"), steps=5)


def test_rollout_uses_the_fused_run_and_equals_it(nets):
    net = nets.random()
    moments = net.theta.moments(*nets.patterns(net, 2))
    path = rollout(net, moments, 200, record=["Output.Act", "GeRaw"])
    final, records = net.run(net.init(moments[0]), moments, 200, record=["Output.Act", "GeRaw"])
    assert torch.equal(path["Output.Act"][1:], records["Output.Act"])
    assert torch.equal(path["GeRaw"][1:], records["GeRaw"])
    assert torch.equal(path.final["Vm"], final["Vm"])
    assert path["GeRaw"].shape == (201, 2, net.n)


def test_the_state_handed_in_is_left_alone_and_the_one_handed_out_is_its_own(nets):
    net = nets.random()
    moments = net.theta.moments(*nets.patterns(net, 2))
    start = net.run(net.init(moments[0]), moments[:50], 50)
    copy = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in start.items()}
    first = net.run(start, moments[50:], 150)
    kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.items()}
    net.run(start, moments[50:90], 40)
    for a, b in ((start, copy), (first, kept)):
        assert all(torch.equal(a[k], b[k]) for k in a if isinstance(a[k], torch.Tensor))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu_in_float64(nets):
    cpu, gpu = (nets.random(dtype=torch.float64, pools=True, device=device) for device in ("cpu", "cuda"))
    inputs, targets = nets.patterns(cpu, 4)
    for trial in range(2):
        a, b = (net.present(inputs, targets) for net in (cpu, gpu))
        for name, x in a.final.items():
            if isinstance(x, torch.Tensor):
                assert torch.allclose(x, b.final[name].cpu(), rtol=0, atol=1e-6), (trial, name)
        made = [net.learn(t) for net, t in ((cpu, a), (gpu, b))]
        for name, dwt in made[0].items():
            assert torch.allclose(dwt, made[1][name].cpu(), rtol=0, atol=1e-6), name
