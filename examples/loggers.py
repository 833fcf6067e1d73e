"""The loss terms of D³ in TensorBoard, Weights & Biases or MLflow: copy the class that you need.

``attach(..., plugins=[TensorBoardLog(SummaryWriter("runs/d3"))])`` writes every 50th step. Reading
a value makes a GPU wait, so none is read in between. ``d3_plugin.hooks.CSVLog`` needs no library.
"""

import torch
from torch import Tensor

from d3_plugin import hookimpl


def floats(values: dict[str, Tensor]) -> dict[str, float]:
    """Reads all values at once."""
    names = [f"d3/{name}" for name in values]
    return dict(zip(names, torch.stack(list(values.values())).tolist(), strict=True))


class TensorBoardLog:
    """Args: writer: a ``torch.utils.tensorboard.SummaryWriter``; close it after the training."""

    def __init__(self, writer, every=50):
        self.writer, self.every = writer, every

    @hookimpl
    def d3_after_step(self, step: int, values: dict[str, Tensor]) -> None:
        if step % self.every == 0:
            for name, value in floats(values).items():
                self.writer.add_scalar(name, value, step)


class WandbLog:
    """Args: run: what ``wandb.init(...)`` returns. D³'s steps are an axis of their own."""

    def __init__(self, run, every=50):
        self.run, self.every = run, every
        run.define_metric("d3/*", step_metric="d3/step")

    @hookimpl
    def d3_after_step(self, step: int, values: dict[str, Tensor]) -> None:
        if step % self.every == 0:
            self.run.log({**floats(values), "d3/step": step})


class MLflowLog:
    """For inside ``with mlflow.start_run():``."""

    def __init__(self, every=50):
        self.every = every

    @hookimpl
    def d3_after_step(self, step: int, values: dict[str, Tensor]) -> None:
        if step % self.every == 0:
            import mlflow

            mlflow.log_metrics(floats(values), step=step)
