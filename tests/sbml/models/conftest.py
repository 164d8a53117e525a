import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `_names`, what the SBML files call things

ARCHIVE = Path(__file__).resolve().parents[4] / "shared" / "data" / "biomodels-sbml.tar.xz"


@pytest.fixture(scope="session")
def biomodels(tmp_path_factory):
    """The folder of SBML files."""
    if not ARCHIVE.is_file():
        pytest.skip(f"needs {ARCHIVE}")
    folder = tmp_path_factory.mktemp("biomodels")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "biomodels"
