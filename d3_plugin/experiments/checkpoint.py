"""Training checkpoints: everything that continues a run, in one file."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import check_whole
from d3_plugin.errors import D3Error, DataError, InputError, Problems
from d3_plugin.experiments.files import write_atomically
from d3_plugin.hosts.isolation import global_streams, set_global_streams

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
        InputError: a path, trainer, step or identity that is none.
    """
    path, named = _checked(path, trainer, identity)
    check_whole("save_checkpoint", least=0, step=step)
    state = {
        "format": _FORMAT,
        "identity": named,
        "step": step,
        "trainer": trainer.state_dict(),
        "d3": None if d3 is None else d3.state_dict(),
        "random": global_streams(device),
    }
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
    except Exception as error:  # whatever pickle makes of the trainer's state
        raise InputError(f"the trainer's state_dict() cannot be saved: {error}") from error
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
        InputError: a path, trainer or identity that is none.
    """
    path, named = _checked(path, trainer, identity)
    remedy = f"delete {path} to train from the start"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']!r}, expected {_FORMAT}")
        found = json.loads(state["identity"])
        step = int(state["step"])
        parts = state["trainer"], state["d3"], state["random"]
    except FileNotFoundError:  # or another command in this folder has just finished the run
        return 0
    except Exception as error:  # a broken file makes zipfile, pickle and torch raise anything
        raise DataError(
            f"{path} is not a whole checkpoint of this program ({type(error).__name__}: "
            f"{str(error)[:200]}); {remedy}"
        ) from error
    if found != json.loads(named):
        raise DataError(f"{path} is the checkpoint of another run; {remedy}")
    if (parts[1] is None) != (d3 is None):
        raise DataError(f"{path} was made {'without' if d3 else 'with'} D³; {remedy}")
    try:
        trainer.load_state_dict(parts[0])
        if d3 is not None:
            d3.load_state_dict(parts[1])
        set_global_streams(parts[2], device)
    except Exception as error:  # the trainer's own code reads its part
        what = str(error) if isinstance(error, D3Error) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} does not fit this trainer ({what}); {remedy}") from error
    return step


def _checked(path: Any, trainer: Any, identity: Any) -> tuple[Path, str]:
    """The path, and the identity as JSON."""
    problems = Problems("a checkpoint")
    problems.check(isinstance(path, (str, os.PathLike)), f"its path is a {type(path).__name__}")
    problems.check(
        can_checkpoint(trainer), f"{type(trainer).__name__} has no state_dict and load_state_dict"
    )
    try:
        named = json.dumps({} if identity is None else dict(identity), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        problems.add(f"identity must be of JSON types: {error}")
    problems.raise_as(InputError)
    return Path(path), named
