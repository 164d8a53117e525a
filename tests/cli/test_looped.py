"""`unrolled looped`: train, be killed, go on, write."""

import json
import signal
import time

import pytest
import torch

from unrolled.looped import LT2
from unrolled.training import checkpoint

SHAPE = ("--width", "16", "--heads", "2", "--loops", "2", "--batch", "2", "--context", "16")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 200)
    return path


def weights(folder):
    return torch.cat([p.flatten() for p in LT2.from_pretrained(folder).parameters()])


def test_train_and_generate(unrolled, text, tmp_path):
    told = unrolled("looped", "train", "--text", text, "--out", "model", "--steps", "6", *SHAPE)
    assert "bits per byte after 6 steps" in told
    assert "unrolled looped generate model" in told
    assert "applied 2 times" in told
    assert {"config.json", "model.safetensors", "training.json", "checkpoints"} <= {p.name for p in (tmp_path / "model").iterdir()}  # fmt: skip
    words = ("looped", "generate", "model", "--prompt", "the q", "--tokens", "20", "--seed", "3")
    first = unrolled(*words)
    assert unrolled.out.startswith("the q")
    assert "tokens per second, 2 loops; memory of the text" in first
    written = unrolled.out
    unrolled(*words)
    assert unrolled.out == written, "same seed, same text"
    unrolled(*words[:-1], "4")
    assert unrolled.out != written
    told = unrolled(*words, "--loops", "3", "--temperature", "0", "--until-settled", "1000")
    assert "2.05 loops per token (2 to 3)" in told, (
        "all but the prompt's own token end as soon as two loops can be compared"
    )


def test_the_same_command_goes_on_and_another_is_refused(unrolled, text):
    words = ("looped", "train", "--text", text, "--out", "model", *SHAPE)
    unrolled(*words, "--steps", "4")
    told = unrolled(*words, "--steps", "4")
    assert "after 4 steps" in told
    assert "tokens per second" not in told, "nothing was left to do"
    told = unrolled(*words, "--steps", "4", "--lr", "0.1", code=2)
    assert "--lr None there, 0.1 here" in told
    assert "choose another --out" in told


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_it_resumes_bit_for_bit(unrolled, process, text, tmp_path, optimizer):
    words = [
        "looped",
        "train",
        "--text",
        str(text),
        "--optimizer",
        optimizer,
        "--steps",
        "60",
        "--accumulate",
        "2",
        *SHAPE,
    ]
    child = process(*words, "--out", "killed")
    folder = tmp_path / "killed" / "checkpoints"
    end = time.monotonic() + 120
    while not checkpoint.steps(folder) and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    reached = max(checkpoint.steps(folder))
    assert 0 < reached < 60
    assert "its training has not ended" in unrolled("looped", "generate", "killed", code=2)
    told = unrolled(*words, "--out", "killed")
    assert "went on from step" in told
    unrolled(*words, "--out", "whole")
    assert torch.equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_bfloat16_muon_and_the_probe(unrolled, text, tmp_path):
    unrolled(
        "looped", "train", "--text", text, "--out", "m", "--steps", "4", "--bf16", "--optimizer", "muon", "--probe", "2", "--pattern",
        "gated_delta,window", *SHAPE,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "m" / "curvature.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2]
    assert all(row["curvature/gain"] > 0 for row in rows)
    assert all(p.dtype == torch.float32 for p in LT2.from_pretrained(tmp_path / "m").parameters())


def test_a_tokenizer_of_ones_own(unrolled, text, tmp_path):
    library = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    words = library.Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        [text.read_text()], trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False)
    )
    words.save(str(tmp_path / "words.json"))
    told = unrolled(
        "looped", "train", "--text", text, "--tokenizer", "words.json", "--out", "m", "--steps", "3", *SHAPE
    )
    assert "bits per byte" not in told
    assert LT2.from_pretrained(tmp_path / "m").config.vocab_size == words.get_vocab_size()
    unrolled("looped", "generate", "m", "--prompt", "the quick", "--tokens", "5", "--temperature", "0")
    assert set(unrolled.out.replace(".", " ").split()) <= set(words.get_vocab()), (
        "whole words, with spaces between"
    )


@pytest.mark.parametrize("part", ["train", "generate"])
def test_each_part_has_help_with_an_example(unrolled, part):
    told = unrolled("looped", part, "--help")
    assert "example: unrolled looped" in told
    assert f"usage: unrolled looped {part}" in told
    assert "train|generate" in unrolled("looped", "--help")


def test_mistakes(unrolled, text, tmp_path):
    assert "there are train, generate" in unrolled("looped", "trian", code=2)
    assert "no model in none" in unrolled("looped", "generate", "none", code=2)
    assert "no such file" in unrolled("looped", "train", "--text", "none.txt", code=2)
    assert "--out" not in [p.name for p in tmp_path.iterdir()]
    assert "the mixers are" in unrolled("looped", "train", "--text", text, "--pattern", "mamba", code=2)
    unrolled("looped", "train", "--text", text, "--out", "m", "--steps", "1", *SHAPE)
    assert "loops is a whole number of at least 1, got 0" in unrolled(
        "looped", "generate", "m", "--loops", "0", code=2
    )
    assert "the prompt is empty" in unrolled("looped", "generate", "m", "--prompt", "", code=2)
    assert "top_p is a probability" in unrolled("looped", "generate", "m", "--top-p", "2", code=2)
    assert "at least 1, got 0" in unrolled("looped", "generate", "m", "--tokens", "0", code=2)
    told = unrolled(
        "looped", "train", "--text", text, "--out", "burst", "--steps", "9", "--lr", "1e30", *SHAPE, code=2
    )
    assert "a smaller --lr" in told
    (tmp_path / "m" / "training.json").write_text("{")
    assert "is damaged" in unrolled("looped", "train", "--text", text, "--out", "m", *SHAPE, code=2)
