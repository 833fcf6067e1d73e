"""Training checkpoints: everything that continues a run, in one file."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from d3_plugin.attachment.d3 import D3
from d3_plugin.errors import DataError
from d3_plugin.experiments.files import write_atomically
from d3_plugin.hosts.isolation import global_streams, set_global_streams

_FORMAT = 1


@dataclass
class Checkpoint:
    """A file with a trainer, D³, the global random streams and the step.

    Attributes:
        path: the file.
        trainer: has ``state_dict()``, of types that ``torch.load(weights_only=True)`` reads, and
            ``load_state_dict()``.
        d3: attached to it, or None.
        device: whose random stream the trainer uses beside the CPU's.
        identity: of the run, as JSON types; a checkpoint of another run is refused.
        d3_history: what was recorded of D³ so far; loading replaces its entries.
    """

    path: Path
    trainer: Any
    d3: D3 | None
    device: torch.device
    identity: dict[str, Any]
    d3_history: list[dict[str, float]] = field(default_factory=list)

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
            "d3": None if self.d3 is None else self.d3.state_dict(),
            "d3_history": self.d3_history,
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
            found = state["format"], json.loads(state["identity"]), state["d3"] is None
            if found == (_FORMAT, self.identity, self.d3 is None):
                self.trainer.load_state_dict(state["trainer"])
                if self.d3 is not None:
                    self.d3.load_state_dict(state["d3"])
                self.d3_history[:] = state.get("d3_history", [])  # earlier versions lack it
                set_global_streams(state["random"], self.device)
                return int(state["step"])
            problem = "is the checkpoint of another run"
        except FileNotFoundError:  # none yet, or another command has just finished the run
            return 0
        except Exception as error:  # of zipfile, pickle, torch, and of the trainer's own code
            what = f"{type(error).__name__}: {str(error)[:200]}"
            problem = f"is damaged, or does not fit this trainer ({what})"
        raise DataError(f"{self.path} {problem}; delete it to train from the start")
