"""Settings files: what ``d3 tune`` writes, and ``--settings`` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d3_plugin.checks import setting_problems
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import InputError


@dataclass(frozen=True)
class SettingsFile:
    """A file for ``--settings``, written by ``d3 tune`` or by hand: a JSON object, all optional.

    Attributes:
        adapter: host family that ``host`` is for.
        note: for human readers.
        host, d3: changes to the settings of the host family and of D³.
        tuned: how ``d3 tune`` chose them; ``data`` is the name or digest of the data.
    """

    adapter: str | None = None
    note: str = ""
    host: dict[str, Any] = field(default_factory=dict)
    d3: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] = field(default_factory=dict)


def read_settings(path: Path) -> SettingsFile:
    """Read a settings file; the names of the host family's settings are not checked here.

    Raises:
        InputError: no such file, no JSON object, or other entries; lists everything wrong.
    """
    subject = f"settings file {str(path)!r}"
    content: Any = {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        problem = "" if isinstance(content, dict) else f"it holds a {type(content).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise InputError(
            f"{subject} cannot be read as a JSON object such as "
            f'{{"adapter": "fclswgan", "host": {{"lr": 1e-4}}}}: {problem}'
        )
    setting_problems(subject, SettingsFile, content).raise_as(InputError)
    file = SettingsFile(**content)
    if not isinstance(file.tuned.get("data", ""), str):
        raise InputError(f"{subject}: tuned.data must be a str, got {file.tuned['data']!r}")
    setting_problems(f"{subject}: d3", D3Settings, file.d3).raise_as(InputError)
    return file
