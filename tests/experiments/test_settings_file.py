"""Settings files: what they say, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from d3_plugin import InputError
from d3_plugin.experiments.settings_file import SettingsFile, read_settings


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"adapter": "a", "host": {"lr": 1}, "tuned": {"data": "x"}, "note": "n"}')
    assert read_settings(path) == SettingsFile("a", "n", {"lr": 1}, {}, {"data": "x"})
    path.write_text("{}")
    assert read_settings(path) == SettingsFile()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{lr: 1}", "cannot be read as a JSON object.*line 1"),
        ("[1]", "cannot be read as a JSON object"),
        (
            json.dumps({"hosts": {}, "host": [1], "adapter": {}}),
            r"(?s)no setting 'hosts'; did you mean 'host'.*host must be a dict, got \[1\].*"
            r"adapter must be a str or None, got {}",
        ),
    ],
)
def test_bad_files(tmp_path: Path, content: str, match: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(InputError, match=match):
        read_settings(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json' cannot be read"):
        read_settings(tmp_path / "absent.json")
