"""Sheets are readable: every physiological constant says what it is; sheets refuse, replace, compare."""

import ast
import dataclasses
import inspect
import re
import sys
from itertools import pairwise

import pytest

from unrolled.cortex.axon import calcium, inhibition, learning, neuron, paths, slow, weights
from unrolled.cortex.axon.channels import AK, GABAB, MAHP, NMDA, SAHP, VGCC, KNa
from unrolled.cortex.axon.layer import LayerParams
from unrolled.cortex.axon.paths import PathParams
from unrolled.cortex.axon.sheets import Rule, differences, fields, replace

CLASSES = [
    AK, GABAB, MAHP, NMDA, SAHP, VGCC, KNa,
    neuron.Membrane, neuron.Dendrite, neuron.Spiking, neuron.Clamp, neuron.Decay,
    calcium.SpikeCa, calcium.LearnCa, inhibition.FSFFFB, inhibition.Inhibition,
    learning.RLRate, learning.Window, learning.DWt, slow.TrgAvg, weights.SWt, paths.Scale, PathParams, LayerParams,
]  # fmt: skip
RANGE = re.compile(r"\d")
UNIT = re.compile(
    r"\b(mV|ms|pF|nS|pA|Hz|mM|1/mV|1/ms|trials|spikes|cycles|theta cycles|steps?|proportion|dimensionless|CaD|CaP|Proportion|weight|"
    r"gbar|relative|Relative|per spike|degrees|factor|Factor|probability|[Cc]redit|fraction|Fraction)\b"
)


def documented(cls):
    """Field -> the string that follows it in the source."""
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    found = {}
    for node, after in pairwise(body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[node.target.id] = after.value.value
    return found


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_constant_has_a_docstring_with_a_unit_or_a_range(cls):
    assert cls.__dataclass_params__.frozen
    docs, values = documented(cls), cls()
    for field in dataclasses.fields(cls):
        assert field.name in docs, f"{cls.__name__}.{field.name} has no docstring"
        value = getattr(values, field.name)
        if isinstance(value, float | int) and not isinstance(value, bool):
            missing = [
                what
                for what, found in (("range", RANGE), ("unit", UNIT))
                if not found.search(docs[field.name])
            ]
            assert not missing, (
                f"{cls.__name__}.{field.name}: {docs[field.name]!r} names no {' and no '.join(missing)}"
            )


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_time_constant_refuses_to_be_negative(cls):
    taus = [f.name for f in dataclasses.fields(cls) if f.name == "tau" or f.name.endswith("_tau")]
    for name in taus:
        for bad in (-1.0, 0.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=rf"{cls.__name__}\.{name}="):
                cls(**{name: bad})


def test_replacing_nested_fields_leaves_the_rest():
    sheet = {"nmda.mgc": 1.2, "inhib.layer.gi": 1.05, "spike.tr": 1}
    changed = replace(LayerParams(), sheet)
    assert differences(changed, LayerParams()) == {"spike.tr": 1, "nmda.mgc": 1.2, "inhib.layer.gi": 1.05}
    assert LayerParams().nmda.mgc == 1.4
    assert set(sheet) <= set(fields(LayerParams()))


def test_selectors():
    tags = frozenset({"back", "mine"})
    assert Rule("Path").matches("Path", "A->B", tags)
    assert not Rule("Layer").matches("Path", "A->B", tags)
    assert Rule(".back").matches("Path", "A->B", tags)
    assert Rule("#A->B").matches("Path", "A->B", tags)
    assert not Rule("#A").matches("Path", "A->B", tags)


def test_axons_cortical_defaults():
    p = LayerParams()
    assert (p.membrane.c, p.membrane.c_dend, p.membrane.e_l, p.membrane.e_i) == (281, 500, -70, -90)
    assert (p.nmda.ge, p.nmda.tau, p.nmda.mgc, p.learn_nmda.mgc) == (0.006, 100, 1.4, 1.4)
    assert (p.mahp.gk, p.sahp.gk, p.ak.gk, p.kna.decay_tau, p.kna_slow.rise_tau) == (
        0.05,
        0.05,
        0.1,
        200,
        1000,
    )
    assert (p.spike_ca.m_tau, p.learn_ca.m_tau, p.spike_ca.p_tau, p.spike_ca.syn_tau) == (5, 2, 40, 30)
    assert (p.inhib.layer.gi, p.inhib.layer.fb, p.decay.act, p.decay.glong) == (1.0, 1.0, 0.2, 0.6)
    assert MAHP().q10 == pytest.approx(3.2094, abs=1e-4)
    assert GABAB().factor == pytest.approx(2.5811748, abs=1e-7)
    assert (PathParams().delay, PathParams().lrate, PathParams().dwt.learn_thr) == (2, 0.04, 0.0)
