"""From a file or text to libsbml's document: what is refused before anything is read out of it."""

import os
import re
from pathlib import Path
from typing import Any

from unrolled.core import require
from unrolled.sbml.errors import SBMLError, UnsupportedError

LARGEST = 64 * 2**20
"""Bytes; the largest curated BioModels file has a tenth of it."""

DEEPEST = 1000
"""How deep elements, or parentheses, may nest: libsbml calls itself for each level, until its stack ends."""

_CONTENT = frozenset({"fbc", "layout", "render", "groups", "l3v2extendedmath"})
"""Packages of Level 3 that change no time course; what they add is left out, and the report says so."""

_PICTURES = re.compile(
    r"The L3 package '(layout|render)\w*' cannot be used|Level 3 Version \d Package (layout|render) "
)
"""libsbml's complaints about drawings of a network, which many files hold in an old form: they concern no number."""


def text_of(source: Any) -> tuple[str, str]:
    """(text, name) of a file or of SBML text itself, with everything refused that a parser should not see.

    Raises:
        FileNotFoundError: neither SBML text nor a file.
        SBMLError: too large, not UTF-8, empty, with a document type declaration (which is how entity-expansion attacks
            come), or no SBML at all.
    """
    if isinstance(source, bytes | bytearray):
        data, name = bytes(source), "text"
    elif isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("<"):
        data, name = source.encode("utf-8"), "text"
    else:
        path = Path(os.fspath(source))
        if not path.is_file():
            raise FileNotFoundError(f"no file {str(path)!r}: give the path of an SBML file, or its text")
        if path.stat().st_size > LARGEST:
            raise SBMLError(
                f"{path.name} has {path.stat().st_size / 2**20:.0f} MB; at most {LARGEST // 2**20} MB are read"
            )
        data, name = path.read_bytes(), path.name
    if len(data) > LARGEST:
        raise SBMLError(f"the {name} has {len(data) / 2**20:.0f} MB; at most {LARGEST // 2**20} MB are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SBMLError(
            f"{name} is not in UTF-8, which SBML asks for: {error.reason} at byte {error.start}"
        ) from None
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise SBMLError(f"{name} declares a document type or entities, which SBML never does: refused")
    if "\0" in text:
        raise SBMLError(f"{name} holds NUL characters: no XML")
    root = _nesting(text, name)
    if root != "sbml":
        found = f"its first element is <{root}>" if root else "it holds no element"
        raise SBMLError(f"{name} is no SBML: {found}, expected <sbml>")
    return text, name


_TAG = re.compile(r"""</?(?:[\w.-]+:)?([\w.-]+)(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>""")
_SKIPPED = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>"}


def _nesting(text: str, name: str) -> str:
    """The name of the first element; refuses what nests too deep. One pass, whatever the text."""
    depth, at, root = 0, text.find("<"), ""
    while at >= 0:
        opening = next((sign for sign in _SKIPPED if text.startswith(sign, at)), None)
        if opening is not None:
            end = text.find(_SKIPPED[opening], at + len(opening))
            if end < 0:
                raise SBMLError(f"{name}: {opening} at character {at + 1} does not end")
        else:
            tag = _TAG.match(text, at)
            if tag is None:
                line = text.count("\n", 0, at) + 1
                if not root:
                    return ""
                raise SBMLError(
                    f"{name}, line {line}: a tag is malformed or does not end: {text[at : at + 40]!r}"
                )
            root = root or tag[1]
            depth += -1 if text.startswith("</", at) else not tag[0].endswith("/>")
            if depth > DEEPEST:
                raise SBMLError(f"{name} nests its elements more than {DEEPEST} deep: refused")
            end = tag.end() - 1
        at = text.find("<", end + 1)
    for formula in re.finditer(r"""\sformula\s*+=\s*+("[^"<]*+"|'[^'<]*+')""", text):
        if len(formula[1]) > 100_000 or formula[1].count("(") > DEEPEST:
            raise SBMLError(f"{name} holds a formula of {len(formula[1])} characters, or too deep: refused")
    return root


def read(source: Any) -> Any:
    """Libsbml's document of a file or text, without errors.

    Raises:
        FileNotFoundError: no such file.
        SBMLError: see `text_of`; or libsbml reports an error: the message has its line.
        UnsupportedError: a Level 3 package that changes the mathematics.
        ImportError: libsbml is not installed.
    """
    libsbml = require("libsbml", extra="sbml")
    text, name = text_of(source)
    document = libsbml.readSBMLFromString(text)
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        message = " ".join(error.getMessage().split())
        if error.getSeverity() >= libsbml.LIBSBML_SEV_ERROR and not _PICTURES.search(message):
            raise SBMLError(f"{name}, line {error.getLine()}: {error.getShortMessage()}: {message[:400]}")
    if document.getModel() is None:
        raise SBMLError(f"{name} holds no <model>")
    _packages(document, name, libsbml)
    return document


def _packages(document: Any, name: str, libsbml: Any) -> None:
    """Refuse packages that change what the model means."""
    namespaces = document.getNamespaces()
    for i in range(namespaces.getNumNamespaces()):
        uri, prefix = namespaces.getURI(i), namespaces.getPrefix(i)
        found = re.match(r"http://www\.sbml\.org/sbml/level3/version\d+/(\w+)/version\d+", uri)
        if found is None or found[1] == "core":
            continue
        attributes = document.getPackageRequired(prefix) if document.isSetPackageRequired(prefix) else None
        if found[1] not in _CONTENT and attributes is not False:
            raise UnsupportedError(f"{name} needs the package {found[1]!r}, which is not supported")
