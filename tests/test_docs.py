"""The documentation does what it says: every Python block runs, every command exists, every generated page is current.

Blocks of one page share one namespace and one empty working directory. A block with `title="name.py"` is also written
to that file. Of the console blocks, quick commands on files of the page are really run; the others are checked for
verbs, studies, presets, options and targets that exist.
"""

import contextlib
import importlib.util
import io
import linecache
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from unrolled import cli
from unrolled.report import claims_page
from unrolled.runs import study as studies

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ALL = [ROOT / "README.md", *PAGES]
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
CONSOLE = ("console", "bash", "sh", "shell")


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(source):
        indent, language, rest, body = match.groups()
        title = re.search(r'title="([^"]+)"', rest)
        text = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        line = source.count("\n", 0, match.start()) + 2
        found.append(Block(language, title[1] if title else "", line, text))
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory, on the path of imports; what a page imported or switched is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    modules, threads = set(sys.modules), torch.get_num_threads()
    yield tmp_path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[module]
    torch.set_num_threads(threads)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize(
    "page", [page for page in ALL if {"python", "pycon"} & {b.language for b in blocks(page)}], ids=name
)
def test_every_python_block_runs(page, workplace):
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.language == "python":
            run_python(page, block, namespace, workplace)
        elif block.language in CONSOLE:
            for command in commands(block):
                if is_quick(command, workplace):
                    out = io.StringIO()
                    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                        code = cli.main(shlex.split(command)[1:])
                    assert code == 0, f"{name(page)}, line {block.line}: {command}\n{out.getvalue()}"


def run_python(page: Path, block: Block, namespace: dict[str, Any], folder: Path) -> None:
    if block.title:
        (folder / block.title).write_text(block.text, encoding="utf-8")
    # Padded, and known to linecache, so that a traceback shows the line of the page.
    source = "\n" * (block.line - 1) + block.text
    file = name(page)
    linecache.cache[file] = (
        len(source),
        None,
        page.read_text(encoding="utf-8").splitlines(keepends=True),
        file,
    )
    exec(compile(source, file, "exec"), namespace)


def commands(block: Block) -> list[str]:
    """One command a line, without prompt and comment; lines of output have neither verb nor prompt."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.strip()]


def is_quick(command: str, folder: Path) -> bool:
    """`check`, and `run` or `report` of what this page itself has made."""
    words = command.split()
    if words[0] != "unrolled" or len(words) < 2:
        return False
    if words[1] in ("check", "run"):
        file = next((word.partition(":")[0] for word in words[2:] if ".py" in word), None)
        return file is not None and (folder / file).is_file()
    return words[1] == "report" and (folder / "runs").is_dir()


@pytest.mark.parametrize(
    "page", [page for page in ALL if {*CONSOLE} & {b.language for b in blocks(page)}], ids=name
)
def test_every_command_exists(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for block in blocks(page):
        for command in commands(block) if block.language in CONSOLE else []:
            where = f"{name(page)}, line {block.line}: {command}"
            for words in map(str.split, command.split("&&")):
                if words[0] == "make":
                    assert {word for word in words[1:] if "=" not in word} <= set(targets), where
                elif words[0] == "unrolled":
                    check_verb(words[1:], where)
                elif words[0].startswith("python") and words[1] == "-m":
                    assert importlib.util.find_spec(words[2]), where
                elif words[0] in ("python", "torchrun"):
                    assert {word for word in words if word.endswith(".py")} <= {
                        b.title for b in blocks(page)
                    }, where
                else:
                    assert words[0] in ("git", "cd", "pip", "source"), where


def check_verb(words: list[str], where: str) -> None:
    assert words, where
    assert words[0] in cli.VERBS or words[0].startswith("--"), where
    if words[0] in ("run", "sweep"):
        assert words[1].endswith(".py") or words[1] in [*studies.names(), "STUDY"], where
        if "--preset" in words:
            assert words[words.index("--preset") + 1] in studies.PRESETS, where
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.redirect_stderr(help_text):
        own = words[0] in ("debate", "looped", "sbml") or (
            words[0] in ("run", "sweep") and words[1] in studies.names()
        )
        cli.main([words[0], *words[1:2], "--help"] if own else [words[0], "--help"])
    known = set(re.findall(r"--[a-z][a-z0-9-]*", help_text.getvalue())) | {"--help", "--preset", "--seed"}
    used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert used <= known, f"{where}: no option {', '.join(used - known)}"


def test_the_claims_page_is_made_from_the_recorded_claims():
    made = claims_page.page(DOCS / "claims")
    assert (DOCS / "claims.md").read_text(encoding="utf-8") == made, (
        "run: python -m unrolled.report.claims_page"
    )


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(node: Any) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node.values() if isinstance(node, dict) else node
        return [page for child in children for page in pages(child)]

    listed = pages(config["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_to_files_lead_somewhere(page):
    source = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", source):
        if not re.match(r"https?:|mailto:", target):
            assert (page.parent / target).is_file(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", ALL, ids=name)
def test_formulas_are_text(page):
    source = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert not re.search(r"\$\$|\\\(|\\\[[A-Za-z]", source), (
        "TeX needs a script from elsewhere; write the formula in Unicode"
    )


def test_nothing_is_fetched_by_the_site():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^  font: false", config, re.MULTILINE)
    assert not re.search(r"https?://", config)
    assert "repo_url" not in config  # Material asks the host for stars and forks


def test_doctests_in_the_reference_are_code():
    spec = importlib.util.spec_from_file_location("docs_griffe", DOCS / "_griffe.py")
    assert spec is not None
    assert spec.loader is not None
    pytest.importorskip("griffe")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "One.\n\n>>> bare\n1\n\nTwo.\n\nExample:\n    Words:\n\n    >>> inside\n    2\n\nRaises:\n    X: no.\n\n    >>> odd\n    3"
    assert module.adapted(text) == (
        "One.\n\n```pycon\n>>> bare\n1\n```\n\nTwo.\n\nExamples:\n    Words:\n\n    >>> inside\n    2\n\n"
        "Raises:\n    X: no.\n\n    ```pycon\n    >>> odd\n    3\n    ```"
    )


def test_blocks_are_found_and_say_their_language():
    assert len(blocks(DOCS / "add-your-own-system.md")) > 5
    assert not [b for page in ALL for b in blocks(page) if b.language == ""], (
        "say the language of every block"
    )
