"""Training checkpoints: everything needed to resume a training, in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import first_misfits
from d3_plugin.errors import DataError
from d3_plugin.files import write_atomically
from d3_plugin.hosts.isolation import global_streams, set_global_streams
from d3_plugin.report.rows import History


class _Content(TypedDict):
    """Content of the file; ``trainer`` and ``d3s`` hold what ``load_state_dict`` takes."""

    step: int
    trainer: dict[str, Any]
    d3s: list[dict[str, Any]]
    histories: list[History]
    random: dict[str, Any]


@dataclass
class Checkpoint:
    """A file with a trainer, the D³ attached to it, the global random streams and the step.

    Attributes:
        path: the file.
        trainer: has ``state_dict()``, of types that ``torch.load(weights_only=True)`` reads, and
            ``load_state_dict()``.
        d3s: attached to it.
        device: whose random stream the trainer uses beside the CPU's.
        histories: what was recorded of each D³ so far; loading replaces the entries.
    """

    path: Path
    trainer: Any
    d3s: Sequence[D3]
    device: torch.device
    histories: Sequence[History] = ()

    def save(self, step: int) -> None:
        """Write the file, whole or not at all.

        Args:
            step: the trainer's last finished step.

        Raises:
            StorageError: it cannot be written; a file that was there is unchanged.
        """
        content: _Content = {
            "step": step,
            "trainer": self.trainer.state_dict(),
            "d3s": [d3.state_dict() for d3 in self.d3s],
            "histories": list(self.histories),
            "random": global_streams(self.device),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self.path, buffer.getvalue())

    def load(self) -> int:
        """Put a new trainer, D³ and the random streams where the saved ones were.

        Returns:
            The step to continue after, for ``trainer.fit(start=...)``; 0 if there is no file.

        Raises:
            DataError: the file is damaged, or does not fit the trainer. Trainer and
                random streams may be changed then: start with new ones.
        """
        content = self._read()
        if content is None:
            return 0
        if content["step"] < 1 or not {"cpu", "numpy", "python"} <= content["random"].keys():
            raise self._unusable("is damaged: step is not positive, or random lacks a stream")
        part = "trainer"
        try:
            self.trainer.load_state_dict(content["trainer"])
            history = getattr(self.trainer, "history", [])
            if misfits := first_misfits(history, History, "history"):
                raise ValueError(misfits)
            part = "d3s"
            for d3, state in zip(self.d3s, content["d3s"], strict=True):
                d3.load_state_dict(state)
            part = "histories"
            for history, entries in zip(self.histories, content["histories"], strict=True):
                history[:] = entries
            part = "random"
            set_global_streams(content["random"], self.device)
        except Exception as error:  # of the trainer's own code
            raise self._unusable(f"does not fit this trainer: {part} ({_short(error)})") from error
        return content["step"]

    def _read(self) -> _Content | None:
        """What the file holds; None if there is none."""
        if self.path.exists() and not self.path.is_file():  # reading a FIFO would wait for ever
            raise DataError(f"{self.path} is not a file; remove it")
        try:
            content: _Content = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:  # none yet, or another command has just finished the run
            return None
        except Exception as error:  # of zipfile, pickle and torch
            raise self._unusable(f"is damaged ({_short(error)})") from error
        if misfits := first_misfits(content, _Content):
            raise self._unusable(f"is damaged: {misfits}")
        return content

    def _unusable(self, why: str) -> DataError:
        return DataError(f"{self.path} {why}; delete it to train from the start")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
