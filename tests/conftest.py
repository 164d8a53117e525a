import os
import sys

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
# Two workers on two cores: threads of their own would fight, and so would those of the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
