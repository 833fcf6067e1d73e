"""Files and folders that are written whole or not at all, also by several processes at once."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from d3_plugin.errors import StorageError

_HOST = re.sub(r"[^\w-]", "-", socket.gethostname())
_TEMPORARY = re.compile(r"\..+\.(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp")
_DAY = 24 * 3600.0


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    The content goes to a temporary file beside it, named after this host and process, which then
    takes the file's name: that works on NFS too, where locks may not. :func:`remove_stale` removes
    what a killed process leaves behind.

    Raises:
        StorageError: it cannot be written; a file that was there is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(write_temporary(path, content), path)
        except FileNotFoundError:
            # Removed as stale by another container with the same host name and other process ids.
            os.replace(write_temporary(path, content), path)
    except (OSError, ValueError) as error:  # ValueError: not a valid path
        raise _unwritable(path, error) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files so that a reader, or a crash, never sees a part of them.

    Args:
        folder: does not exist yet, or is empty.
        files: contents by name.

    Raises:
        StorageError: it holds files already, or cannot be written; nothing is changed then.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder} exists already; name a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(folder)
        temporary.mkdir()
        try:
            for name, content in files.items():
                _write_synced(temporary / name, content)
            if folder.exists():  # empty; Windows cannot replace it
                folder.rmdir()
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except (OSError, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or error
    return StorageError(
        f"cannot write {path}: {reason}; what was there is unchanged. Make room, or choose another "
        "place"
    )


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of processes that have ended.

    Those of this host are removed when no process has their id any more; those of other hosts,
    whose processes are not visible from here, when they are a day old.
    """
    for temporary in folder.glob(".*.tmp"):
        name = _TEMPORARY.fullmatch(temporary.name)
        if name is None:
            continue
        try:
            dead = name["host"] == _HOST and not _is_running(int(name["process"]))
            if dead or time.time() - temporary.stat().st_mtime > _DAY:
                shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        except OSError:  # another process was faster, or it is not ours to remove
            continue


def write_temporary(path: Path, content: bytes) -> Path:
    """Write a file beside ``path`` that :func:`remove_stale` removes when this process is dead."""
    temporary = _temporary(path)
    try:
        _write_synced(temporary, content)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _temporary(path: Path) -> Path:
    unique = f"{_HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name}.{unique}.tmp")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _is_running(process: int) -> bool:
    if os.name == "nt":  # signal 0 would end it there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    return True
