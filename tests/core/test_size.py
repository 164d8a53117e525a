"""The core stays small, and stands on torch, safetensors and the standard library alone."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import unrolled.core

CORE = Path(unrolled.core.__file__).parent
LIMIT = 900
ALLOWED = {"torch", "safetensors", "unrolled"} | set(sys.stdlib_module_names)
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source):
    """Lines with code: no blanks, no comments, no docstrings."""
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            prose |= set(range(node.lineno, node.end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def test_the_count_counts_code():
    assert (
        code_lines(
            '"""Doc."""\n\n# comment\nx = 1  # why\n\n\ndef f():\n    """Doc.\n\n    More."""\n    return (\n        1\n    )\n'
        )
        == 5
    )


def test_the_core_is_small():
    sizes = {path.name: code_lines(path.read_text(encoding="utf-8")) for path in CORE.rglob("*.py")}
    assert len(sizes) >= 9
    assert sum(sizes.values()) < LIMIT, f"{sum(sizes.values())} lines of code: {sizes}"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_by_reading(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            names = [node.module]
        else:
            continue
        for name in names:
            assert name.split(".")[0] in ALLOWED, f"{path.name} imports {name}"
            if name.startswith("unrolled"):
                assert name.startswith("unrolled.core"), (
                    f"{path.name} imports {name}, which stands above the core"
                )


def test_imports_by_importing():
    """Whatever torch brings along does not count; what the core adds to it does."""
    script = """
import sys, torch, safetensors.torch, torch.utils.checkpoint
before = set(sys.modules)
import unrolled.core
for name in sorted({name.split(".")[0] for name in set(sys.modules) - before}):
    print(name)
print("above:", [n for n in sys.modules if n.startswith("unrolled.") and not n.startswith(("unrolled.core", "unrolled._lazy"))])
"""
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    *names, above = made.stdout.split("\n")[:-1]
    assert above == "above: []"
    assert set(names) <= ALLOWED, set(names) - ALLOWED
