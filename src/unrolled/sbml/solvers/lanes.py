"""The fast path on a CPU: one fused Dormand-Prince loop in C, a sample per vector lane, compiled for one rate.

The rate is traced to elementwise operations (`_graph.py`) and set into `_lanes.cpp`; the compiler that `torch.compile`
needs on a CPU (g++ or clang) makes a small library of it, kept under the user's cache. `adaptive.py` is the twin that a
test holds it to, step for step.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.sbml.solvers._graph import Unsuitable, write
from unrolled.sbml.solvers.adaptive import Method, Solution, blank, check, resume

FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-w",
    "-x",
    "c++",
)
LARGEST = 400
"""Components above which the straight-line code would take long to compile: the plain path is used."""
LONGEST, INLINE = 6000, 300
"""Lines of a rate that are compiled; lines up to which they are set into each stage."""
PATIENCE = 120
"""Seconds a compiler may take."""


class Lanes:
    """The compiled loop for one rate.

    Args:
        rate: `(t [B], x [B, d], p) -> [B, d]`, elementwise along the batch.
        d: components.
        parameters: columns of p; None: the rate takes none.

    Attributes:
        seconds: how long compiling took; 0 when the library was there already.
        width: samples per vector.

    Raises:
        Unsuitable: the rate is not elementwise, or there is no compiler; the message says which.

    Example:
        >>> Lanes(lambda t, x, p: x - x.mean(0), 2, None)
        Traceback (most recent call last):
        unrolled.sbml.solvers._graph.Unsuitable: aten.mean.dim is not elementwise
    """

    def __init__(self, rate: Callable[[Tensor, Tensor, Any], Tensor], d: int, parameters: int | None) -> None:
        if d > LARGEST:
            raise Unsuitable(f"{d} components; up to {LARGEST} are compiled")
        self.d, self.parameters = d, parameters
        start = time.perf_counter()
        code = write(rate, d, parameters)
        template = Path(__file__).with_name("_lanes.cpp").read_text()
        head = f"#define D {d}\n#define P {parameters or 0}\n#define Q {code.kept}\n"
        if platform.machine() in ("x86_64", "AMD64") and platform.libc_ver()[0] == "glibc":
            head += "#define USE_VECTOR_MATH\n"
        prepare = "static inline void prepare(const vd* p, vd* q) {\n" + code.prepare + "}\n"
        body = (
            "static inline void rate(vd t, const vd* x, const vd* p, const vd* q, vd* dx) {\n"
            + code.rate
            + "}\n"
        )
        self.source = head + template.replace("//PREPARE", prepare).replace("//RATE", body)
        library = _compiled(self.source)
        self.seconds = time.perf_counter() - start
        self._integrate, self._evaluate = library.integrate, library.evaluate
        self._integrate.restype = self._evaluate.restype = None
        self.width = int(library.lane_width())

    def evaluate(
        self, t: Tensor, x: Tensor, p: Tensor | None = None, *, threads: int | None = None
    ) -> Tensor:
        """The rate at a batch of points: what `rate` gives, in one pass.

        Args:
            t: `[B]` or 0-dimensional.
            x: `[B, d]`, float64 on the CPU; fastest when its columns are contiguous.
            p: `[P]`, `[B, P]` or None.
            threads: by default as many as torch uses.
        """
        B = len(x)
        columns = x.detach().mT.contiguous()
        t = t.to(torch.float64).expand(B).contiguous()
        p = None if p is None else p.detach().to(torch.float64)
        stride = B if p is not None and p.ndim > 1 else 0
        p = (
            torch.zeros(1, dtype=torch.float64)
            if p is None
            else p.mT.contiguous()
            if p.ndim > 1
            else p.contiguous()
        )
        out = torch.empty_like(columns)
        self._evaluate(ctypes.c_long(B), _at(t), _at(columns), _at(p), ctypes.c_long(stride), _at(out))
        return out.mT

    def solve(self, rate: Callable[[Tensor, Tensor, Any], Tensor], x0: Tensor, times: Tensor, p: Tensor | None, *,
              method: Method = "auto", rtol: float = 1e-6, atol: float | Tensor = 1e-9,
              max_steps: int = 100_000) -> Solution:  # fmt: skip
        """What `integrate` of `adaptive.py` gives; samples that turn out stiff are taken on by its stiff method."""
        check(x0, times, p, rtol, atol, method)
        if method == "rodas5p":
            raise Unsuitable("only the explicit method is compiled")
        detect = method == "auto"
        found = self.integrate(
            x0, times, p, rtol=rtol, atol=torch.as_tensor(atol), max_steps=max_steps, detect=detect
        )
        code = found["code"]
        left = (code != 0) & (code != 6) if detect else code < 0
        whole = torch.zeros_like(code)
        solution = Solution(
            found["x"], torch.where(left, 0, code), torch.where((code != 0) & ~left, found["t"], torch.nan),
            torch.where(left, -1, found["component"]), found["steps"], found["rejected"],
            torch.full_like(found["t"], torch.nan), whole,
        )  # fmt: skip
        blank(solution, times, (solution.status != 0).nonzero().squeeze(-1), rtol)
        rows = left.nonzero().squeeze(-1)
        if len(rows):
            at = found["t"][rows], found["end"][rows], found["output"][rows]
            resume(rate, times, solution, rows, *at, p=p, rtol=rtol, atol=atol, max_steps=max_steps)
        return solution

    def integrate(self, x0: Tensor, times: Tensor, p: Tensor | None, *, rtol: float, atol: Tensor, max_steps: int,
                  detect: bool, first_step: float | None = None, threads: int | None = None) -> dict[str, Tensor]:  # fmt: skip
        """Integrate a batch; see `integrate` in `adaptive.py` for the meaning of the arguments.

        Returns:
            x `[n, B, d]`, and per sample: code, t, end (where it stands), output (next index), steps, rejected, component.
        """
        B, d = x0.shape
        x0, times = x0.contiguous(), times.contiguous()
        stride = B if p is not None and p.ndim > 1 else 0
        p = (
            torch.zeros(1, dtype=torch.float64)
            if p is None
            else p.mT.contiguous()
            if p.ndim > 1
            else p.contiguous()
        )
        atol = atol.to(torch.float64).expand(d).contiguous()
        whole: dict[str, Any] = {"dtype": torch.int64}
        found = {
            "x": x0.new_full((len(times), B, d), torch.nan), "t": x0.new_zeros(B), "end": x0.new_zeros(B, d),
            "output": torch.zeros(B, **whole), "code": torch.zeros(B, **whole), "steps": torch.zeros(B, **whole),
            "rejected": torch.zeros(B, **whole), "component": torch.zeros(B, **whole),
        }  # fmt: skip
        out = [found[k] for k in ("x", "t", "end", "output", "code", "steps", "rejected", "component")]

        def part(first: int, last: int) -> None:
            self._integrate(
                ctypes.c_long(first), ctypes.c_long(last), ctypes.c_long(B), ctypes.c_long(len(times)), _at(times), _at(x0),
                _at(p), ctypes.c_long(stride), ctypes.c_double(rtol), _at(atol), ctypes.c_long(max_steps),
                ctypes.c_long(detect), ctypes.c_double(first_step or 0.0), *(_at(tensor) for tensor in out),
            )  # fmt: skip

        threads = max(1, min(threads or torch.get_num_threads(), B // (2 * self.width)))
        if threads == 1:
            part(0, B)
        else:
            # Twice as many parts as threads: parts differ in work.
            size = -(-B // (2 * threads))
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda i: part(i, min(i + size, B)), range(0, B, size)))
        return found


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _compiled(source: str) -> ctypes.CDLL:
    """The library of this source, compiled unless the cache has it."""
    compiler = next((c for c in (os.environ.get("CXX"), "g++", "clang++") if c and shutil.which(c)), None)
    if compiler is None:
        raise Unsuitable("no C++ compiler (g++ or clang++) is on the path")
    machine = platform.machine() + platform.processor() + _cpu_flags()
    key = hashlib.sha256("\n".join((source, compiler, machine, *FLAGS)).encode()).hexdigest()[:32]
    folder = _cache()
    target = folder / f"{key}.so"
    if not target.is_file():
        scratch = folder / f".{key}.{os.getpid()}.part"
        command = [compiler, *FLAGS, "-o", str(scratch), "-", "-x", "none", "-lm"]
        try:
            made = subprocess.run(
                command, input=source, text=True, capture_output=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired as error:
            raise Unsuitable(f"{compiler} took longer than {PATIENCE} s") from error
        if made.returncode:
            scratch.unlink(missing_ok=True)
            raise Unsuitable(f"{compiler} failed: {made.stderr.strip()[-500:]}")
        os.replace(scratch, target)
    return ctypes.CDLL(str(target))


def _cache() -> Path:
    """A folder that is this user's alone: what is loaded from it is executed."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unrolled" / "lanes"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if root.stat().st_uid == os.getuid() and os.access(root, os.W_OK):
            return root
    except OSError:
        pass
    global _scratch
    if _scratch is None:
        _scratch = Path(tempfile.mkdtemp(prefix="unrolled-lanes-"))
    return _scratch


_scratch: Path | None = None


def _cpu_flags() -> str:
    try:
        return next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
        )
    except (OSError, StopIteration):
        return ""
