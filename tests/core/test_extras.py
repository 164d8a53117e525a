import builtins
import math

import pytest

from unrolled.core import require


def test_require_imports():
    assert require("math", extra="report") is math
    assert require("os.path", extra="report").join("a", "b")


def test_the_error_names_the_command():
    with pytest.raises(ImportError, match=r"this needs 'no_such_package' .*pip install 'unrolled\[sbml\]'"):
        require("no_such_package.part", extra="sbml")


def test_a_package_that_is_broken_says_why(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "json.tool":
            raise ImportError("libfoo.so: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", lambda name: broken(name))
    with pytest.raises(ImportError, match="libfoo.so"):
        require("json.tool", extra="report")
