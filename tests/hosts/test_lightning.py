"""A module of PyTorch Lightning: bf16, accumulation, clipping, checkpoints, both optimisations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import d3_plugin
from d3_plugin import D3, HostError
from d3_plugin.data import GZSLData
from tests.toys import SMALL, NoticingGenerator, assert_equal

pl = pytest.importorskip("pytorch_lightning")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::d3_plugin.errors.D3Warning"),
]


class Host(pl.LightningModule):
    """A generator that a fixed critic leads."""

    def __init__(self, data: GZSLData, weight: float | None, mode: str = "loss") -> None:
        super().__init__()
        torch.manual_seed(7)
        self.data, self.weight, self.mode = data, weight, mode
        self.net = NoticingGenerator(5, 12)
        self.critic = nn.Linear(12, 1).requires_grad_(False)
        self.saved: dict[str, Any] | None = None
        self.d3: D3 | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def train_dataloader(self) -> DataLoader[Any]:
        rows = TensorDataset(self.data.train_features, self.data.train_labels)
        return DataLoader(rows, batch_size=16, shuffle=True)

    def on_fit_start(self) -> None:
        if self.weight is not None:
            self.d3 = d3_plugin.attach(
                generator=self.net,
                optimizer=self.optimizers(),
                data=self.data,
                mode=self.mode,
                settings=replace(SMALL, weight=self.weight),
            )
            if self.saved is not None:
                self.d3.load_state_dict(self.saved)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["d3"] = self.d3.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.saved = checkpoint["d3"]  # comes before on_fit_start

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        features, labels = batch
        att = self.data.attributes[labels]
        loss = (self.net(torch.randn_like(att), att) - features).abs().mean()
        loss = loss - self.critic(self.net(torch.randn_like(att), att)).mean()
        if self.d3 is not None and self.mode == "loss":
            loss = loss + self.d3.loss(features=features, labels=labels)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.loss(batch)

    def state(self) -> dict[str, Tensor]:
        state = self.net.state_dict() | {"stream": torch.get_rng_state()}
        return {name: value.clone() for name, value in state.items()}


class ManualHost(Host):
    automatic_optimization = property(lambda self: False, lambda self, value: None)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class Norms(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_zero_grad(self, *args: Any) -> None:
        grads = [p.grad.flatten() for p in args[1].net.parameters() if p.grad is not None]
        if grads:
            self.seen.append(torch.cat(grads).norm().item())


def fit(host: Host, checkpoint: str | None = None, **options: Any) -> Host:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    usual = quiet | {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False}
    trainer = pl.Trainer(**(usual | options))
    trainer.fit(host, ckpt_path=checkpoint)
    return host


@pytest.mark.parametrize("kind", [Host, ManualHost])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_loss_form(toy_data: GZSLData, kind: type[Host], precision: str) -> None:
    alone, zero, host = (
        fit(kind(toy_data, weight), precision=precision) for weight in (None, 0.0, 0.05)
    )
    assert_equal(alone.state(), zero.state())
    assert not torch.equal(zero.net.hidden.weight, host.net.hidden.weight)
    assert host.d3.steps == zero.d3.steps == 5
    assert 0 < host.d3.values["gradient_share"] < 1
    assert host.d3.evaluate().scores.shape == (1, 44, 6)


def test_accumulation_and_clipping(toy_data: GZSLData) -> None:
    norms = Norms()
    options = {"accumulate_grad_batches": 5, "gradient_clip_val": 1e-3}
    host = fit(Host(toy_data, 0.05), callbacks=[norms], max_epochs=2, **options)
    assert host.d3.steps == 10
    assert norms.seen[-1] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", [Host, ManualHost])
def test_hook_form_is_refused_with_advice(toy_data: GZSLData, kind: type[Host]) -> None:
    """Lightning hands a closure to every step, in manual optimisation too."""
    with pytest.raises(HostError, match=r"Lightning.*training_step"):
        fit(kind(toy_data, 0.05, "hook"))


def test_checkpoint_goes_on_where_it_was(toy_data: GZSLData, tmp_path: Path) -> None:
    class Ordered(Host):
        """Seeded in every step: Lightning saves no random streams."""

        def train_dataloader(self) -> DataLoader[Any]:
            rows = TensorDataset(self.data.train_features, self.data.train_labels)
            return DataLoader(rows, batch_size=16)

        def on_train_batch_start(self, *_: Any) -> None:
            torch.manual_seed(self.global_step)

    whole = fit(Ordered(toy_data, 0.05), max_epochs=2)
    options = {"default_root_dir": tmp_path, "enable_checkpointing": True}
    fit(Ordered(toy_data, 0.05), **options)
    (saved,) = tmp_path.rglob("*.ckpt")
    again = fit(Ordered(toy_data, 0.05), str(saved), max_epochs=2)
    assert again.d3.steps == whole.d3.steps == 10
    assert_equal(whole.state(), again.state())
    assert_equal(whole.d3.distiller.state_dict(), again.d3.distiller.state_dict())
