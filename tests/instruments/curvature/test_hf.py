"""The Hugging Face callback in a real Trainer, on a tiny GPT-2 with random weights."""

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)

from unrolled.instruments.curvature.hf import CurvatureCallback, trainer_loss

CONFIG = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 8,
    "n_positions": 16,
    "vocab_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def causal():
    """GPT-2 as released does not name its loss, and the Trainer then counts first labels that are no targets."""
    model = GPT2LMHeadModel(GPT2Config(**CONFIG))
    model.loss_type = "ForCausalLM"
    return model


class Rows(torch.utils.data.Dataset):
    """Token rows whose tails are masked out of the loss: every row counts a different number of labels."""

    def __init__(self, n=16, classes=None):
        rng = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(32, (n, 12), generator=rng)
        self.labels = self.tokens.clone()
        for i in range(n):
            self.labels[i, 3 + i % 8 :] = -100
        self.classes = classes

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        label = self.labels[i] if self.classes is None else torch.tensor(i % self.classes)
        return {"input_ids": self.tokens[i], "labels": label}


def run(folder, callback=None, model=None, rows=None, steps=5, **options):
    torch.manual_seed(0)
    model = model or causal()
    options = {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5, "weight_decay": 0.1, **options}
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        max_steps=steps,
        learning_rate=1e-3,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=1,
        **options,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows or Rows(), callbacks=[callback] if callback else None
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return model, losses


def test_records_in_a_real_trainer_and_bit_identical_training(tmp_path):
    plain, _ = run(tmp_path)
    rows = []
    callback = CurvatureCallback(every=2, sink=rows)
    probed, losses = run(tmp_path, callback)
    for a, b in zip(plain.parameters(), probed.parameters()):
        assert torch.equal(a, b)
    records = callback.probe.records
    assert [r.step for r in records] == [0, 2, 4]
    assert [row["step"] for row in rows] == [0, 2, 4]
    for r in records:
        assert r.status == "ok"
        assert r.loss == pytest.approx(losses[r.step], abs=2e-4)  # the Trainer rounds; dropout masks agree
        assert abs(r.remainder) < 0.2 * abs(r.actual)
        assert r.z_decay.norm > 0
        assert r.count > 4
    assert not probed._forward_pre_hooks or len(probed._forward_pre_hooks) == 1


def test_split_and_models_without_counted_labels(tmp_path):
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(GPT2Config(**CONFIG, num_labels=3))
    callback = CurvatureCallback(every=1, split="exact", method="double_backward")
    _, losses = run(tmp_path, callback, model=model, rows=Rows(classes=3), steps=2)
    assert callback.probe.records[0].groups == (
        "embed",
        "transformer.h.0",
        "transformer.h.1",
        "other",
        "head",
    )
    for r, loss in zip(callback.probe.records, losses):
        assert r.loss == pytest.approx(
            loss / 2, abs=2e-4
        )  # the Trainer adds the means of the two micro-batches
        assert r.count == 4
        assert abs(r.within + r.cross - r.nds) < 1e-6 * abs(r.nds)


def test_bfloat16_autocast(tmp_path):
    callback = CurvatureCallback(every=1)
    _, losses = run(tmp_path, callback, steps=2, bf16=True)
    for r, loss in zip(callback.probe.records, losses):
        assert r.status == "ok"
        assert r.loss == pytest.approx(loss, abs=2e-4)


def test_step_count_goes_on_after_a_resume(tmp_path):
    callback = CurvatureCallback(every=2)
    state = type("State", (), {"global_step": 3})()
    model = causal()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    callback.on_train_begin(None, state, None, model=model, optimizer=optimizer)
    assert not callback.probe.due
    assert callback.probe.steps == 3


def test_trainer_loss_is_the_mean_over_targets():
    torch.manual_seed(0)
    model = causal().eval()
    rows = [{name: value[None] for name, value in Rows()[i].items()} for i in (0, 7)]
    pairs = [trainer_loss(model, {**row, "num_items_in_batch": torch.tensor(99)}) for row in rows]
    assert [int(n) for _, n in pairs] == [2, 9]  # three and ten labels, of which the first is no target
    both = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    mean = sum(s for s, _ in pairs) / sum(n for _, n in pairs)
    assert mean.item() == pytest.approx(model(**both).loss.item(), rel=1e-5)
