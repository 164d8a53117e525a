import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `sbml_text`, helpers shared by the tests of sbml

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def unpack(name, folder):
    archive = DATA / name
    if not archive.is_file():
        pytest.skip(f"needs {archive}")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def curated(tmp_path_factory):
    """The folder of BioModels files."""
    return unpack("biomodels-sbml.tar.xz", tmp_path_factory.mktemp("biomodels")) / "biomodels"


@pytest.fixture(scope="session")
def suite(tmp_path_factory):
    """The folder of test suite cases."""
    return unpack("sbml-test-suite-odd.tar.xz", tmp_path_factory.mktemp("suite")) / "sbml-test-suite"
