"""Curated models against libroadrunner's recorded numbers (fact sheet, F1), and what is refused."""

import pytest
import torch

from unrolled.sbml import UnsupportedError, load

pytest.importorskip("libsbml")
pytestmark = pytest.mark.data

S = ("species_1", "species_2", "species_3")

F1 = [
    (36, {"M": 1, "P": 1}, {"M": -0.057665096, "P": -0.093005929}),
    (36, {"M": 1.3, "P": 1.9}, {"M": -0.11822626, "P": 0.083684213}),
    (170, dict(zip([f"y{i}" for i in range(1, 8)], (0.2, 0, 1.1, 0.8, 1, 1, 1.05))),
     dict(zip([f"y{i}" for i in range(1, 8)], (0.01864746, 0.034, -0.154, -0.18000459, -0.258, 0.18315, -0.00765)))),
    (839, {}, (3.3887907, 0.97891276, -8.9040329, -0.015877913, -16.822419, -0.19729657, -8.409155, 4.775)),
    (157, {"x": 0, "y": 0.8, "y0": 0.1}, {"x": 0.9, "y": -0.56, "y0": -0.08}),
    (507, dict(zip(S, (20, 3, 0))), dict(zip(S, (-10.5808, -2.2571429, 0)))),  # LacI, TetR, IPTG
    (10, {}, (-0.92690058, 0.92690058, 0.062711864, 0.13728814, -0.2, -0.037288136, 0.13728814, -0.1)),
    (27, {"M": 500, "MAPKK": 50, "MKP3": 100}, (-0.45454545, 0.45454545, 0, 0, 0)),
    (6, {"u": 0.02, "v": 0.2375}, {"u": -0.000425, "v": -0.005}),
    (203, {}, {"OCT4": 9.8815915, "NANOG": -0.0093000704, "OCT4_SOX2": -0.500095, "Protein": 0.010097576}),
]  # fmt: skip


def biomodel(folder, number, **options):
    return load(folder / f"BIOMD{number:010d}.xml", **options)


@pytest.mark.parametrize(("number", "state", "expected"), F1)
def test_f1_vector_fields(curated, number, state, expected):
    model = biomodel(curated, number)
    rate = dict(zip(model.species, model.rate(0.0, model.initial_state(**state))[0].tolist()))
    if isinstance(expected, tuple):  # recorded without names
        moving = [value for value in rate.values() if abs(value) > 1e-12]
        assert sorted(moving) == pytest.approx(sorted(v for v in expected if v), rel=1e-6)
    else:
        assert {name: rate[name] for name in expected} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("number", [10, 21, 36, 170, 203, 839])
def test_batches_gradients_and_float32(curated, number):
    model = biomodel(curated, number)
    x = model.initial_state(batch=5) * (1 + torch.arange(5)[:, None] / 10)
    whole = model.rate(0.0, x)
    rows = torch.cat([model.rate(0.0, row[None]) for row in x])
    torch.testing.assert_close(whole, rows, rtol=1e-14, atol=0)
    assert model.rate(0.0, x.float()).dtype == torch.float32
    J, h = model.jacobian(x), 1e-6
    for j in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, j] = h * x[:, j].abs().clamp(min=1.0)
        numeric = (model.rate(0.0, x + e) - model.rate(0.0, x - e)) / (2 * e[:, j : j + 1])
        torch.testing.assert_close(J[:, :, j], numeric, rtol=1e-4, atol=1e-5 * float(J.abs().max()))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (24, "reaction TL: delay\\(\\)"),
        (137, "reaction R12 is fast"),
        (562, "package 'qual'"),
        (613, "package 'comp'"),
    ],
)
def test_what_is_refused_names_the_element(curated, number, message):
    with pytest.raises(UnsupportedError, match=message):
        biomodel(curated, number)


@pytest.mark.slow
def test_f3_coverage(curated):
    """At least 97 % of the files with kinetics compile and give a finite rate, or ask for a value by its name."""
    dynamic, ours, left = 0, 0, []
    for path in sorted(curated.glob("*.xml")):
        text = path.read_text(errors="replace")
        if not any(f"<{element}" in text for element in ("kineticLaw", "rateRule", "algebraicRule")):
            continue
        if "FLUX_VALUE" in text:  # flux balance: laws that are placeholders
            continue
        dynamic += 1
        try:
            model = load(path)
            model.rate(0.0, model.initial_state())
            ours += 1
        except ValueError as error:
            left.append(f"{path.stem}: {error}")
    assert ours / dynamic >= 0.97, left
