"""Training checkpoints: everything that continues a run, in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from d3_plugin.attachment.d3 import D3
from d3_plugin.errors import DataError
from d3_plugin.files import write_atomically
from d3_plugin.hosts.isolation import global_streams, set_global_streams

_FORMAT = 2


@dataclass
class Checkpoint:
    """A file with a trainer, the D³ attached to it, the global random streams and the step.

    Attributes:
        path: the file.
        trainer: has ``state_dict()``, of types that ``torch.load(weights_only=True)`` reads, and
            ``load_state_dict()``.
        d3s: attached to it.
        device: whose random stream the trainer uses beside the CPU's.
        identity: of the runs, as JSON types; a checkpoint of others is refused.
        histories: what was recorded of each D³ so far; loading replaces the entries.
    """

    path: Path
    trainer: Any
    d3s: Sequence[D3]
    device: torch.device
    identity: Any
    histories: Sequence[list[dict[str, float]]] = ()

    def save(self, step: int) -> None:
        """Write the file, whole or not at all.

        Args:
            step: the trainer's last finished step.

        Raises:
            StorageError: it cannot be written; a file that was there is unchanged.
        """
        state = {
            "format": _FORMAT,
            "identity": json.dumps(self.identity, sort_keys=True),
            "step": step,
            "trainer": self.trainer.state_dict(),
            "d3s": [d3.state_dict() for d3 in self.d3s],
            "histories": list(self.histories),
            "random": global_streams(self.device),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path, buffer.getvalue())

    def load(self) -> int:
        """Put a new trainer, D³ and the random streams where the saved ones were.

        Returns:
            The step to continue after, for ``trainer.fit(start=...)``; 0 if there is no file.

        Raises:
            DataError: the file is damaged, of another run, or does not fit the trainer. Trainer and
                random streams may be changed then: start with new ones.
        """
        if self.path.exists() and not self.path.is_file():  # reading a FIFO would wait for ever
            raise DataError(f"{self.path} is not a file; remove it")
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if (state["format"], json.loads(state["identity"])) == (_FORMAT, self.identity):
                self.trainer.load_state_dict(state["trainer"])
                for d3, of_d3 in zip(self.d3s, state["d3s"], strict=True):
                    d3.load_state_dict(of_d3)
                for history, entries in zip(self.histories, state["histories"], strict=True):
                    history[:] = entries
                set_global_streams(state["random"], self.device)
                return int(state["step"])
            problem = "is the checkpoint of another run or version"
        except FileNotFoundError:  # none yet, or another command has just finished the run
            return 0
        except Exception as error:  # of zipfile, pickle, torch, and of the trainer's own code
            what = f"{type(error).__name__}: {str(error)[:200]}"
            problem = f"is damaged, or does not fit this trainer ({what})"
        raise DataError(f"{self.path} {problem}; delete it to train from the start")
