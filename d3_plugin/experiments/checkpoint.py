"""Training checkpoints: everything that continues a run, in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from d3_plugin.attachment.d3 import D3
from d3_plugin.errors import DataError
from d3_plugin.experiments.files import write_atomically
from d3_plugin.hosts.isolation import global_streams, set_global_streams

_FORMAT = 1


def can_checkpoint(trainer: Any) -> bool:
    """Whether a trainer can be stopped and continued: it has a state dict and can load it."""
    return hasattr(trainer, "state_dict") and hasattr(trainer, "load_state_dict")


def save_checkpoint(
    path: Path,
    trainer: Any,
    d3: D3 | None,
    *,
    step: int,
    device: torch.device,
    identity: Mapping[str, Any] | None = None,
) -> None:
    """Write trainer, D³, the global random streams and the step, whole or not at all.

    Args:
        path: the file; one that is there is kept until the new one is complete.
        trainer: has ``state_dict()``, of types that ``torch.load(weights_only=True)`` reads.
        d3: attached to it, or None.
        step: the trainer's last finished step.
        device: whose random stream the trainer uses beside the CPU's.
        identity: of the run, as JSON types; a checkpoint of another run is refused.

    Raises:
        StorageError: it cannot be written; a file that was there is unchanged.
    """
    state = {
        "format": _FORMAT,
        "identity": json.dumps(identity or {}, sort_keys=True),
        "step": step,
        "trainer": trainer.state_dict(),
        "d3": None if d3 is None else d3.state_dict(),
        "random": global_streams(device),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(
    path: Path,
    trainer: Any,
    d3: D3 | None,
    *,
    device: torch.device,
    identity: Mapping[str, Any] | None = None,
) -> int:
    """Put a new trainer, with D³ attached or not, where :func:`save_checkpoint` saw the old one.

    Returns:
        The step to continue after, for ``trainer.fit(start=...)``; 0 if there is no file.

    Raises:
        DataError: the file is damaged, of another run, or does not fit the trainer. Trainer and
            random streams may be changed then: start with new ones.
    """
    remedy = f"delete {path} to train from the start"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same_run = state["format"] == _FORMAT and json.loads(state["identity"]) == (identity or {})
        if same_run and (state["d3"] is None) == (d3 is None):
            trainer.load_state_dict(state["trainer"])
            if d3 is not None:
                d3.load_state_dict(state["d3"])
            set_global_streams(state["random"], device)
            return int(state["step"])
    except FileNotFoundError:  # none yet, or another command in this folder has finished the run
        return 0
    except Exception as error:  # of zipfile, pickle, torch, and of the trainer's own code
        raise DataError(
            f"{path} is damaged, or does not fit this trainer ({type(error).__name__}: "
            f"{str(error)[:200]}); {remedy}"
        ) from error
    raise DataError(f"{path} is the checkpoint of another run; {remedy}")
