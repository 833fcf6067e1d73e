"""Files and folders that are written whole or not at all, also by several processes at once."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from d3_plugin.errors import StorageError

_HOUR = 3600.0


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Raises:
        StorageError: it cannot be written; a file that was there is unchanged.
    """
    with _written_beside(path) as temporary:
        _write_synced(temporary, content)
        os.replace(temporary, path)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files so that a reader, or a crash, never sees a part of them.

    Args:
        folder: does not exist yet, or is empty.
        files: contents by name.

    Raises:
        StorageError: it holds files already, or cannot be written; nothing is changed then.
    """
    with _written_beside(folder) as temporary:
        if folder.exists() and any(folder.iterdir()):
            raise StorageError(f"{folder} exists already; name a new folder")
        temporary.mkdir()
        for name, content in files.items():
            _write_synced(temporary / name, content)
        if folder.exists():  # empty; Windows cannot replace it
            folder.rmdir()
        temporary.rename(folder)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes have left: temporary files that are an hour old."""
    for temporary in folder.glob(".d3-*.tmp"):
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            if time.time() - temporary.stat().st_mtime > _HOUR:
                _remove(temporary)


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A name in the same folder, of a file or folder that takes the place of ``path``.

    Renaming works on NFS too, where locks may not.
    """
    temporary = path.parent / f".d3-{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        except BaseException:
            _remove(temporary)
            raise
    except StorageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: not a valid path
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"cannot write {path}: {reason}; what was there is unchanged. Make room, or choose "
            "another place"
        ) from error


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
