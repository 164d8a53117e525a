"""Run the benchmarks: `python -m benchmarks [NAME ...] [--options of one]`, all of them by default."""

import importlib
import pkgutil
import sys

import benchmarks

NAMES = [
    module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
]


def main() -> int:
    words = sys.argv[1:]
    wanted = [word for word in words if not word.startswith("-")] or NAMES
    options = [word for word in words if word.startswith("-")]
    if options and len(wanted) != 1:
        print(f"options ({' '.join(options)}) belong to one benchmark: name it", file=sys.stderr)
        return 2
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
