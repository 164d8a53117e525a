"""SBML text for tests, in a few words."""

MATH = 'xmlns="http://www.w3.org/1998/Math/MathML"'


def math(body):
    return f"<math {MATH}>{body}</math>"


def ci(*names):
    return "".join(f"<ci>{n}</ci>" for n in names)


def times(*names):
    return math(f"<apply><times/>{ci(*names)}</apply>")


def sbml(inside, level=3, version=2):
    core = {
        3: f"http://www.sbml.org/sbml/level3/version{version}/core",
        2: f"http://www.sbml.org/sbml/level2/version{version}",
        1: "http://www.sbml.org/sbml/level1",
    }[level]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<sbml xmlns="{core}" level="{level}" version="{version}"><model id="m">{inside}</model></sbml>'


def compartment(id="c", size=1, constant="true"):
    return f'<compartment id="{id}" size="{size}" spatialDimensions="3" constant="{constant}"/>'


def species(
    id, amount=1, hosu="false", boundary="false", constant="false", where="c", more="", kind="Amount"
):
    return (
        f'<species id="{id}" compartment="{where}" initial{kind}="{amount}" hasOnlySubstanceUnits="{hosu}" '
        f'boundaryCondition="{boundary}" constant="{constant}" {more}/>'
    )


def parameter(id, value=1, constant="true"):
    given = "" if value is None else f'value="{value}"'
    return f'<parameter id="{id}" {given} constant="{constant}"/>'


def reference(species, n=1, constant="true", id=""):
    named = f'id="{id}" ' if id else ""
    return f'<speciesReference {named}species="{species}" stoichiometry="{n}" constant="{constant}"/>'


def reaction(id, reactants="", products="", law="", local="", more=""):
    left = f"<listOfReactants>{reactants}</listOfReactants>" if reactants else ""
    right = f"<listOfProducts>{products}</listOfProducts>" if products else ""
    inner = f"<listOfLocalParameters>{local}</listOfLocalParameters>" if local else ""
    rate = f"<kineticLaw>{law}{inner}</kineticLaw>" if law else ""
    return f'<reaction id="{id}" reversible="false" {more}>{left}{right}{rate}</reaction>'


def lists(**groups):
    return "".join(
        f"<listOf{kind}>{''.join(items)}</listOf{kind}>" for kind, items in groups.items() if items
    )


DECAY = lists(
    Compartments=[compartment()],
    Species=[species("S", 6)],
    Parameters=[parameter("k", 0.5)],
    Reactions=[reaction("r", reference("S"), law=times("c", "k", "S"))],
)
