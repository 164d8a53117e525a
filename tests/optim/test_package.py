import subprocess
import sys

import unrolled as un


def test_public_names() -> None:
    assert un.optim.gpt is un.training.gpt
    for name in ("sgd", "adam", "muon", "Muon"):
        assert callable(getattr(un.optim, name)), name
    assert un.optim.theory.Quadratic is not None
    assert un.optim.data.zipf_pcfg is not None
    assert set(un.optim.polar.METHODS) == {"svd", "ns5", "polar_express", "ns12"}
    assert {"Muon", "adam", "gpt", "muon", "polar", "sgd", "theory"} <= set(dir(un.optim))


def test_a_submodule_does_not_take_the_place_of_a_public_name() -> None:
    """Importing the modules behind them leaves `optim.muon` the function and `optim.Muon` the class."""
    code = (
        "import unrolled.optim.optimizer, unrolled.optim.systems, unrolled.optim.data, unrolled.optim.theory\n"
        "from unrolled import optim\n"
        "assert isinstance(optim.Muon, type) and not isinstance(optim.muon, type(optim)), optim.muon\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
