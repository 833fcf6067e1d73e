"""The command line: exit statuses and messages."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from d3_plugin import D3Settings
from d3_plugin.__main__ import main, parse, parse_settings
from d3_plugin.errors import D3Warning
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.flags import command_line
from d3_plugin.experiments.options import RunOptions
from tests.data.mat_folders import make
from tests.experiments.tiny import ARGUMENTS, FLAGS

TINY = ["compare", "--seeds", "1", *FLAGS]


def request(*arguments: str) -> RunOptions:
    """What these command-line arguments add up to."""
    given = parse(arguments)
    del given["traceback"]
    return given.pop("run").options(**given)  # type: ignore[no-any-return]


def test_compare_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--out", str(tmp_path)]) == 0
    out, error = capsys.readouterr()
    assert "| baseline + calibrated stacking " in out
    assert str(tmp_path / "report.html") in out
    assert "fclswgan-seed0-test-d3" in out
    assert error == "", "no progress bar in a log"


def test_every_built_in_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--adapter", "all", "--data", "digits-2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for adapter in ("diffusion", "fclswgan", "tfvaegan"):
        assert f"{adapter} on digits-2, 1 seed\n" in out
    assert (tmp_path / "report.html").read_text().count("<h2>") == 5


def test_released_preset(tmp_path: Path) -> None:
    assert main([*TINY, "--preset", "released", "--out", str(tmp_path)]) == 0
    assert '"kl_form": "double_softmax"' in (tmp_path / "results.json").read_text()


def test_released_formulas_as_a_further_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY, "--variants", "default,released", "--out", str(tmp_path)]
    assert main([*arguments, "--set", "seen_offset=0.2"]) == 0
    assert "| +D³ (released formulas)" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["released"]["kl_form"] == "double_softmax"
    assert results["settings"]["d3"]["kl_form"] == "logits"
    of = {variant: results["settings"][variant] for variant in ("d3", "released")}
    assert [of[v]["embedding_dim"] for v in of] == [8, 8]
    assert [of[v]["seen_offset"] for v in of] == [0.2, 0.0], "released: as it scores"
    assert [r["split"] for r in results["runs"] if r["variant"] == "released"] == ["test"]


def test_tuned_settings_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned, out = tmp_path / "tuned.json", tmp_path / "comparison"
    arguments = [*FLAGS, "--trials", "1", "--cuts", "2", "--set", "od_weight=0.7"]
    assert main(["tune", *arguments, "--data", "digits-2", "--out", str(tmp_path)]) == 0
    assert "d3 compare --settings" in capsys.readouterr().out
    command = ["compare", "--seeds", "1", "--draws", "1", "--data", "digits-2", "--out", str(out)]
    assert main([*command, "--settings", str(tuned), "--set", "kl_weight=0.5"]) == 0
    settings = json.loads((out / "results.json").read_text())["settings"]
    assert settings["hosts"]["fclswgan"]["steps"] == 3
    assert (settings["d3"]["od_weight"], settings["d3"]["kl_weight"]) == (0.7, 0.5)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(
        '{"adapter": "diffusion", "host": {"lr": 0.1, "steps": 5}, '
        '"d3": {"weight": 2, "temperature": 3}}'
    )
    command = ["ablate", "--settings", str(path), "--host", "lr=0.2", "--set", "weight=3"]
    chosen = request(*command)
    assert list(chosen.hosts) == ["diffusion"]
    assert chosen.host_changes == {"lr": 0.2, "steps": 5}
    assert (chosen.hosts["diffusion"]["lr"], chosen.d3_settings.weight) == (0.2, 3)
    assert chosen.released == D3Settings.released(weight=3), "only the flags change it"
    assert main([*command, "--adapter", "all", "--out", str(tmp_path)]) == 2


def test_the_reported_command_has_the_preset_and_gives_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"adapter": "diffusion", "host": {"steps": 5}, "d3": {"temperature": 3}}')
    changes = ["--set", "student_lr=2e-4", "--host", "lr=0.2", "--settings", str(path)]
    presets = ["--preset", "end-to-end", "--variants", "default,released"]
    chosen = request("compare", "--data", "digits-2", *presets, *changes)
    command = command_line(chosen, "digits-2")
    assert " --preset end-to-end " in command
    assert "weight=" not in command, "the preset says it"
    again = request(*shlex.split(command)[1:])
    assert (again.d3_settings, again.hosts) == (chosen.d3_settings, chosen.hosts)
    assert again.released == chosen.released, "also where a change is the default of the others"


def test_settings_chosen_on_other_data_warn(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_text('{"tuned": {"data": "digits-1"}}')
    arguments = ["compare", "--settings", str(path), "--data"]
    request(*arguments, "digits-1").first_runs()
    with pytest.warns(D3Warning, match="chosen on other data than 'digits'"):
        request(*arguments, "digits").first_runs()


def test_tune_has_defaults_that_it_accepts() -> None:
    chosen = request("tune")
    assert list(chosen.hosts) == ["fclswgan"]


def test_settings_are_listed_with_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--adapter", "fclswgan"]) == 0
    out = capsys.readouterr().out
    count = "(at least 1)"
    assert f"  embedding_dim=1024 {count}: K, width of the embeddings of teacher and st" in out
    assert "  od_target=domain (domain | class): of L_od, see O2DBDLoss.\n" in out
    assert "predict_unseen" in out
    assert ".networks" not in out, "a private path"
    assert f"  critic_steps=5 {count}: critic steps per generator step.\n" in out
    for family, kind in (("D³", D3Settings), ("fclswgan", find_family("fclswgan").settings)):
        section = out[out.index(f"{family}, ") :]
        for field in fields(kind):
            line = rf"\n  {field.name}={re.escape(str(field.default))}( \(.+?\))?: \S"
            assert re.search(line, section), f"no meaning of {field.name}"
    assert main(["settings", "--adapter", "fclswgam"]) == 2
    assert "did you mean 'fclswgan'?" in capsys.readouterr().err


def test_misspelt_flags_and_the_usage_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--seedz", "3"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: d3 compare ")
    assert "unrecognized arguments: --seedz 3; did you mean '--seeds'?" in error
    with pytest.raises(SystemExit):
        main(["report", "runs", "-q"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: -q; there are --traceback\n")
    assert main(["compare", "--seeds", "0"]) == 2
    assert capsys.readouterr().err == "d3: compare: seeds must be an int, 1 to 10000, got 0\n"
    with pytest.raises(SystemExit):
        main(["ablate", "--cuts=3"])
    error = capsys.readouterr().err
    assert error.endswith("unrecognized arguments: --cuts=3; --cuts is of d3 compare, tune\n")


def test_tune_takes_one_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "--adapter", "all", "--data", "digits-0", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "one adapter at a time" in capsys.readouterr().err


def test_adapters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters"]) == 0
    assert "fclswgan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ["--adapter", "vqgan"],
            "no adapter named 'vqgan'",
        ),
        (["--set", "wieght=1"], "no setting 'wieght'"),
        (["--set", "weight"], "NAME=VALUE, got 'weight'"),
        (["--set", "score=best"], "score must be one of max_softmax"),
        (["--set", "od_rescale=maybe"], "od_rescale must be True or False"),
        (["--host", "epochz=1"], "no setting 'epochz'"),
        (["--data", "imagenet"], "imagenet"),
        (["--data", "a\0b"], "no data set"),
        (["--seeds", "99999999999"], "seeds must be an int, 1 to 10000, got 99999999999"),
        (["--seeds", "0", "--jobs", "-1"], "2 problems"),
        (["--device", "meta"], "device 'meta'"),
        (["--set", "weight={[]: 1}"], "weight must be a finite number, at least 0, got '{[]: 1}'"),
        (["--out", "a\0b"], "cannot write a"),
        (["--scheduler", "tcp://127.0.0.1:1"], "for the backend dask"),
    ],
)
def test_bad_input_exits_with_2_and_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], match: str
) -> None:
    assert main(["compare", "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert "d3: " in error
    assert match in error
    assert "Traceback" not in error


def test_a_terminal_without_the_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows code pages and the C locale are: no run may be lost to a "±" in the table."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with pytest.raises(SystemExit):
        main(["--help"])
    sys.stdout.flush()
    assert b"D\\xb3GZSL" in raw.getvalue()


def test_settings_values() -> None:
    assert parse_settings(["a=1", "b=0.5", "c=bce", "d=none", "e=true", "f=x=y"]) == {
        "a": 1, "b": 0.5, "c": "bce", "d": None, "e": True, "f": "x=y"
    }  # fmt: skip


@pytest.mark.parametrize("full", [False, True])
def test_output_that_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], full: bool
) -> None:
    """A full disk, or a pipe whose reader has ended."""
    if full and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    if full:
        into: str | int = "/dev/full"
    else:
        read, into = os.pipe()
        os.close(read)
    with monkeypatch.context() as patch, open(into, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        assert main(["settings"]) == (2 if full else 141)
        stream.flush()  # as Python does when it ends
    message = "d3: output cannot be written: No space left on device\n" if full else ""
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("command", "into"),
    [
        ("settings", ">&- 2>&- <&-"),
        ("--help", "> /dev/full"),
        *(
            pytest.param(command, into, marks=pytest.mark.slow)
            for command, into in (
                *(("settings", into) for into in ("| true", "> /dev/full", ">&-", "2>&-")),
                *((command, "| true") for command in ("--help", "adapters")),
            )
        ),
    ],
)
def test_output_that_cannot_be_written(command: str, into: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    line = f"set -o pipefail; {sys.executable} -m d3_plugin {command} {into}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    if into == "| true":  # as other programs do; "true" may end later than this
        assert (done.stderr, done.returncode) in (("", 141), ("", 0))
    elif into == "> /dev/full" and command != "--help":  # where argparse says nothing
        assert done.stderr == "d3: output cannot be written: No space left on device\n"
        assert done.returncode == 2
    else:
        assert done.returncode in ((0, 120) if into == "> /dev/full" else (0,))
        assert "Traceback" not in done.stderr


def test_a_comparison_without_standard_streams(tmp_path: Path) -> None:
    """Its files would take their numbers."""
    arguments = [*ARGUMENTS, "--jobs", "2", "--out", str(tmp_path)]
    program = (
        "import sys; from d3_plugin.__main__ import main; from d3_plugin.report import page; "
        f"page._pictures = lambda *_: (); sys.exit(main({arguments}))"
    )
    line = f"{sys.executable} -c {shlex.quote(program)} >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], check=False).returncode == 0
    assert "versions" in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize("flags", [[], ["--traceback"]])
def test_unexpected_errors_are_no_condition(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
) -> None:
    """Status 1 would read as a condition that holds."""

    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("d3_plugin.experiments.comparison.run_all", broken)
    assert main([*ARGUMENTS, "--fail-if", "ausuc < 0", "--out", str(tmp_path), *flags]) == 3
    error = capsys.readouterr().err
    assert "d3: unexpected KeyError: 'x'\nd3: --traceback shows where" in error
    assert ("Traceback" in error) == bool(flags)
    assert main(["compare", "--seeds", "0", *flags]) == 2
    assert ("Traceback" in capsys.readouterr().err) == bool(flags)


def test_a_folder_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the current one."""
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--out", ""])
    assert caught.value.code == 2
    assert "argument --out: must not be empty" in capsys.readouterr().err


def test_a_data_folder_whose_name_is_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = os.fsdecode(os.fsencode(tmp_path) + b"/non\xffutf")
    os.mkdir(data)
    folder = str(make(Path(data)))
    arguments = ["ablate", *ARGUMENTS[1:], "--data", folder]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "non\\udcffutf" in (tmp_path / "out" / "ablation.html").read_text()


def test_interrupt_keeps_finished_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "d3_plugin", *TINY, "--seeds", "30", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job, as this pytest may be, ignores it and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.startswith("\nd3: interrupted. "), "and no progress bar before it"
    assert error.endswith("start the same command again with the same --out.\n")
    assert error.count("\n") == 2
    finished = list(tmp_path.glob("runs/*.npz"))
    assert 1 <= len(finished) < 120
    left = {path.suffix for path in (tmp_path / "runs").iterdir()}
    assert left <= {".npz", ".pt"}, "nothing half written; a checkpoint is for the next command"
