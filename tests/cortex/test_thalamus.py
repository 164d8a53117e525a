"""The corticothalamic loop: context arrives when it should, the pulvinar shows prediction then outcome, timing finds peaks."""

import pytest
import torch

from unrolled.core import check_system
from unrolled.cortex import Network, ThetaCycle, thalamus
from unrolled.cortex.axon.layer import LayerParams
from unrolled.cortex.axon.learning import RLRate
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.tasks import reber
from unrolled.cortex.thalamus.layers import CT, Pulvinar, Super, bursting, context_change


def circuit(seed=0, *, timing=True, dtype=torch.float64, **options):
    net = reber.network(seed=seed, hidden=6, timing=timing, dtype=dtype, **options)
    return net.build()


def trials(net, n, data=2, rng=0):
    shown = reber.stream(n, data=data, rng=rng)
    return [net.present(shown.patterns(t)) for t in range(n)]


def test_fused_cycle_is_the_naive_twin_s():
    net = circuit(seed=1)
    shown = reber.stream(2, data=2, rng=0)
    moments = [m for t in range(2) for m in net.theta.moments({"Input": shown.patterns(t).double()})][:260]
    fast, slow = net.init(moments[0]), net.naive.init(moments[0])
    for moment in moments:
        slow = net.naive.step(slow, moment)
    fast = net.run(fast, moments, len(moments))
    slow = net.naive.flat(slow)
    for name, value in fast.items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value, slow[name], atol=1e-3), name
    assert float(net.read(fast, "HiddenCT", "CaP").max()) > 0.05  # it is the context that moves CT
    assert float(net.read(fast, "HiddenCT", "GMaintSyn").max()) > 0


def test_rest_between_trials_is_the_naive_twin_s():
    """Inputs are let go in the rest: what inhibition feels of them has to go too."""
    net = reber.network(ThetaCycle(100, 50, rest=20), seed=1, hidden=4, dtype=torch.float64).build()
    shown = reber.stream(2, data=2, rng=0)
    moments = [m for t in range(2) for m in net.theta.moments({"Input": shown.patterns(t).double()})][:195]
    fast, slow = net.run(net.init(moments[0]), moments, len(moments)), net.naive.init(moments[0])
    for moment in moments:
        slow = net.naive.step(slow, moment)
    slow = net.naive.flat(slow)
    for name, value in fast.items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value, slow[name], atol=1e-3), name


def test_a_linear_learning_rate_peaks_at_half_activity():
    rate = RLRate(linear=True, diff=False)
    ca_d = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]])
    assert rate(ca_d, ca_d, torch.tensor([[1.0]])).tolist() == [pytest.approx([0.05, 0.5, 1.0, 0.5, 0.05])]


def test_the_circuit_is_a_system():
    net = circuit(dtype=torch.float32)
    moment = net.theta.moments({"Input": torch.eye(7)[:2]})[0]
    check_system(net, moment)


def test_context_arrives_at_the_last_cycle_as_scaled_bursts():
    net = circuit(timing=False)
    moments = net.theta.moments({"Input": torch.eye(7, dtype=torch.float64)[:1]})
    state = net.run(net.init(moments[0]), moments[:197], 197)  # through cycle 196 = 200 - 2 - delay
    hidden = net.layers["Hidden"].part
    path = net.paths["Hidden->HiddenCT"]
    own = net.paths["HiddenCT->HiddenCT"]
    assert own.kind == "context"
    expected = state["Burst"][:, hidden] @ (net.scale[path.name] * path.wt)
    expected = expected + net.read(state, "HiddenCT", "CaP").flatten(1) @ (net.scale[own.name] * own.wt)
    assert float(expected.min()) > 0
    assert float(net.read(state, "HiddenCT", "CtxtGe").abs().max()) == 0
    state = net.run(state, moments[197:], 3)
    assert torch.allclose(net.read(state, "HiddenCT", "CtxtGe").flatten(1), expected)
    state = net.run(state, moments, 10)  # the next trial: g drives, then decays by 1/50 each cycle
    assert torch.allclose(net.read(state, "HiddenCT", "CtxtGe").flatten(1), expected * (1 - 1 / 50) ** 10)


def test_context_adds_up_or_is_copied():
    kept = {}
    for tau in (50.0, 0.0):
        net = Network(seed=0, dtype=torch.float64)
        net.layer("Input", (1, 4), kind="input")
        above, _ = thalamus.super_ct(net, "Hidden", (3, 3), ct=CT(decay_tau=tau))
        net.connect("Input", above)
        for _ in range(2):
            trial = net.present(torch.eye(4)[:1])
        kept[tau] = float(net.read(trial, "HiddenCT", "CtxtGe").mean())
        burst = net.read(trial, "Hidden", "Burst").flatten(1)
        path = net.paths["Hidden->HiddenCT"]
        copied = float((burst @ (net.scale[path.name] * path.wt)).mean())
        if tau == 0:
            assert kept[tau] == pytest.approx(copied, rel=0.2)  # bursts of three cycles before
    assert kept[50.0] > kept[0.0] * 1.005


def test_bursting_has_a_threshold_in_the_plus_phase_only():
    ca = torch.tensor([[0.05, 0.3, 0.5, 0.9]])
    thr = torch.full_like(ca, 0.4)
    view = {"CaP": ca, "BurstThr": thr}
    assert bursting(view, False) is ca
    assert bursting(view, True).tolist() == [[0.0, 0.0, 0.5, pytest.approx(0.9)]]
    kind = Super()
    view |= {"BurstThr": torch.zeros_like(ca), "GeExt": torch.zeros_like(ca)}
    moment = ThetaCycle().moments({})[180]
    kind.drive(view, {}.__getitem__, moment)
    mean, most = float(ca.mean()), 0.9
    assert torch.allclose(view["BurstThr"], torch.full_like(ca, mean + 0.1 * (most - mean)))
    view["CaP"] = ca / 100
    kind.drive(view, {}.__getitem__, moment)
    assert torch.allclose(view["BurstThr"], torch.full_like(ca, 0.1))  # the absolute threshold


def test_pulvinar_shows_the_prediction_then_the_outcome():
    net = circuit()
    last = trials(net, 4)[-1]
    prediction = net.read(last, "InputP", "ActM").flatten(1)
    outcome = net.read(last, "InputP", "ActP").flatten(1)
    letter = reber.stream(4, data=2, rng=0).letters[3]
    assert torch.equal(outcome.argmax(1), letter)
    assert (outcome.amax(1) > 0.5).all()
    assert (outcome.topk(2).values[:, 1] < 0.05).all()  # nothing of the prediction is left
    assert (prediction.amax(1) > 0).all()


def test_pulvinar_keeps_its_prediction_without_an_outcome():
    """With a driver that stays silent the plus phase is no outcome: nothing teaches it to go silent."""
    net = Network(seed=0, dtype=torch.float64)
    net.layer("World", (1, 4), kind="input")
    net.layer("Above", (1, 4), kind="input")
    thalamus.pulvinar(net, "Relay", "World")
    net.connect("Above", "Relay", "one-to-one")
    one = torch.eye(4)[:1]
    driven = net.present({"World": torch.eye(4)[1:2], "Above": one})
    net.state = None
    alone = net.present({"World": torch.zeros(1, 4), "Above": one})
    assert net.read(driven, "Relay", "CaP").argmax() == 1
    assert net.read(alone, "Relay", "CaP").argmax() == 0
    assert float(net.read(alone, "Relay", "CaP").max()) > 0.1


def test_pulvinar_forgets_its_prediction_at_the_end_of_the_minus_phase_and_keeps_act_m():
    net = circuit()
    trials(net, 3)
    moments = net.theta.moments({"Input": torch.eye(7, dtype=torch.float64)[:2]})
    state = net.run(net.state, moments[:150], 150)
    assert float(net.read(state, "InputP", "ActM").max()) > 0
    for name in ("Act", "ActInt", "Ge", "Gi", "Gk", "GnmdaSyn", "GababM"):
        assert float(net.read(state, "InputP", name).abs().max()) == 0, name
    assert (net.read(state, "InputP", "Vm") == -70).all()
    assert float(net.read(state, "Hidden", "Act").max()) > 0  # the others go on
    naive = net.naive.init(moments[0])
    for moment in moments[:150]:
        naive = net.naive.step(naive, moment)
    assert float(naive["layers"]["InputP"]["ActInt"].abs().max()) == 0


def test_driver_takes_over_in_proportion_to_its_activity():
    kind = Pulvinar(driver="d", net=Network(), layer="p", drive_scale=0.2)
    kind.net.layer("p", (1, 2), kind)
    moments = ThetaCycle().moments({})

    def driven(most):
        view = {n: torch.ones(1, 2) for n in ("GeRaw", "GeSyn", "GeExt", "SSGiDend")}
        view |= {"DriveMax": torch.full((1, 2), most), "DriveBurst": torch.tensor([[0.5, 0.0]])}
        kind.drive(view, {}.__getitem__, moments[160])
        return view

    half = driven(0.3)
    assert torch.allclose(half["GeRaw"], torch.tensor([[0.5 + 0.1, 0.5]]))
    assert torch.allclose(half["GeSyn"], torch.tensor([[0.5 + 0.5, 0.5]]))
    assert torch.equal(half["GeExt"], half["GeSyn"])
    assert torch.allclose(half["SSGiDend"], torch.tensor([[0.5, 0.5]]))
    full = driven(0.9)
    assert torch.allclose(full["GeRaw"], torch.tensor([[0.1, 0.0]]))
    minus = {n: torch.ones(1, 2) for n in ("GeRaw", "GeSyn", "GeExt", "SSGiDend")}
    kind.drive(minus, {}.__getitem__, moments[10])
    assert minus["GeRaw"].tolist() == [[1.0, 1.0]]
    assert minus["SSGiDend"].abs().sum() + minus["GeExt"].abs().sum() == 0


def test_context_learns_from_the_bursts_of_the_trial_before():
    net = circuit()
    final = trials(net, 3)[-1].final
    path = net.paths["Hidden->HiddenCT"]
    total = torch.zeros_like(path.lwt)
    for d in range(2):
        error = (final["LearnCaP"] - final["LearnCaD"])[d, path.recv.part]
        dw = final["BurstPrv"][d, path.send.part].unsqueeze(1) * error
        total += torch.where(dw > 0, dw * (1 - path.lwt), dw * path.lwt)
    assert float(total.abs().max()) > 0
    assert torch.allclose(context_change(net, path, final), total, atol=1e-12)
    before = path.lwt.clone()
    changes = net.learn()
    assert torch.allclose(changes[path.name], 0.02 * total, atol=1e-12)
    assert torch.allclose(path.lwt, (before + 0.02 * total).clamp(0, 1))


def test_burst_of_the_trial_before_is_the_last_cycle_s():
    net = circuit()
    first, second = trials(net, 2)
    assert torch.equal(first.final["Burst"], second.final["BurstPrv"])


# -- timing


def detect(ga, timing, ca_d=0.5, theta=None):
    """Run the detector on a conductance course `[cycles]` for one neuron; records of what it keeps."""
    theta = theta or ThetaCycle()
    names = ("Ge", "Gi", "CaD", "CaP", "LearnCaP", "LearnCaD", "ETrLearn", *timing.variables())
    v = {n: torch.zeros(1, 1, dtype=torch.float64) for n in names}
    v |= {n: torch.full((1, 1), x, dtype=torch.float64) for n, x in timing.variables().items()}
    v["ETrLearn"].fill_(1)
    v["CaD"].fill_(ca_d)
    v["CaP"].fill_(0.7)
    moments = theta.moments({})
    rows = []
    for t, g in enumerate(ga):
        v["Ge"].fill_(float(g))
        v["LearnCaP"].fill_(t / 1000)  # the error tells the cycle it was read in
        timing.cycle(v, LayerParams(), moments[t % theta.length])
        rows.append({n: float(v[n]) for n in timing.variables()})
    return rows


def test_timing_follows_the_cascade_of_ga():
    ga = torch.rand(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = detect(ga, thalamus.Timing())
    m = p = d = 0.0
    for g, row in zip(ga.tolist(), rows):
        m += (g - m) / 5
        p += (m - p) / 40
        d += (p - d) / 40
        assert row["GaP"] == pytest.approx(p)
        assert row["GaD"] == pytest.approx(d)


@pytest.mark.parametrize("learn_cycles", [0, 20, 50])
def test_timing_learns_a_fixed_delay_after_the_peak(learn_cycles):
    onset = 200
    ga = torch.zeros(400, dtype=torch.float64)
    ga[onset:] = 1.0
    timing = thalamus.Timing(learn_cycles=learn_cycles)
    rows = detect(ga, timing)
    peak = next(t for t, row in enumerate(rows) if row["PeakUps"] >= 18)
    assert onset + 17 <= peak <= onset + 20  # 18 rises in a row from the onset on
    opened = next(t for t, row in enumerate(rows) if row["WindowCycle"] > 0)
    assert opened == peak + 120
    decided = next(t for t, row in enumerate(rows) if row["LearnNow"] > 0)
    assert decided == opened + 40
    # Clock counts from 1; the error is read one cycle after the cycle to learn from
    assert rows[-1]["LearnNow"] == opened + learn_cycles + 1
    sig_diff = rows[-1]["LearnErr"] / ((opened + learn_cycles + 1) / 1000)
    rate = float(LayerParams().rlrate(*(torch.full((1, 1), x, dtype=torch.float64) for x in (0.7, 0.5, 0.5))))
    assert sig_diff == pytest.approx(rate)


def test_timing_needs_calcium_and_a_rise():
    ga = torch.zeros(400, dtype=torch.float64)
    ga[200:] = 1.0
    assert detect(ga, thalamus.Timing(), ca_d=0.05)[-1]["LearnNow"] == -1
    assert detect(torch.zeros(400), thalamus.Timing())[-1]["LearnNow"] == -1
    assert detect(ga, thalamus.Timing(ups=18))[-1]["WindowCycle"] > 0
    assert detect(ga, thalamus.Timing(ups=80))[-1]["WindowCycle"] == -1  # it does not rise for that long


def test_timing_across_the_end_of_a_trial_learns_in_the_next():
    ga = torch.zeros(600, dtype=torch.float64)
    ga[230:] = 1.0  # the window of decision spans the boundary at cycle 400
    rows = detect(ga, thalamus.Timing(learn_cycles=20))
    now = next(row["LearnNow"] for row in rows if row["LearnNow"] > 0)
    decided = next(t for t, row in enumerate(rows) if row["LearnNow"] > 0)
    assert decided >= 400
    assert now > 401  # clock of the first cycle of the trial that is going on
    assert rows[-1]["LearnErr"] != 0


def test_timed_change_is_the_window_s_credit_times_the_error():
    net = circuit(timing=True)
    final = trials(net, 3)[-1].final
    path = net.paths["Input->Hidden"]
    part, timing = path.recv.part, path.recv.kind.timing
    learned, end = final["LearnNow"][:, part], final["cycle"]
    due = (learned > end - 200) & (learned <= end)
    assert 0 < int(due.sum()) < due.numel()
    total = torch.zeros_like(path.lwt)
    for d, r in due.nonzero().tolist():
        start = int((learned[d, r] - 1 - 160) // 10)
        slots = [b % net.n_bins for b in range(start, start + 16)]
        bins = final["bins"][d, slots]
        syn = 0.5 * (bins[:, path.send.part] * bins[:, part.start + r].unsqueeze(1)).sum(0)
        dw = torch.where(syn > 0.2, syn, 0.0) * final["LearnErr"][d, part.start + r]
        lwt = path.lwt[:, r]
        total[:, r] += torch.where(dw > 0, dw * (1 - lwt), dw * lwt)
    assert float(total.abs().max()) > 0
    assert torch.allclose(timing.change(net, path, final), total, atol=1e-12)


def test_timing_off_is_the_usual_rule():
    net = circuit(timing=False)
    assert net.n_bins == 20
    assert circuit().n_bins == 36
    trials(net, 2)
    assert "LearnNow" not in net.variables
    assert float(net.learn()["Input->Hidden"].abs().max()) > 0


def test_resumed_training_is_bit_equal():
    whole, parts = circuit(dtype=torch.float32), circuit(dtype=torch.float32)
    shown = reber.stream(4, data=2, rng=0)
    reber.epoch(whole, shown, 0, 4)
    reber.epoch(parts, shown, 0, 2)
    other = circuit(seed=5, dtype=torch.float32)
    other.restore(parts.memory())
    reber.epoch(other, shown, 2, 2)
    for name, path in whole.paths.items():
        assert torch.equal(path.lwt, other.paths[name].lwt), name


# -- what is refused


def test_bad_circuits_are_refused():
    net = Network()
    net.layer("Input", (1, 4), kind="input")
    net.layer("Plain", (2, 2))
    above, ct = thalamus.super_ct(net, "Hidden", (2, 2))
    with pytest.raises(ValueError, match="no driver 'Inptu'"):
        thalamus.pulvinar(net, "P", "Inptu")
    with pytest.raises(ValueError, match="to a CT layer, got super -> hidden"):
        thalamus.context(net, above, "Plain")
    with pytest.raises(ValueError, match="hidden -> ct"):
        thalamus.context(net, "Plain", ct)
    with pytest.raises(ValueError, match="there are Input"):
        thalamus.context(net, "Nobody", ct)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CT(decay_tau=-1), "decay_tau=-1"),
        (lambda: CT(decay_tau=0.5), "decay_tau=0.5"),
        (lambda: CT(ge_gain=-1), "ge_gain"),
        (lambda: Pulvinar(full_drive=0), "full_drive"),
        (lambda: thalamus.Timing(learn_cycles=-60), "learn_cycles"),
        (lambda: thalamus.Timing(tau=0), "tau"),
    ],
)
def test_bad_numbers_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_a_kind_outside_a_circuit_says_where_it_belongs():
    net = Network()
    net.layer("Input", (1, 4), kind="input")
    net.layer("C", (1, 4), CT())
    net.connect("Input", "C")
    with pytest.raises(ValueError, match="make it with unrolled.cortex.thalamus"):
        net.present(torch.ones(1, 4))


def test_sheets_reach_the_circuit_by_tag():
    net = circuit()
    net.apply([Rule(".ct", {"inhib.layer.gi": 2.5}), Rule(".from_pulvinar", {"scale.rel": 0.3})])
    assert net["HiddenCT"].params.inhib.layer.gi == 2.5
    assert net["InputP->Hidden"].params.scale.rel == 0.3
    assert net["Hidden->HiddenCT"].params.lrate == 0.02
