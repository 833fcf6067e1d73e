"""Files that ``--settings`` reads: written by ``d3 tune``, or by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d3_plugin.errors import InputError, Problems

_KINDS = {"adapter": str, "note": str, "host": dict, "d3": dict, "tuned": dict}


@dataclass(frozen=True)
class SettingsFile:
    """Content of a settings file.

    Attributes:
        adapter: host family that ``host`` is for.
        host, d3: changes to the settings of the host family and of D³.
        data: name or digest of the data that ``d3 tune`` chose them on; empty if it did not.
    """

    adapter: str | None = None
    host: dict[str, Any] = field(default_factory=dict)
    d3: dict[str, Any] = field(default_factory=dict)
    data: str = ""


def read_settings(path: Path) -> SettingsFile:
    """Read a settings file: a JSON object of ``adapter``, ``host`` and ``d3``, each optional.

    Names and values of the settings are not checked here. ``note`` is for human readers;
    ``tuned`` says how ``d3 tune`` chose.

    Raises:
        InputError: no such file, no JSON, or other entries; lists everything wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: encoding, JSON, path
        raise InputError(f"settings file {str(path)!r} cannot be read: {error}") from error
    problems = Problems(f"settings file {str(path)!r}")
    if not isinstance(content, dict):
        content = {}
        problems.add('must hold an object such as {"adapter": "fclswgan", "host": {"lr": 1e-4}}')
    for key, value in content.items():
        if key not in _KINDS:
            problems.add(f"no entry {key!r}; there are {', '.join(_KINDS)}")
        elif not isinstance(value, _KINDS[key]):
            kind = "a string" if _KINDS[key] is str else "an object of names and values"
            problems.add(f"{key} must be {kind}, got {value!r}")
    problems.raise_as(InputError)
    return SettingsFile(
        content.get("adapter"),
        content.get("host", {}),
        content.get("d3", {}),
        str(content.get("tuned", {}).get("data", "")),
    )
