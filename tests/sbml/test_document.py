import contextlib
import os
import random

import pytest

from unrolled.sbml import SBMLError, UnsupportedError, load
from unrolled.sbml import document as documents

pytest.importorskip("libsbml")

from sbml_text import (
    DECAY,
    ci,
    compartment,
    lists,
    math,
    parameter,
    reaction,
    reference,
    sbml,
    species,
    times,
)

GOOD = sbml(DECAY)


def test_text_bytes_and_files(tmp_path):
    path = tmp_path / "decay.xml"
    path.write_text(GOOD)
    for source in (GOOD, GOOD.encode(), "\ufeff" + GOOD, "\n " + GOOD[39:], path, str(path)):
        assert load(source).species == ("S",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<", "no SBML"),
        ("<html><body>404</body></html>", "first element is <html>"),
        (GOOD[:400], "line"),
        (GOOD.replace("</reaction>", "</reactio>"), "line"),
        (GOOD.replace("</model>", ""), "line"),
        (GOOD.replace('<ci>k</ci>', '<ci>k</ci>&lol;'), "line"),
        ('<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "b">]>' + GOOD[39:], "document type or entities"),
        ('<!-- x --><! doctype sbml SYSTEM "file:///etc/passwd">' + GOOD[39:], "document type or entities"),
        (GOOD.replace("listOfSpecies", "listOfBananas"), "line 2"),
        (GOOD.replace('species="S"', 'species="T"'), "has 'T', which is no species"),
        (GOOD.replace('compartment="c"', 'compartment="d"'), "species S is in 'd'"),
        (GOOD.replace("<ci>k</ci>", "<ci>q</ci>"), "the rule of r names 'q'"),
        (GOOD.replace('id="k"', 'id="S"'), "identifier 'S' belongs to a species and to another parameter"),
        (GOOD.replace("<ci>k</ci>", "<apply><ci>f</ci><ci>k</ci></apply>"), "no function 'f'; the model defines none"),
        (GOOD.replace("<ci>k</ci>", "<apply><divide/><ci>k</ci></apply>"), "line|takes 2 arguments"),
        (GOOD.replace('initialAmount="6"', 'initialAmount="six"'), "line 2"),
        ('<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"/>', "no <model>"),
        (sbml(DECAY).replace('level="3"', 'level="9"'), "line"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_a_reason(text, message):
    with pytest.raises(SBMLError, match=message):
        load(text)


def test_other_bad_sources(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file 'none\.xml'"):
        load("none.xml")
    with pytest.raises(SBMLError, match="UTF-8"):
        load(GOOD.encode("utf-16"))
    with pytest.raises(SBMLError, match="NUL"):
        load(GOOD.replace("six", "") + "\0")
    with pytest.raises(SBMLError, match="no element"):
        load(b"")
    path = tmp_path / "huge.xml"
    with open(path, "wb") as opened:
        os.truncate(opened.fileno(), 100 * 2**20)
    with pytest.raises(SBMLError, match=r"huge\.xml has 100 MB; at most 64 MB"):
        load(path)
    monkeypatch.setattr(documents, "LARGEST", 100)
    with pytest.raises(SBMLError, match="at most 0 MB"):
        load(GOOD)


@pytest.mark.parametrize("depth", [1_100, 200_000])
def test_what_would_overflow_the_parsers_stack(depth):
    law = math("<apply><minus/>" * depth + ci("k") + "</apply>" * depth)
    with pytest.raises(SBMLError, match="nests its elements more than 1000 deep"):
        load(sbml(DECAY.replace(times("c", "k", "S"), law)))
    with pytest.raises(SBMLError, match="nests its elements"):
        load(sbml(f"<annotation>{'<a>' * depth}{'</a>' * depth}</annotation>" + DECAY))


def test_deep_formulas_that_fit():
    law = math("<apply><minus/>" * 900 + ci("k") + "</apply>" * 900)
    model = load(sbml(DECAY.replace(times("c", "k", "S"), law)))
    assert model.rate(0.0, model.initial_state()).tolist() == [[-0.5]]


def test_signs_inside_quotes_and_comments():
    text = GOOD.replace('<species id="S"', '<!-- <a><b> --><species name="a > b / \'c\'" id="S"')
    assert load(text).species == ("S",)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_read(seed):
    """Whatever is done to a file, the answer is a model or a named error."""
    draw = random.Random(seed)
    data = bytearray(GOOD.encode())
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(data))
        data[at : at + draw.randint(0, 12)] = bytes(
            draw.choice(b"<>/=\"'&;ck0Sx \xff") for _ in range(draw.randint(0, 4))
        )
    with contextlib.suppress(ValueError, FileNotFoundError):
        model = load(bytes(data))
        model.rate(0.0, model.initial_state())


def test_a_billion_laughs():
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">{entities}]>' + GOOD[39:].replace(
        "0.5", "&l9;"
    )
    with pytest.raises(SBMLError, match="document type or entities, which SBML never does"):
        load(bomb)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (DECAY + lists(Rules=[f"<algebraicRule>{math(ci('S'))}</algebraicRule>"]), "algebraic rule 'S'"),
        (DECAY.replace("<ci>k</ci>",
            "<apply><csymbol encoding='text' definitionURL='http://www.sbml.org/sbml/symbols/delay'>delay</csymbol><ci>k</ci><cn>1</cn></apply>"),
         "reaction r: delay\\(\\)"),
        (lists(Compartments=[compartment()], Species=[species("S")], Reactions=[reaction("r", reference("S"))]), "reaction r has no kinetic law"),
    ],
)  # fmt: skip
def test_what_is_not_supported_names_the_element(inside, message):
    # rules come before reactions in SBML's order
    if "listOfRules" in inside:
        head, _, tail = inside.partition("<listOfReactions>")
        body, _, rules = tail.partition("</listOfReactions>")
        inside = f"{head}{rules}<listOfReactions>{body}</listOfReactions>"
    with pytest.raises(UnsupportedError, match=message):
        load(sbml(inside))


def test_fast_reactions_are_refused():
    text = sbml(DECAY.replace('<reaction id="r"', '<reaction id="r" fast="true"'), version=1)
    with pytest.raises(UnsupportedError, match="reaction r is fast"):
        load(text)


def test_packages():
    plain = sbml(DECAY.replace('<reaction id="r"', '<reaction id="r" fast="false"'), version=1)
    comp = 'xmlns:comp="http://www.sbml.org/sbml/level3/version1/comp/version1" comp:required="true"'
    with pytest.raises(UnsupportedError, match="package 'comp'"):
        load(plain.replace('level="3"', f'{comp} level="3"'))
    layout = 'xmlns:layout="http://www.sbml.org/sbml/level3/version1/layout/version1" layout:required="false"'
    assert load(plain.replace('level="3"', f'{layout} level="3"')).species == ("S",)
    strange = 'xmlns:odd="http://www.sbml.org/sbml/level3/version1/odd/version1" odd:required="true"'
    with pytest.raises((UnsupportedError, SBMLError), match="odd"):
        load(plain.replace('level="3"', f'{strange} level="3"'))


def test_a_circle_of_rules_is_named():
    rules = [f'<assignmentRule variable="{a}">{math(ci(b))}</assignmentRule>' for a, b in ("ab", "ba")]
    text = lists(Parameters=[parameter("a", 1, "false"), parameter("b", 1, "false")], Rules=rules)
    with pytest.raises(SBMLError, match=r"rules define each other in a circle: (a -> b -> a|b -> a -> b)"):
        load(sbml(text))


def test_functions_that_call_themselves():
    both = [f'<functionDefinition id="{f}">{math(f"<lambda><bvar><ci>x</ci></bvar><apply><ci>{g}</ci><ci>x</ci></apply></lambda>")}'
            "</functionDefinition>" for f, g in ("fg", "gf")]  # fmt: skip
    law = math("<apply><ci>f</ci><ci>S</ci></apply>")
    text = lists(FunctionDefinitions=both) + DECAY.replace(times("c", "k", "S"), law)
    with pytest.raises(SBMLError, match="calls itself: f -> g -> f"):
        load(sbml(text))
    foreign = both[0].replace("<ci>g</ci><ci>x</ci>", "<plus/><ci>x</ci><ci>k</ci>")
    with pytest.raises(SBMLError, match="function f names 'k', which is none of its arguments"):
        load(sbml(lists(FunctionDefinitions=[foreign]) + DECAY.replace(times("c", "k", "S"), law)))


HOSTILE = [
    "lambda",
    "import",
    "exec",
    "torch",
    "pack",
    "x",
    "t",
    "p",
    "xs",
    "sin",
    "__import__",
    "None",
    "nan",
    "time",
    "pi",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_identifiers_are_data(name):
    """Keywords, names of the generated code, and names of functions: as parameter and as species."""
    as_parameter = load(
        sbml(DECAY.replace("<ci>k</ci>", f"<ci>{name}</ci>").replace('id="k"', f'id="{name}"'))
    )
    assert as_parameter.rate(0.0, as_parameter.initial_state()).tolist() == [[-3]]
    assert as_parameter.rate(7.0, as_parameter.initial_state(), {name: 2.0}).tolist() == [[-12]]
    swapped = DECAY.replace("<ci>S</ci>", f"<ci>{name}</ci>").replace('"S"', f'"{name}"')
    as_species = load(sbml(swapped))
    assert as_species.species == (name,)
    assert as_species.initial_state(**{name: 2.0}).tolist() == [[2.0]]
    assert as_species.rate(7.0, as_species.initial_state()).tolist() == [[-3]]


def test_division_by_zero_at_the_start_is_no_number():
    law = math("<apply><divide/><ci>k</ci><apply><minus/><ci>S</ci><cn>6</cn></apply></apply>")
    model = load(sbml(DECAY.replace(times("c", "k", "S"), law)))
    assert not model.rate(0.0, model.initial_state()).isfinite().any()
    assert model.rate(0.0, model.initial_state(S=7.0)).tolist() == [[-0.5]]


def test_missing_values_are_asked_for():
    text = sbml(DECAY.replace('value="0.5"', "").replace('initialAmount="6"', ""))
    model = load(text)
    assert model.parameters["k"] != model.parameters["k"]
    with pytest.raises(ValueError, match="gives no value for S, k: give one"):
        model.initial_state()
    assert model.initial_state(S=2.0, k=1.0).tolist() == [[2.0]]
    unused = load(sbml(DECAY.replace("<parameter ", '<parameter id="idle" constant="true"/><parameter ', 1)))
    assert unused.initial_state().tolist() == [[6.0]]


def test_eight_hundred_species():
    names = [f"s{i}" for i in range(800)]
    steps = [
        reaction(f"r{i}", reference(names[i]), reference(names[(i + 1) % 800]), times("c", "k", names[i]))
        for i in range(800)
    ]
    text = lists(
        Compartments=[compartment()], Species=[species(n, i) for i, n in enumerate(names)], Parameters=[parameter("k", 2)],
        Reactions=steps,
    )  # fmt: skip
    model = load(sbml(text))
    rate = model.rate(0.0, model.initial_state(batch=2))
    assert rate.shape == (2, 800)
    assert rate[0, 1:].tolist() == [-2.0] * 799
    assert rate[0, 0].item() == 2 * 799
