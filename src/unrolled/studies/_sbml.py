"""What the SBML studies share: the paper, published numbers, the data folder, and shipped networks as SBML."""

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from unrolled.sbml.expression import Number
from unrolled.sbml.infix import show
from unrolled.studies._sbml_builder import sbml

PAPER = {
    "title": "Language Game: Talking to Non-Human Systems",
    "authors": "Zhang, Levin",
    "arxiv": "2605.16321",
    "year": 2026,
}

F1: dict[str, list[tuple[dict[str, Any], dict[str, float]]]] = {
    "tyson1999": [
        ({"M": 1, "P": 1}, {"M": -0.057665096, "P": -0.093005929}),
        ({"M": 1.3, "P": 1.9}, {"M": -0.11822626, "P": 0.083684213}),
    ],
    "weimann2004": [
        ({}, {"y1": 0.01864746, "y2": 0.034, "y3": -0.154, "y4": -0.18000459, "y5": -0.258, "y6": 0.18315, "y7": -0.00765})
    ],
    "almeida2019": [
        ({}, {"BMAL1": 3.3887907, "ROR": 0.97891276, "REV": -8.9040329, "DBP": -0.015877913, "E4BP4": -16.822419,
              "CRY": -0.19729657, "PER": -8.409155, "PERCRY": 4.775})
    ],
    "zatorsky2006": [({}, {"x": 0.9, "y": -0.56, "y0": -0.08})],
    "gardner2000": [({"LacI": 20, "TetR": 3}, {"LacI": -10.5808, "TetR": -2.2571429, "IPTG": 0})],
    "liebal2012": [({"sigb": 2e5, "lacz": 15, "x": 120}, {"sigb": 1023.7555, "lacz": 0.046157025, "x": 176.19835})],
    "kholodenko2000": [
        ({}, {"MKKK": -0.92690058, "MKKK_P": 0.92690058, "MKK": 0.062711864, "MKK_P": 0.13728814, "MKK_PP": -0.2,
              "MAPK": -0.037288136, "MAPK_P": 0.13728814, "MAPK_PP": -0.1})
    ],
    "markevich2004": [({}, {"M": -0.45454545, "Mp": 0.45454545, "Mpp": 0, "MAPKK": 0, "MKP3": 0})],
    "tyson1991": [({"u": 0.02, "v": 0.2375, "z": 0.2175}, {"u": -0.000425, "v": -0.005})],
    "chickarmane2006": [({}, {"OCT4": 9.8815915, "NANOG": -0.0093000704, "OCT4_SOX2": -0.500095, "Protein": 0.010097576})],
}  # fmt: skip
"""Rates by libroadrunner on the BioModels files: network -> (state, rates) (language-game fact sheet, F1)."""

F2: dict[str, tuple[float, dict[str, float]]] = {
    "tyson1999": (48, {"M": 0.55942872, "P": 1.7246705}),
    "weimann2004": (48, {"y1": 0.29618649, "y7": 1.4417291}),
    "liebal2012": (100, {"sigb": 224475.95, "lacz": 15.169405, "x": 137.17867}),
    "chickarmane2006": (50, {"OCT4": 7.2581389, "NANOG": 0.0028838805, "OCT4_SOX2": 0.52670047}),
    "kholodenko2000": (3000, {"MKKK": 55.555524, "MAPK_PP": 36.964673}),
    "gardner2000": (48, {"LacI": 155.76341, "TetR": 0.099513019}),
}
"""Ends of trajectories from the file's initial state: network -> (t, values) (F2)."""

CALIBRATION: dict[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "tyson1999": (24, (0, 1.3, 1.9), (1, 0.7, 1.1)),
    "weimann2004": (24, (0.74, 0.95, 1.64, 1.16, 0.70, 1.18, 1.15), (0.51, 1.54, 1.92, 0.81, 0.42, 0.64, 0.55)),
    "almeida2019": (20, (1.94, 3.08, 107.82, 1.40, 51.80, 3.36, 21.48, 6.70), (2.96, 1.83, 22.46, 0.74, 20.40, 2.82, 10.53, 4.40)),
    "leloup1999": (24, (0.35, 0.35, 0.34, 0.34, 0.33, 0.33, 0.41, 1.16, 1.03, 1.03), (0.32, 0.32, 0.32, 0.32, 0.33, 0.33, 0.31, 0.51, 0.89, 0.89)),
    "tyson1991": (36, (0.5, 0.015, 0.2, 0.1), (0.5, 0.02, 0.07, 0.07)),
    "gardner1998": (16, (0.12, 0.24, 0.29, 3.96, 0.41), (0.06, 0.09, 0.15, 0.03, 0.03)),
    "gerard2010": (24, (0.19, 1.22, 0.76, 1.36, 1.20, 1.37, 3, 5), (0.01, 1.25, 0.86, 1.14, 1.13, 0.66, 0.01, 0.01)),
    "chickarmane2006": (50, (0, 0, 0, 0.01, 0, 0, 10, 7.26, 7.26, 0.003, 0.53, 4.26), (1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.2, 1.1)),
    "chickarmane2008": (560, (0.05, 0.04, 0.62, 2.44, 8.30, 4.98), (0.08, 0.09, 0.27, 1.47, 1.15, 0.75)),
    "zatorsky2006": (7, (0.40, 0.55, 0.55), (0.30, 0.17, 0.26)),
    "gardner2000": (15, (78, 7.7, 0), (78, 7.7, 1)),
    "liebal2012": (100, (100, 226660, 15.75, 137.85), (1, 46480, 4.1, 19.25)),
    "markevich2004": (420, (250, 250, 250, 50, 100), (250, 250, 250, 50, 100)),
    "kholodenko2000": (1300, (78.43, 21.57, 212.43, 45.79, 41.77, 79.29, 38.67, 182.04), (17.54, 17.54, 77.98, 33.64, 52.41, 76.26, 26.07, 97.91)),
    "lorenz": (1, (-0.07, -0.02, 24.76), (8.18, 9.16, 7.66)),
}  # fmt: skip
"""Time scale, mu and std of the paper's code, species in our order (A4)."""

OSCILLATORY = (
    "tyson1999", "weimann2004", "almeida2019", "leloup1999", "tyson1991", "gardner1998", "gerard2010", "zatorsky2006",
    "kholodenko2000",
)  # fmt: skip
BISTABLE = ("gardner2000", "chickarmane2006", "chickarmane2008")
"""Properties as the paper labels them (A8)."""


def document(model: Any) -> str:
    """A shipped network as SBML: one compartment of size 1, the same species, parameters, rules and reactions."""
    network = model.network
    made = {reaction.name for reaction in network.reactions}
    reactions: list[str] = []
    for reaction in network.reactions:
        sides: dict[bool, list[str]] = {False: [], True: []}
        for i, coefficient in reaction.changes:
            assert isinstance(coefficient, Number)
            sides[coefficient.value > 0].append(f"{abs(coefficient.value):g} {network.states[i].name}")
        left, right = (" + ".join(sides[k]) for k in (False, True))
        reactions.append(f"{reaction.name}: {left} -> {right} : {show(reaction.formula)}")
    touched = {i for reaction in network.reactions for i, _ in reaction.changes}
    rules = [f"{rule.name} = {show(rule.formula)}" for rule in network.rules if rule.name not in made]
    rules += [
        f"{state.name}' = {show(state.rate)}"
        for i, state in enumerate(network.states)
        if i not in touched and state.rate != Number(0.0)
    ]
    x0 = model.initial_state()[0].tolist()
    species = {state.name: {"concentration": value} for state, value in zip(network.states, x0)}
    parameters = dict(model.parameters) | {rule.name: 0.0 for rule in network.rules if rule.name not in made}
    return sbml(level=(3, 1), species=species, parameters=parameters, rules=rules, reactions=reactions)


def unpacked(path: Path) -> Path:
    """A folder as it is, or an archive unpacked beside the temporary files, once.

    Raises:
        FileNotFoundError: no such path.
    """
    if path.is_dir():
        return path
    if not path.is_file():
        raise FileNotFoundError(f"no folder and no archive at {path}")
    folder = Path(tempfile.gettempdir()) / f"unrolled-{path.name.partition('.')[0]}-{path.stat().st_size}"
    if not folder.is_dir():
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
        with tarfile.open(path) as archive:
            archive.extractall(scratch, filter="data")
        scratch.rename(folder)
    inside = [child for child in folder.iterdir() if child.is_dir()]
    return inside[0] if len(inside) == 1 else folder
