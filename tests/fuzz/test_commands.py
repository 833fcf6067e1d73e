"""Flags of the command line: status 2 and a message, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3_plugin.cli import main
from d3_plugin.compare import command
from tests.fuzz.fuzzing import examples

VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["0", "-1", "1e9", "nan", "inf", "9" * 30, "[", "(" * 300, "{[]: 1}", "\0"]),
    st.sampled_from(["cuda:99", "meta", "tpu", "digits-9", "all,all", "--", "-", "=", "a=", "=1"]),
)
NAMES = st.sampled_from(["weight", "form", "epochs", "lr", "steps", "score", "__class__", "", " "])
PAIRS = st.tuples(NAMES, st.sampled_from(["=", "", "==", ":"]), VALUES).map("".join)
FLAGS = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                *("--adapter", "--data", "--seeds", "--jobs", "--device", "--draws", "--preset"),
                *("--backend", "--scheduler", "--nonsense", "-x", "compare", ""),
            ]
        ),
        VALUES,
    ),
    st.tuples(st.sampled_from(["--set", "--host"]), PAIRS),
    st.tuples(VALUES),
)
COMMANDS = st.sampled_from(["compare"] * 9 + ["adapters", "", "comparee"])


class StartedError(Exception):
    """Everything was accepted, and training would begin."""


def test_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def accepted(*args: object, **kwargs: object) -> None:
        raise StartedError

    monkeypatch.setattr(command, "run_all", accepted)
    monkeypatch.delenv("D3_DATA", raising=False)
    count = 0

    @examples(500)
    @given(
        st.sampled_from(["compare"] * 9 + ["adapters", "", "comparee"]), st.lists(FLAGS, max_size=3)
    )
    def attempt(name: str, flags: list[tuple[str, ...]]) -> None:
        nonlocal count
        arguments = [name, *(part for flag in flags for part in flag)]
        if name == "compare":
            arguments += ["--out", str(tmp_path / "out")]
        try:
            status = main(arguments)
        except StartedError:
            return
        except SystemExit as exit_:  # argparse's own
            status = 0 if exit_.code is None else int(exit_.code)
        printed = capsys.readouterr()
        if status == 0:  # --help, adapters
            return
        assert status == 2
        assert printed.err.strip()
        assert "Traceback" not in printed.err
        count += 1

    attempt()
    assert count > 350
