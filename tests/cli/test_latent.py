"""`unrolled latent methods`."""

from unrolled.cli import main
from unrolled.latent import methods


def test_every_method_is_in_the_table(capsys):
    assert main(["latent", "methods"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*methods.names(), "superposition"))
    assert "not here" in said


def test_help_and_mistakes(capsys):
    assert main(["latent"]) == 0
    assert "unrolled latent methods" in capsys.readouterr().out
    assert main(["latent", "methods", "--help"]) == 0
    assert "2604.02029" in capsys.readouterr().out
    assert main(["latent", "method"]) == 2
