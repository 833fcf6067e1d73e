"""Flags and settings files of the command line: status 2 and a message, before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3_plugin.__main__ import main
from d3_plugin.experiments import bench, comparison, tuning
from tests.fuzz.fuzzing import EXAMPLES, examples

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
                *("--backend", "--scheduler", "--nonsense", "-x", "compare", "", "--settings"),
                *("--variants", "--trials", "--cuts", "--seed", "--rounds"),
            ]
        ),
        VALUES,
    ),
    st.tuples(st.sampled_from(["--set", "--host"]), PAIRS),
    st.tuples(VALUES),
)
TRAINING = ["compare", "ablate", "tune"]
COMMANDS = st.sampled_from([*TRAINING * 3, "bench", "bench", "adapters", "", "comparee"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
SETTINGS = st.dictionaries(
    st.sampled_from(["lr", "steps", "weight", "score", "kl_weight", "nonsense"]), JSON, max_size=2
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "adapter": st.one_of(st.just("diffusion"), JSON),
        "host": st.one_of(SETTINGS, JSON),
        "d3": st.one_of(SETTINGS, JSON),
        "tuned": st.one_of(st.dictionaries(st.just("data"), JSON), JSON),
        "hots": JSON,
    },
)


class StartedError(BaseException):
    """Everything was accepted, and training would begin."""


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    def accepted(*args: object, **kwargs: object) -> None:
        raise StartedError

    for module in (comparison, tuning):
        monkeypatch.setattr(module, "run_all", accepted)
    monkeypatch.setattr(bench, "attach", accepted)
    monkeypatch.delenv("D3_DATA", raising=False)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the command ends with status 2 and a message; any exception comes through."""
    try:
        status = main(arguments)
    except StartedError:
        return False
    except SystemExit as exit_:  # argparse's own
        status = 0 if exit_.code is None else int(exit_.code)
    printed = capsys.readouterr()
    if status == 0:  # --help, adapters
        return False
    assert status == 2
    assert printed.err.strip()
    assert "Traceback" not in printed.err
    return True


def beginning(name: str, out: Path) -> list[str]:
    """Of a command line that would train."""
    return [name, "--data", "digits-2", *(["--out", str(out)] if name in TRAINING else [])]


@pytest.mark.usefixtures("untrained")
@EXAMPLES
def test_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    count = 0

    @examples(number)
    @given(COMMANDS, st.lists(FLAGS, max_size=3))
    def attempt(name: str, flags: list[tuple[str, ...]]) -> None:
        nonlocal count
        start = beginning(name, tmp_path) if name in (*TRAINING, "bench") else [name]
        count += refused([*start, *(part for flag in flags for part in flag)], capsys)

    attempt()
    assert count > 0.7 * number


@pytest.mark.usefixtures("untrained")
@pytest.mark.filterwarnings("ignore::d3_plugin.errors.D3Warning")
@EXAMPLES
def test_settings_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    count = 0
    file = tmp_path / "settings.json"

    @examples(number)
    @given(st.sampled_from(TRAINING), st.one_of(FILES, FILES, JSON, st.binary(max_size=20)))
    def attempt(name: str, content: Any) -> None:
        nonlocal count
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        file.write_bytes(text)
        count += refused([*beginning(name, tmp_path), "--settings", str(file)], capsys)

    attempt()
    assert count > 0.6 * number
    file.write_text("[" * 100_000)
    assert refused([*beginning("tune", tmp_path), "--settings", str(file)], capsys)
