"""`unrolled check FILE:NAME`: test a system of one's own against the contract."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from unrolled.cli._console import out, read
from unrolled.runs.config import nearest
from unrolled.runs.study import import_file

HELP = """Test a system of your own against the contract of `unrolled.System`: purity, determinism, shapes, batch,
gradient, save and resume; a line for each.

NAME is a class that needs no arguments, or a function that returns a system. The input is, in this order: --input;
`example_input` of the system; `example_input` of the file; none. Each may be a value or a function without arguments.
Give a batch of at least two rows to have the batch checked.

example:
  unrolled check my_system.py:MySystem
  unrolled check my_system.py:make_system --input two_patterns"""

MARK = {"pass": ("pass", "green"), "fail": ("FAIL", "bold red"), "skip": ("skip", "dim")}


@dataclass(frozen=True)
class Options:
    """Options of `check`."""

    system: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE:NAME", help="a file, and a name in it")
    ]
    input: Annotated[
        str | None, tyro.conf.arg(help="a name in the file: the input, or a function that makes it")
    ] = None
    steps: Annotated[int, tyro.conf.arg(help="steps of each test")] = 4
    seed: Annotated[int, tyro.conf.arg(help="seed of the generators handed to the system")] = 0


def main(argv: Sequence[str]) -> int:
    """The verb."""
    options = read(Options, "check", HELP, argv)
    file, colon, name = options.system.rpartition(":")
    module, name = _open(file, name) if colon else _open(options.system, "")
    system = _build(module, name)
    given = _input(module, system, options.input)
    from unrolled.core import check_system

    checks = check_system(system, given, steps=options.steps, seed=options.seed, raises=False)
    lines = Table.grid(padding=(0, 2))
    for check in checks:
        word, style = MARK[check.status]
        quiet = "dim" if check.status == "skip" else ""
        lines.add_row(Text(word, style=style), check.name, Text(check.detail, style=quiet))
    console = out()
    console.print(lines)
    failed = sum(check.status == "fail" for check in checks)
    verdict = f"{name} breaks {failed} of {len(checks)} clauses" if failed else f"{name} keeps the contract"
    console.print(Text(verdict, style="bold red" if failed else "bold green"))
    return 1 if failed else 0


def _open(file: str, name: str) -> tuple[ModuleType, str]:
    """The imported file, and the name, which exists in it."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"no file {file}: give FILE:NAME, such as my_system.py:MySystem")
    module = import_file(path.resolve())
    if name and hasattr(module, name):
        return module, name
    there = [key for key, value in vars(module).items() if _makes_systems(key, value, module)]
    if not name and there:
        raise ValueError(f"say which system in the file: {file}:{there[0]}")
    told = f"It has {', '.join(there)}" if there else "A system is a class with init and step"
    wanted = f"{name!r}{nearest(name, there)}" if name else "system in it."
    raise ValueError(f"{file} has no {wanted} {told}")


def _makes_systems(name: str, value: Any, module: ModuleType) -> bool:
    if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
        return False
    is_system = all(callable(getattr(value, method, None)) for method in ("init", "step"))
    return is_system or (inspect.isfunction(value) and name.startswith("make"))


def _build(module: ModuleType, name: str) -> Any:
    """The system: what the name is, or what calling it without arguments gives."""
    found = getattr(module, name)
    if not callable(found) or (hasattr(found, "step") and not isinstance(found, type)):
        return found
    required = [
        p.name
        for p in inspect.signature(found).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if required:
        words = ", ".join(f"{each}=..." for each in required)
        raise ValueError(
            f"{name} needs arguments ({', '.join(required)}). Add a function without any to the file,\n"
            f"  def make_system(): return {name}({words})\n"
            f"and check that: unrolled check {Path(str(module.__file__)).name}:make_system"
        )
    try:
        return found()
    except Exception as error:
        raise ValueError(f"{name}() raised {type(error).__name__}: {error}") from error


def _input(module: ModuleType, system: Any, name: str | None) -> Any:
    if name is not None:
        if not hasattr(module, name):
            names = [key for key in vars(module) if not key.startswith("_")]
            raise ValueError(f"{Path(str(module.__file__)).name} has no {name!r}{nearest(name, names)}")
        found = getattr(module, name)
    else:
        found = getattr(system, "example_input", getattr(module, "example_input", None))
    return found() if callable(found) else found
