"""docs/tools/profile_run.py finds the functions that it watches."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "tools" / "profile_run.py"


def test_it_watches_functions_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("profile_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    watch = script.watch

    def watched(owner: ModuleType | type, name: str, *counted: object) -> None:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # restored afterwards
        watch(owner, name, *counted)

    monkeypatch.setattr(script, "watch", watched)
    monkeypatch.setattr(script, "execute", lambda *run, steps: sum(range(10**5)))
    monkeypatch.setattr("sys.argv", ["profile_run", "digits", "fclswgan,diffusion"])
    script.main()
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert rows[-1] == "diffusion"
