"""`fetch`: a curated model of BioModels by its identifier, for users with a network; kept on disk afterwards."""

import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from unrolled.sbml._load import load
from unrolled.sbml.document import LARGEST, text_of
from unrolled.sbml.model import Model

ADDRESS = "https://www.ebi.ac.uk/biomodels/model/download/{name}?filename={name}_url.xml"
"""Where BioModels hands out the main file of a model."""


def cache() -> Path:
    """The folder where fetched files are kept: `$UNROLLED_CACHE/biomodels`, else `~/.cache/unrolled/biomodels`."""
    root = (
        os.environ.get("UNROLLED_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unrolled"
    )
    return Path(root).expanduser() / "biomodels"


def fetch(name: str, *, timeout: float = 30.0, **options: Any) -> Model:
    """Download a model of BioModels, once, and load it.

    Args:
        name: `"BIOMD0000000012"`, or its number alone: `"12"`.
        timeout: seconds to wait for the server.
        options: of `Model`: `dtype`, `device`, `dt`.

    Raises:
        ValueError: no identifier of a curated model.
        ConnectionError: there is no network, or the server has no such model; the message says how to go on without.
        SBMLError: as `unrolled.sbml.load`.

    Example:
        >>> fetch("the repressilator")
        Traceback (most recent call last):
        ...
        ValueError: 'the repressilator' is no identifier of BioModels: give one like 'BIOMD0000000012'
    """
    found = re.fullmatch(r"(?:BIOMD)?0*(\d{1,10})", str(name).strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{name!r} is no identifier of BioModels: give one like 'BIOMD0000000012'")
    full = f"BIOMD{int(found[1]):010d}"
    kept = cache() / f"{full}.xml"
    if not kept.is_file():
        data = _download(ADDRESS.format(name=full), full, timeout)
        text_of(data)  # refuses an error page before it is kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f".{kept.name}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            os.replace(part, kept)
        finally:
            part.unlink(missing_ok=True)
    return load(kept, **options)


def _download(address: str, name: str, timeout: float) -> bytes:
    advice = f"download {name} from https://www.ebi.ac.uk/biomodels/{name} elsewhere, and give its path to sbml.load"
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            return answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"BioModels has no file of {name} (HTTP {error.code}); {advice}") from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"BioModels cannot be reached ({reason}); {advice}") from None
