"""`unrolled looped train | generate FOLDER`: a looped language model on your text, and what it writes."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.text import Text

from unrolled.cli._console import flow, out, read, say, short

HELP = """Looped language models: the same blocks applied T times, in time linear in the text.

  train             train one on your text; killed, it goes on where it stopped
  generate FOLDER   let it write, as it thinks: tokens appear as they come

example:
  unrolled looped train --text notes.txt --out notes-model
  unrolled looped generate notes-model --prompt "Dear" """

TRAIN = """Train a looped language model. --text is a file or a folder; without it, the source of the Python standard library. The
model reads bytes, or the tokens of --tokenizer, the tokenizer.json of any Hugging Face model.

--pattern says which mixer each layer has: interleaved:4:1 is four gated delta layers, then one of full attention, and so on;
"gated_delta" alone is linear in the length throughout; interleaved:1:1:kda:window names the two. --loops is how often the whole
stack is applied. The smallest preset learns to spell in a minute on two cores.

Killed at any point, the same command goes on and ends with the same model, bit for bit on a CPU. Many processes:
torchrun --nproc-per-node 2 -m unrolled looped train ...

example:
  unrolled looped train --steps 300
  unrolled looped train --text book.txt --preset small --optimizer muon --steps 2000 --out book
  unrolled looped train --text book.txt --pattern gated_delta --loops 2 --tokenizer tokenizer.json --bf16"""

GENERATE = """Continue a text. FOLDER is what `looped train` wrote, or any folder of save_pretrained. The prompt is read once; after
that each token costs the same, however long the text, where all layers are linear.

--loops may differ from training: fewer are faster, and how many are enough is what --until-settled finds out per token: loops end
when the residual stream has moved by less than that. --temperature 0 takes the likeliest token.

example:
  unrolled looped generate model --prompt "def main(" --tokens 200 --temperature 0.7
  unrolled looped generate model --loops 2 --top-p 0.9 --seed 1
  unrolled looped generate model --until-settled 10"""


@dataclass(frozen=True)
class TrainOptions:
    """Options of `looped train`."""

    text: Annotated[
        Path | None, tyro.conf.arg(help="a file or folder; the standard library's source without")
    ] = None
    out: Annotated[Path, tyro.conf.arg(help="where model and checkpoints go")] = Path("looped-model")
    preset: Annotated[
        Literal["tiny", "small", "600m", "1.3b"], tyro.conf.arg(help="the shape to begin with")
    ] = "tiny"
    pattern: Annotated[str | None, tyro.conf.arg(help="mixers of the layers; the preset's without")] = None
    loops: Annotated[int | None, tyro.conf.arg(help="T")] = None
    layers: Annotated[int | None, tyro.conf.arg(help="blocks in the stack")] = None
    width: Annotated[int | None, tyro.conf.arg(help="of the residual stream")] = None
    heads: Annotated[int | None, tyro.conf.arg(help="per mixer")] = None
    tokenizer: Annotated[Path | None, tyro.conf.arg(help="tokenizer.json; bytes without")] = None
    steps: Annotated[int, tyro.conf.arg(help="updates in all")] = 1000
    batch: Annotated[int, tyro.conf.arg(help="sequences per step and process")] = 16
    context: Annotated[int, tyro.conf.arg(help="tokens per sequence")] = 128
    accumulate: Annotated[int, tyro.conf.arg(help="batches per update")] = 1
    optimizer: Annotated[Literal["adamw", "muon"], tyro.conf.arg(help="muon: Muon on matrices, AdamW on the rest")] = "adamw"  # fmt: skip
    lr: Annotated[
        float | None, tyro.conf.arg(help="at its height; 3e-3 for AdamW, 2e-2 for Muon without")
    ] = None
    warmup: Annotated[int | None, tyro.conf.arg(help="steps of rising rate; a twentieth of all without")] = (
        None
    )
    weight_decay: Annotated[float, tyro.conf.arg(help="of matrices")] = 0.1
    clip: Annotated[float, tyro.conf.arg(help="largest gradient norm")] = 1.0
    seed: Annotated[int, tyro.conf.arg(help="of weights and order of the text")] = 0
    held_out: Annotated[float, tyro.conf.arg(help="share of the text to test on")] = 0.05
    bf16: Annotated[bool, tyro.conf.arg(help="autocast to bfloat16; states stay float32")] = False
    compile: Annotated[bool, tyro.conf.arg(help="torch.compile the model")] = False
    shard: Annotated[bool, tyro.conf.arg(help="FSDP2 rather than DDP, for models that do not fit")] = False
    probe: Annotated[
        int, tyro.conf.arg(help="read gain and curvature penalty every so many steps; 0 for never")
    ] = 0
    max_bytes: Annotated[int, tyro.conf.arg(help="of text, at most")] = 2**28
    device: Annotated[str | None, tyro.conf.arg(help="cuda or cpu; a GPU where there is one without")] = None


@dataclass(frozen=True)
class GenerateOptions:
    """Options of `looped generate`."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER", help="a trained model")]
    prompt: Annotated[str, tyro.conf.arg(help='the text to continue; "-" reads standard input')] = "\n"
    tokens: Annotated[int, tyro.conf.arg(help="how many to write")] = 200
    loops: Annotated[int | None, tyro.conf.arg(help="the model's own without")] = None
    temperature: Annotated[float, tyro.conf.arg(help="0 takes the likeliest")] = 0.8
    top_k: Annotated[int | None, tyro.conf.arg(help="among the k likeliest only")] = None
    top_p: Annotated[float | None, tyro.conf.arg(help="among the likeliest that make up p")] = None
    min_p: Annotated[float | None, tyro.conf.arg(help="among those at least p times as likely as the likeliest")] = None  # fmt: skip
    seed: Annotated[int, tyro.conf.arg(help="of the draws")] = 0
    until_settled: Annotated[float | None, tyro.conf.arg(help="end a token's loops below this change")] = None
    device: Annotated[str | None, tyro.conf.arg(help="cuda or cpu; a GPU where there is one without")] = None


def main(argv: Sequence[str]) -> int:
    """The verb."""
    verbs = {"train": (TrainOptions, TRAIN, _train), "generate": (GenerateOptions, GENERATE, _generate)}
    if not argv or argv[0] in ("-h", "--help"):
        out().print(Text("usage: unrolled looped train|generate ...\n", style="bold"))
        print(flow(HELP))
        return 0
    if argv[0] not in verbs:
        raise ValueError(f"unrolled looped has no {argv[0]!r}; there are {', '.join(verbs)}")
    options, text, act = verbs[argv[0]]
    return act(read(options, f"looped {argv[0]}", text, argv[1:]))  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- train

RECORD = "training.json"
"""What a folder was trained with: a resumed run must agree."""

FREE_TO_CHANGE = ("out", "device", "compile", "shard", "probe", "max_bytes")
"""Options that a resumed run may change without becoming another run."""


def _train(options: TrainOptions) -> int:
    from unrolled.training import parallel

    with parallel.init_from_env(options.device) as world:
        return _train_in(options, world)


def _train_in(options: TrainOptions, world: Any) -> int:
    import torch

    from unrolled.looped import LT2, loss
    from unrolled.looped.text import FileTokenizer, tokenizer
    from unrolled.training import corpus, fit, parallel, schedules, validation
    from unrolled.training.progress import Progress

    words = tokenizer(options.tokenizer)
    model_config = config_of(options, words.vocab)
    _agree(options, world.main)
    own = isinstance(words, FileTokenizer)
    text = corpus(
        options.text, encode=words.encode if own else None, vocab=words.vocab, max_bytes=options.max_bytes,
        end=words.end if isinstance(words, FileTokenizer) else 0,
    )  # fmt: skip
    train_text, held_out = text.split(options.held_out)
    plain = LT2(model_config, rng=options.seed)
    count = sum(p.numel() for p in plain.parameters())
    if world.main:
        many = f" in {world.size} processes" if world.size > 1 else ""
        say(
            f"{count:,} parameters, {model_config.layers} layers ({options.pattern or model_config.pattern}), applied "
            f"{model_config.loops} times; {len(train_text):,} tokens of {text.source}{many}"
        )
    model: Any = (parallel.fsdp if options.shard else parallel.ddp)(plain, world)
    optimizer = optimizer_for(options, model)
    if options.compile:
        model = torch.compile(model)
    probe = _probe(options, model, optimizer, loss)
    batches = train_text.batches(
        batch=options.batch, context=options.context, seed=options.seed, rank=world.rank, world=world.size, device=world.device,
    )  # fmt: skip
    test = held_out.batches(
        batch=options.batch,
        context=min(options.context, len(held_out) - 1),
        seed=options.seed,
        device=world.device,
    )
    warmup = max(1, options.steps // 20) if options.warmup is None else options.warmup
    bar = Progress("training")
    begun = time.perf_counter()
    result = fit(
        model, batches, loss, optimizer, steps=options.steps,
        schedule=schedules.cosine(options.steps, warmup=min(warmup, options.steps), floor=0.1),
        accumulate=options.accumulate, clip=options.clip, amp=torch.bfloat16 if options.bf16 else None, probe=probe,
        evaluate=(max(1, options.steps // 5), validation(loss, test, 4)), checkpoint=options.out / "checkpoints",
        progress=bar, log=_log(bar),
    )  # fmt: skip
    bar.close()
    if not result.stop.ok:
        raise ValueError(
            f"training ended: {result.stop}; a smaller --lr, or more --warmup, is the usual cure"
        )
    weights, _ = parallel.state(model, None)
    if world.main:
        _keep(options, model_config, weights, words)
        _tell(options, result, held_out, time.perf_counter() - begun, own)
    return 0


def config_of(options: TrainOptions, vocab: int) -> Any:
    """The model's shape: the preset, with what the options change."""
    from unrolled.looped import LT2Config

    changes: dict[str, Any] = {
        name: value
        for name in ("pattern", "loops", "layers", "width", "heads")
        if (value := getattr(options, name)) is not None
    }
    shape = LT2Config.preset(options.preset, vocab_size=vocab, **changes)
    return dataclasses.replace(shape, context=max(shape.context, options.context))


def optimizer_for(options: TrainOptions, model: Any) -> Any:
    """AdamW, or Muon on the hidden matrices and AdamW on embedding, head, convolutions and everything else."""
    import torch

    from unrolled.looped.train import is_hidden_matrix, parameter_groups

    if options.optimizer == "adamw":
        return torch.optim.AdamW(
            parameter_groups(model, options.weight_decay), lr=options.lr or 3e-3, betas=(0.9, 0.95)
        )
    from unrolled.optim import Muon

    return Muon(
        model.named_parameters(), lr=options.lr or 2e-2, scale="match_rms_adamw", weight_decay=options.weight_decay,
        recipe=is_hidden_matrix, adam_lr=(options.lr or 2e-2) * 0.15, polar_dtype=torch.bfloat16,
    )  # fmt: skip


def _agree(options: TrainOptions, main: bool) -> None:
    """Refuse to go on in a folder of another training; write down this one's options."""
    record = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items() if k not in FREE_TO_CHANGE}  # fmt: skip
    file = options.out / RECORD
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}): delete it, or choose another --out") from error
        if different := [k for k, v in record.items() if before.get(k) != v]:
            told = ", ".join(
                f"--{k.replace('_', '-')} {before.get(k)} there, {record[k]} here" for k in different
            )
            raise ValueError(
                f"{short(options.out)} holds a model trained otherwise: {told}. Repeat the options of then to go on, or choose "
                "another --out"
            )
    elif main:
        from unrolled.runs import atomic

        options.out.mkdir(parents=True, exist_ok=True)
        atomic.write_text(file, json.dumps(record, indent=1) + "\n")


def _probe(options: TrainOptions, model: Any, optimizer: Any, loss: Any) -> Any:
    if not options.probe:
        return None
    from functools import partial

    from unrolled.instruments.curvature import Probe

    file = options.out / "curvature.jsonl"

    def sink(step: int, values: dict[str, Any]) -> None:
        with file.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step, **{k: v for k, v in values.items() if isinstance(v, int | float)}}) + "\n")  # fmt: skip

    # The operators of a looped model have a backward of their own; curvature needs the plain ones.
    return Probe(model, optimizer, partial(loss, eager=True), every=options.probe, sink=sink)


def _log(bar: Any) -> Any:
    def log(**numbers: Any) -> None:
        if "val_loss" in numbers:
            say(f"step {numbers['step']}: held-out loss {numbers['val_loss']:.4f} nats per token")
        elif sys.stderr.isatty():
            bar.log(loss=numbers["loss"], norm=numbers["grad_norm"], per_second=numbers["rate"])

    return log


def _keep(options: TrainOptions, config: Any, weights: dict[str, Any], words: Any) -> None:
    from unrolled.looped import LT2
    from unrolled.looped.text import FileTokenizer
    from unrolled.runs import atomic

    plain = LT2(config)
    plain.load_state_dict(weights)
    plain.save_pretrained(options.out)
    if isinstance(words, FileTokenizer):
        atomic.write_text(options.out / "tokenizer.json", words.path.read_text(encoding="utf-8"))


def _tell(options: TrainOptions, result: Any, held_out: Any, seconds: float, own: bool) -> None:
    last = result.evaluations[-1]["val_loss"]
    bits = "" if own else f", {last / math.log(2):.3f} bits per byte"
    taken = result.step - result.resumed
    rate = sum(result.history["count"][-taken:]) / seconds if taken else 0.0
    lines = [f"held-out loss {last:.4f} nats per token{bits} after {result.step} steps"]
    if taken:
        lines.append(f"{taken} steps in {seconds:.0f} s, {rate:,.0f} tokens per second")
    if result.resumed:
        lines.append(f"went on from step {result.resumed}")
    for line in lines:
        out().print(Text(line))
    out().print(Text.assemble("model: ", (short(options.out), "bold")))
    say(f"go on with: unrolled looped generate {short(options.out)}")


# ---------------------------------------------------------------- generate


def _generate(options: GenerateOptions) -> int:
    import torch

    from unrolled.core import Settled
    from unrolled.looped import LT2
    from unrolled.looped.text import Stream, tokenizer

    if not (options.folder / "config.json").is_file():
        hint = "; its training has not ended" if (options.folder / RECORD).is_file() else ""
        raise FileNotFoundError(
            f"no model in {options.folder}{hint}: unrolled looped train --out {options.folder} makes one"
        )
    if options.tokens < 1:
        raise ValueError(f"--tokens counts what is written and is at least 1, got {options.tokens}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = LT2.from_pretrained(options.folder).to(device)
    own = options.folder / "tokenizer.json"
    words = tokenizer(own if own.is_file() else None)
    if words.vocab > model.config.vocab_size:
        raise ValueError(
            f"the model knows {model.config.vocab_size} tokens, its tokenizer {words.vocab}: put the model's own tokenizer.json into "
            f"{options.folder}"
        )
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    tokens = words.encode(prompt)
    if not len(tokens):
        raise ValueError("the prompt is empty: there is nothing to continue")
    stream, began = Stream(words), time.perf_counter()
    first: list[float] = []

    def show(drawn: Any, step: int) -> None:
        if not first:
            first.append(time.perf_counter())
        write(stream.push(int(drawn[0])))

    write(prompt)
    made = model.generate(
        tokens[None].to(device), options.tokens, loops=options.loops, temperature=options.temperature, top_k=options.top_k,
        top_p=options.top_p, min_p=options.min_p, rng=options.seed, on_token=show,
        until=None if options.until_settled is None else Settled(options.until_settled),
    )  # fmt: skip
    write(stream.end() + "\n")
    ended = time.perf_counter()
    if made.stop.reason == "nonfinite":
        raise ValueError(f"generation ended: {made.stop}")
    many = made.tokens.shape[1] - len(tokens)
    seconds = ended - (first[0] if first else began)
    rate = f"{(many - 1) / seconds:,.0f} tokens per second, " if many > 1 and seconds > 0 else ""
    loops = made.loops.double()
    each = f"{loops.mean():.2f} loops per token ({int(loops.min())} to {int(loops.max())})" if options.until_settled is not None else f"{int(loops.max())} loops"  # fmt: skip
    say(
        f"prompt of {len(tokens)} in {1e3 * ((first[0] if first else ended) - began):.0f} ms, then {rate}{each}; memory of the text "
        f"{made.cache.bytes() / 2**10:,.0f} KiB"
    )
    return 0


def write(text: str) -> None:
    """Text as it comes, to standard output, unchanged."""
    sys.stdout.write(text)
    sys.stdout.flush()
