"""The Lightning callback in a real Lightning Trainer."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("lightning.pytorch")

import lightning.pytorch as pl

from unrolled.instruments.curvature.lightning import CurvatureCallback


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 3)
        )
        self.losses = []

    def training_step(self, batch, index):
        loss = mean_loss(self, batch)
        self.losses.append(loss.item())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.5)


def mean_loss(model, batch):
    x, y = batch
    return F.cross_entropy(model.net(x).float(), y)


def run(folder, callback=None, steps=6, accumulate=1, precision="32-true", resume=None):
    pl.seed_everything(0, verbose=False)
    rng = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.randn(24, 4, generator=rng), torch.randint(3, (24,), generator=rng)
    )
    model = Net()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.5,
        precision=precision,
        callbacks=[callback] if callback else [],
        default_root_dir=str(folder),
        num_sanity_val_steps=0,
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=4), ckpt_path=resume)
    return model, trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_records_and_bit_identical_training(tmp_path, accumulate, precision):
    plain, _ = run(tmp_path, None, 5, accumulate, precision)
    callback = CurvatureCallback(mean_loss, every=2)
    probed, _ = run(tmp_path, callback, 5, accumulate, precision)
    for a, b in zip(plain.parameters(), probed.parameters()):
        assert torch.equal(a, b)
    records = callback.probe.records
    assert [r.step for r in records] == [0, 2, 4]
    for r in records:
        seen = probed.losses[r.step * accumulate : (r.step + 1) * accumulate]
        assert r.status == "ok"
        assert r.loss == pytest.approx(sum(seen) / accumulate, rel=1e-6)  # the same dropout masks
        assert r.z_decay.norm > 0


def test_state_is_in_the_checkpoint(tmp_path):
    callback = CurvatureCallback(mean_loss, every=2)
    _, trainer = run(tmp_path, callback, 3)
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    again = CurvatureCallback(mean_loss, every=2)
    run(tmp_path, again, 6, resume=tmp_path / "x.ckpt")
    assert [r.step for r in again.probe.records] == [0, 2, 4]
    assert again.probe.records[0].state_dict()["gain"] == callback.probe.records[0].gain
