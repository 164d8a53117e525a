r"""What <G,Z> and <Z,HZ> cost: a Taylor pass beside Hessian-vector products, ours and those of named peers.

Run with `python -m benchmarks hvp`. The peers, PyHessian and curvlinops, are measured too when they can be imported
(`--peers` insists on it); to get them without touching the environment:

    pip install --no-deps --target build/peers pyhessian curvlinops-for-pytorch \
        einops einconv linear_operator opt-einsum unfoldNd jaxtyping wadler-lindig tqdm
    PYTHONPATH=build/peers python -m benchmarks hvp --peers

(`--no-deps` matters: left alone they bring torchvision, and with it another torch.)

All methods see one model, one batch and one direction in one process, one after another in every round; the table gives
medians over rounds of each method's time, and of its ratio to what else ran in that round. Each method starts from the
weights, the batch and Z alone and ends with the numbers: the forward pass and the gradient that it needs are counted, and
none of them can take these over from a training step. The jet gives the numbers only, the others the vectors as well.
Second derivatives by autograd need attention spelt out (torch's fused kernels have none), so that is what the first rows
share; the last rows take the model as it trains, with fused attention.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks import _record
from unrolled.instruments.curvature import hvp
from unrolled.instruments.curvature.jet import jet
from unrolled.instruments.curvature.vectors import inner
from unrolled.training import gpt

PEERS = {"pyhessian": "PyHessian", "curvlinops": "curvlinops"}
Values = tuple[float, float, float]
"""L, <G,Z>, <Z,HZ>; NaN for what a method does not give."""


class Logits(nn.Module):
    """The model as the peers want it: `criterion(model(tokens), targets)` with classes on axis 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[batch, length]` to `[batch, vocab, length]`."""
        return self.model(tokens).transpose(1, 2)


def methods(
    model: nn.Module, fused: nn.Module, batch: Any, update: dict[str, torch.Tensor], peers: Sequence[str]
) -> dict[str, Callable[[], Values]]:
    """Name -> what it costs to get the numbers."""
    nan = float("nan")
    params = dict(model.named_parameters())
    z = [update[name] for name in params]

    def dots(loss: float, grads: Any, product: Any) -> Values:
        gain = nan if grads is None else sum(inner(a, b).item() for a, b in zip(grads, z))
        return loss, gain, sum(inner(a, b).item() for a, b in zip(product, z))

    def forward(of: nn.Module) -> Values:
        with torch.no_grad():
            total, count = gpt.loss(of, batch)
        return float(total / count), nan, nan

    def gradient(of: nn.Module) -> Values:
        total, count = gpt.loss(of, batch)
        grads = torch.autograd.grad(total / count, list(of.parameters()))
        return total.item() / count.item(), sum(inner(a, b).item() for a, b in zip(grads, z)), nan

    def ours(method: Any) -> Values:
        loss, grads, product = hvp.hessian_vector_product(
            model, gpt.loss, update, batches=[batch], method=method
        )
        return dots(loss, grads.values(), product.values())

    def taylor(of: nn.Module) -> Values:
        made = jet(of, gpt.loss, update, [batch])
        return made.loss, made.gain, made.quad

    def pyhessian() -> Values:
        from pyhessian import hessian
        from pyhessian.utils import hessian_vector_product

        made = hessian(Logits(model), nn.CrossEntropyLoss(), data=batch, cuda=False)
        product = hessian_vector_product(made.gradsH, made.params, z)
        found = dots(nan, [g.detach() for g in made.gradsH], product)
        for p in params.values():
            p.grad = None  # it hangs on to the graph otherwise
        return found

    def curvlinops() -> Values:
        from curvlinops import HessianLinearOperator

        operator = HessianLinearOperator(
            Logits(model), nn.CrossEntropyLoss(), list(params.values()), [batch], check_deterministic=False
        )
        return dots(nan, None, operator @ z)

    table: dict[str, Callable[[], Values]] = {
        "forward": lambda: forward(model),
        "gradient": lambda: gradient(model),
        "double backward": lambda: ours(hvp.double_backward),
        "forward over reverse": lambda: ours(hvp.forward_over_reverse),
        "jet": lambda: taylor(model),
    }
    table |= {PEERS[name]: {"pyhessian": pyhessian, "curvlinops": curvlinops}[name] for name in peers}
    table |= {
        "forward, fused attention": lambda: forward(fused),
        "gradient, fused attention": lambda: gradient(fused),
        "jet, fused attention": lambda: taylor(fused),
    }
    return table


def measure(length: int, rounds: int, peers: Sequence[str]) -> dict[str, Any]:
    """Times, ratios, peak memory and values of every method on a 4-layer GPT of width 256, 8 sequences of `length`."""
    shape: dict[str, Any] = {"layers": 4, "heads": 4, "width": 256, "context": length, "vocab": 256}
    model, fused = (gpt.GPT(gpt.GPTConfig(**shape, attention=kind)) for kind in ("eager", "sdpa"))
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 256, (8, length + 1), generator=rng)
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    update = {name: 1e-3 * torch.randn(p.shape, generator=rng) for name, p in model.named_parameters()}
    table = methods(model, fused, batch, update, peers)
    times: dict[str, list[float]] = {name: [] for name in table}
    values: dict[str, Values] = {}
    for i in range(rounds + 1):  # the first is a warm-up
        for name, run in table.items():
            start = time.perf_counter()
            values[name] = run()
            if i:
                times[name].append(time.perf_counter() - start)
    exact = jet(model.double(), gpt.loss, {n: z.double() for n, z in update.items()}, [batch])
    model.float()

    def ratio(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(times[name], times[base]))

    rows: dict[str, Any] = {}
    for name, run in table.items():
        before, peak = _record.peak_bytes(run)
        base = ", fused attention" if name.endswith(", fused attention") else ""
        rows[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "forwards": ratio(name, "forward" + base),
            "gradients": ratio(name, "gradient" + base),
            "double_backward_over_it": ratio("double backward", name),
            "extra_peak_mib": (peak - before) / 2**20,
            "relative_error": {
                key: abs(got / want - 1)
                for key, got, want in zip(
                    ("loss", "gain", "quad"), values[name], (exact.loss, exact.gain, exact.quad)
                )
                if got == got
            },
        }
    return {"shape": {**shape, "batch": 8}, "rounds": rounds, "dtype": "float32", "rows": rows}


def markdown(record: dict[str, Any]) -> str:
    """The record as a page."""
    lines = [
        f"# {record['date']}: the cost of <G,Z> and <Z,HZ>",
        "",
        f"{record['hardware']}; {record['threads']} thread(s); torch {record['torch']}; float32. `python -m benchmarks hvp`.",
        "",
        "Bound from counting matrix products: a jet needs 5 per linear layer (and 6 of each product of attention) where a "
        "double backward needs 9: 1.8 times fewer. Every method starts from the weights, the batch and Z: a gradient "
        "already made by the training step saves none of them anything. A jet gives L, <G,Z> and <Z,HZ>; the others also "
        "the vectors G and H[Z].",
    ]
    for found in record["lengths"]:
        shape = found["shape"]
        lines += [
            "",
            f"## {shape['layers']} layers, width {shape['width']}, {shape['batch']} sequences of {shape['context']}",
            "",
            "| method | ms | forwards | gradients | double backward / it | extra peak, MiB | error of <Z,HZ> |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in found["rows"].items():
            error = row["relative_error"].get("quad")
            lines.append(
                f"| {name} | {row['ms']:.0f} | {row['forwards']:.2f} | {row['gradients']:.2f} | "
                f"{row['double_backward_over_it']:.2f} | {row['extra_peak_mib']:.0f} | "
                f"{'' if error is None else f'{error:.0e}'} |"
            )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Measure, print, write a dated record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hvp", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="fail unless PyHessian and curvlinops are there")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(list(argv))
    torch.set_num_threads(options.threads)
    peers = [name for name in PEERS if importlib.util.find_spec(name) is not None]
    missing = [PEERS[name] for name in PEERS if name not in peers]
    if missing:
        how = (__doc__ or "").split("\n\n")[2]
        print(f"without {' and '.join(missing)}; to get them:\n{how}", file=sys.stderr)
        if options.peers:
            return 2
    lengths = [measure(length, options.rounds, peers) for length in options.lengths]
    path = _record.write("hvp", {"peers": [PEERS[name] for name in peers], "lengths": lengths})
    text = markdown(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
