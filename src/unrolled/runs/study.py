"""A study is one file: a config, its presets, what it does, its figures, and the paper it answers to.

    @dataclass(frozen=True)
    class Config:                                    # first fields: preset: str, seed: int
    def tiny() -> Config                             # and small(), paper()
    def study(config: Config, run: Run) -> list[Claim]
    def figures(run: Run) -> dict[str, Figure]       # optional; reads the run folder only
    PAPER                                            # optional: title, arXiv, BibTeX

The package's own are the files in `unrolled/studies` whose names do not start with `_`; `curvature_text.py` is called
`curvature-text`. Anyone's file is a study by its path.
"""

import ast
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from unrolled.runs.config import nearest

PRESETS = ("tiny", "small", "paper")
FOLDER = Path(__file__).parent.parent / "studies"


class StudyError(ValueError):
    """A study that cannot be found, read or used; the message says how to mend it."""


@dataclass(frozen=True)
class Study:
    """A loaded study.

    Attributes:
        name: as on the command line.
        source: its file.
        module: the imported file.
        own: whether it ships with the package.
    """

    name: str
    source: Path
    module: ModuleType
    own: bool

    @property
    def Config(self) -> type:
        """Its configuration's dataclass."""
        return self.module.Config

    @property
    def run(self) -> Callable[[Any, Any], Any]:
        """Its `study(config, run)`."""
        return self.module.study

    @property
    def presets(self) -> list[str]:
        """Names of the presets it has."""
        return [name for name in PRESETS if callable(getattr(self.module, name, None))]

    @property
    def reference(self) -> str:
        """What `load` takes to find it again: its name, or the path of its file."""
        return self.name if self.own else str(self.source)

    def config(self, preset: str = "tiny") -> Any:
        """The configuration of a preset.

        Raises:
            StudyError: there is no such preset; the nearest is suggested.
        """
        if preset not in self.presets:
            raise StudyError(
                f"study {self.name!r} has no preset {preset!r}{nearest(preset, self.presets)} "
                f"It has {', '.join(self.presets)}"
            )
        made = getattr(self.module, preset)()
        if not isinstance(made, self.Config):
            raise StudyError(f"{self.source}: {preset}() returned {made!r}, which is not a Config")
        return made


def names() -> list[str]:
    """The package's studies, by name."""
    return sorted(
        path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if not path.stem.startswith("_")
    )


def load(reference: str) -> Study:
    """Import a study by name, or by the path of its file.

    Args:
        reference: `"curvature-text"`, or `"./my_study.py"`.

    Raises:
        StudyError: there is none, its file does not import, or something that a study needs is missing.

    Example:
        >>> load("no-such-study")
        Traceback (most recent call last):
        unrolled.runs.study.StudyError: no study 'no-such-study'...
    """
    if reference.endswith(".py") or "/" in reference or "\\" in reference:
        source = Path(reference).expanduser()
        if not source.is_file():
            raise StudyError(
                f"no file {reference}: give the path of a study's .py file, or a name from `unrolled list`"
            )
        source = source.resolve()
        return _checked(source.stem.replace("_", "-"), source, import_file(source), own=False)
    if reference not in names():
        raise StudyError(
            f"no study {reference!r}{nearest(reference, names())} There are {', '.join(names()) or 'none yet'}. "
            "A study of your own is given by its path: ./my_study.py"
        )
    stem = reference.replace("-", "_")
    source = FOLDER / f"{stem}.py"
    try:
        module = importlib.import_module(f"unrolled.studies.{stem}")
    except Exception as error:
        raise _broken(source, error) from error
    return _checked(reference, source, module, own=True)


@dataclass(frozen=True)
class Summary:
    """What can be said of a study without importing it."""

    name: str
    title: str
    paper: str
    presets: list[str]


def summary(name: str) -> Summary:
    """Read a study's first docstring line, its paper's title and its presets from the text of its file.

    Nothing is imported, so a list of studies is quick and survives a broken one.
    """
    source = FOLDER / f"{name.replace('-', '_')}.py"
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        return Summary(name, f"(cannot be read: {error})", "", [])
    title = (ast.get_docstring(tree) or "").partition("\n")[0]
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return Summary(name, title, _paper(tree), [preset for preset in PRESETS if preset in functions])


def _paper(tree: ast.Module) -> str:
    """The arXiv number, or the title, in a literal `PAPER`: a dict, or one imported from a file beside the study."""
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not any(
            isinstance(target, ast.Name) and target.id == "PAPER" for target in node.targets
        ):
            continue
        value = node.value
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
            return _paper_beside(tree, value.value.id)
        if isinstance(value, ast.Dict):
            words = {k.value: v for k, v in zip(value.keys, value.values) if isinstance(k, ast.Constant)}
            for key, before in (("arxiv", "arXiv "), ("title", "")):
                word = words.get(key)
                if isinstance(word, ast.Constant):
                    return f"{before}{word.value}"
    return ""


def _paper_beside(tree: ast.Module, name: str) -> str:
    """The paper in the module that a study calls `name`."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "unrolled.studies":
            for alias in node.names:
                beside = FOLDER / f"{alias.name}.py"
                if (alias.asname or alias.name) == name and beside.is_file():
                    return _paper(ast.parse(beside.read_text(encoding="utf-8")))
    return ""


def import_file(source: Path) -> ModuleType:
    """Import a Python file by its path, as `python file.py` would find its neighbours.

    Raises:
        StudyError: the file does not import; the message gives the file's own error.
    """
    name = f"unrolled_file_{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look a module up by its name; helpers beside the file are found as in a script.
    sys.modules[name] = module
    if str(source.parent) not in sys.path:
        sys.path.append(str(source.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(source, error) from error
    return module


def _broken(source: Path, error: Exception) -> StudyError:
    if isinstance(error, SyntaxError):
        return StudyError(
            f"{error.filename or source}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
        )
    return StudyError(f"{source} cannot be imported: {type(error).__name__}: {error}")


def _checked(name: str, source: Path, module: ModuleType, *, own: bool) -> Study:
    """The study, after a look at what it must have."""
    config = getattr(module, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise StudyError(f"{source} is no study: it needs a frozen dataclass `Config`")
    if not config.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise StudyError(f"{source}: Config must be frozen: @dataclass(frozen=True)")
    if "preset" not in {field.name for field in dataclasses.fields(config)}:
        raise StudyError(
            f"{source}: Config needs a field `preset: str`, the name of the preset it started from"
        )
    if not callable(getattr(module, "study", None)):
        raise StudyError(f"{source} is no study: it needs `def study(config, run) -> list[Claim]`")
    study = Study(name, source, module, own)
    if not study.presets:
        raise StudyError(f"{source}: a study needs at least one preset, `def tiny() -> Config`")
    return study
