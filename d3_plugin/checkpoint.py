"""Training checkpoints: everything that continues a run, in one file."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from d3_plugin.errors import DataError, HostError
from d3_plugin.files import write_atomically
from d3_plugin.isolation import RandomStream
from d3_plugin.wrapper import D3

_FORMAT = 1


def can_checkpoint(trainer: Any) -> bool:
    """Whether a trainer can be stopped and continued: it has ``state_dict``, and its way back."""
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
        path: the file; what is there is kept until the new one is complete.
        trainer: has ``state_dict()``, of types that ``torch.load(weights_only=True)`` reads.
        d3: attached to it, or None.
        step: the trainer's last finished step.
        device: whose random stream the trainer uses beside the CPU's.
        identity: what the run is, as JSON types; a checkpoint of another run is refused.

    Raises:
        StorageError: it cannot be written; the file that was there is as it was.
    """
    state = {
        "format": _FORMAT,
        "identity": json.dumps(identity or {}, sort_keys=True),
        "step": step,
        "trainer": trainer.state_dict(),
        "d3": None if d3 is None else d3.state_dict(),
        "random": RandomStream.of_globals(device).state_dict(),
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
        The step to go on after, for ``trainer.fit(start=...)``; 0 if there is no file.

    Raises:
        DataError: the file is damaged, of another run, or does not fit the trainer. Trainer and
            random streams may be changed then: start with new ones.
    """
    if not path.exists():
        return 0
    remedy = f"delete {path} to train from the start"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']!r}, expected {_FORMAT}")
        found = json.loads(state["identity"])
        step = int(state["step"])
        parts = state["trainer"], state["d3"], state["random"]
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise DataError(
            f"{path} is not a whole checkpoint of this program ({type(error).__name__}: "
            f"{str(error)[:200]}); {remedy}"
        ) from error
    if found != json.loads(json.dumps(identity or {})):
        raise DataError(f"{path} is the checkpoint of another run; {remedy}")
    if (parts[1] is None) != (d3 is None):
        raise DataError(f"{path} was made {'without' if d3 else 'with'} D³; {remedy}")
    try:
        trainer.load_state_dict(parts[0])
        if d3 is not None:
            d3.load_state_dict(parts[1])
    except (RuntimeError, ValueError, KeyError, HostError) as error:
        raise DataError(f"{path} does not fit this trainer ({error}); {remedy}") from error
    stream = RandomStream.of_globals(device)
    stream.load_state_dict(parts[2])
    stream.make_global()
    return step
