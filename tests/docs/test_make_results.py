"""docs/tools/make_results.py on small made-up comparisons."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Settings, InputError
from d3_plugin.__main__ import parse, parse_settings
from d3_plugin.experiments.comparison import ablation
from d3_plugin.experiments.plan import validation_cuts
from d3_plugin.report.results import results
from d3_plugin.report.statistics import ROWS, rows_of, summarize
from tests.experiments.tiny import VARIANTS, outcome

SCRIPT = Path(__file__).parents[2] / "docs" / "tools" / "make_results.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPT.parent))  # as it is when the script runs
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture
def content() -> dict[str, Any]:
    """A comparison in which +D³ is the baseline with more bias, and so loses in H."""
    outcomes = {}
    for seed in range(3):
        for split in ("validation", "test"):
            number = 10 * seed + (split == "test")
            for variant, bias in (("baseline", 1.0), ("d3", 2.0)):
                outcomes["fclswgan", seed, split, variant] = outcome(number, bias=bias)
        released = outcome(10 * seed + 5)
        evaluation = replace(released.evaluation, host_scores=None)
        outcomes["fclswgan", seed, "test", "released"] = replace(released, evaluation=evaluation)
    host = FCLSWGANSettings(steps=7, attribute_norm=None)
    settings = {
        "adapters": ["fclswgan"],
        "data": "/home/somebody/data/cub50",
        "seeds": 3,
        "cuts": 2,
        "draws": 2,
        "device": "cpu",
        "machine": "x86_64",
        "hosts": {"fclswgan": {**asdict(host), "removed_since": 1}},
        "d3": asdict(D3Settings(weight=0.5, score="energy")),
        "released": asdict(D3Settings.released()),
    }
    rows = rows_of(ROWS, {**VARIANTS, "released": D3Settings.released()}, draws=2)
    summary = summarize(outcomes, "fclswgan", validation_cuts("cub50", 3, 2), rows)
    summary["d3_chosen"] = {**summary["d3"], "title": ROWS["d3_chosen"]}
    summary["d3_host"] = {**summary["baseline"], "title": ROWS["d3_host"]}
    made = results(settings, outcomes, {"fclswgan": summary})
    read_back: dict[str, Any] = json.loads(json.dumps(made))
    return read_back


def test_page(script: ModuleType, content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "birds"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    page = tmp_path / "results.md"
    script.write_page([("birds", script.read(folder))], [], page)
    text = page.read_text()
    assert "somebody" not in text
    assert "What the numbers do not show" in text
    for row in (
        "baseline, calibrated stacking",
        "baseline, logit adjustment",
        "baseline, ensemble of its classifiers",
        "+D³, host's classifier alone",
        "+D³, calibrated stacking",
        "+D³, released formulas",
    ):
        assert f"| {row} " in text
    assert "Mean seconds per test run: baseline 0, +D³ 0, +D³, released formulas 0 (cpu" in text
    picture = tmp_path / "results" / "birds-fclswgan.svg"
    assert "(results/birds-fclswgan.svg)" in text
    before = picture.read_bytes()
    assert b"fclswgan on cub50" in before
    script.write_page([("birds", content)], [], page)
    assert picture.read_bytes() == before, "the same numbers give another file"


def test_losing_cells_are_kept_and_marked(script: ModuleType, content: dict[str, Any]) -> None:
    summary = content["summary"]["fclswgan"]
    header, *rows = script.table(summary)
    lines = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    d3 = summary["d3"]["metrics"]
    assert d3["harmonic"]["difference"]["mean"] < -0.05
    assert lines[ROWS["d3"]]["ΔH"].startswith("▼ -")
    assert "±" in lines[ROWS["d3"]]["ΔH"]
    assert lines[ROWS["d3"]]["ΔAUSUC"] == "+0.0 ± 0.0"
    constant = summary["baseline_calibrated"]["metrics"]["harmonic"]["per_seed"]
    mean = sum(a - b for a, b in zip(d3["harmonic"]["per_seed"], constant, strict=True)) / 3
    assert lines[ROWS["d3"]]["ΔH to calibrated stacking"].startswith(f"▼ {100 * mean:.1f} ")
    assert lines["baseline"]["ΔH"] == ""


def test_overview(script: ModuleType, content: dict[str, Any]) -> None:
    """Differences seed by seed, each to the row that its column names."""

    def lines() -> list[dict[str, str]]:
        header, _, *rows = script.glance([("birds", content)]).splitlines()
        cells = [[c.strip() for c in text.split("|")[1:-1]] for text in (header, *rows)]
        return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]

    summary = content["summary"]["fclswgan"]
    summary["d3_chosen"] = summary["released"]
    shown = lines()
    assert [(row[""], row["+D³"]) for row in shown] == [
        ("fclswgan, cub50", "chosen"),
        ("fclswgan, cub50", "fixed"),
    ]
    for row, key in zip(shown, ("released", "d3"), strict=True):
        for column, (other, metric) in script.GLANCE.items():
            of_row, of_other = (summary[k]["metrics"][metric]["per_seed"] for k in (key, other))
            mean = 100 * sum(a - b for a, b in zip(of_row, of_other, strict=True)) / 3
            assert float(row[column].lstrip("▼ ").split(" ")[0]) == pytest.approx(mean, abs=0.051)
            assert row[column].startswith("▼") == (round(mean, 1) < 0), column
    del summary["baseline_summed"]  # a run with one draw
    assert lines() == [{**row, "ΔAUSUC to an ensemble": ""} for row in shown]


def shifted(row: dict[str, Any], by: float) -> dict[str, Any]:
    """A row of a summary with another AUSUC, by the same for all seeds."""
    of_row = row["metrics"]["ausuc"]
    metric = {
        **of_row,
        "mean": of_row["mean"] + by,
        "per_seed": [value + by for value in of_row["per_seed"]],
    }
    return {**row, "metrics": {**row["metrics"], "ausuc": metric}}


@pytest.mark.parametrize(
    ("row", "by", "broken"),
    [
        ("d3_chosen", 0.02, None),
        ("d3_chosen", -0.02, None),
        ("released", 0.9, "Not the losses"),
        ("cls", -0.02, "Not the losses"),
        ("d3_host", 0.01, "Not the losses"),
        ("flowers", 0.05, "Where it helps"),
    ],
)
def test_a_sentence_that_does_not_hold_stops_the_page(
    script: ModuleType, content: dict[str, Any], row: str, by: float, broken: str | None
) -> None:
    """Digits, birds, and flowers with a lower AUSUC, on which +D³ gains more."""
    summary = content["summary"]["fclswgan"]
    baseline = summary["baseline"]
    rows = {
        **summary,
        "released": baseline,
        "cls": summary["d3"],
        "d3_chosen": shifted(baseline, 0.04),
    }
    low = shifted(baseline, -0.1)
    flowers = {**rows, "baseline": low, "released": low, "d3_host": low}
    flowers["d3_chosen"] = shifted(low, 0.01 if row == "flowers" else 0.05)
    if row in rows:
        rows[row] = shifted(baseline if row == "d3_chosen" else rows[row], by)
    contents = [
        (data, {"settings": {**content["settings"], "data": data}, "summary": {"fclswgan": made}})
        for data, made in (("digits", rows), ("birds", rows), ("flowers", flowers))
    ]
    if broken:
        with pytest.raises(InputError, match=f"do not bear out.*{broken}"):
            script.claims(contents, contents[1:2])
        return
    told = script.claims(contents, contents[1:2])
    assert len(told) == 5
    lost = "loses significantly in 2: fclswgan, digits; fclswgan, birds"
    lost = lost if by < 0 else "loses significantly in none"
    assert f"in {1 if by < 0 else 3} significantly, and {lost}" in told[0]


def test_the_command_gives_these_settings(script: ModuleType, content: dict[str, Any]) -> None:
    command = script.command("birds", content["settings"])
    program, *words = shlex.split(command)
    assert program == "d3"
    options = argparse.Namespace(**parse(words))
    assert parse_settings(options.host) == {"steps": 7, "attribute_norm": None}
    assert parse_settings(options.d3) == {"weight": 0.5, "score": "energy"}
    assert (options.adapter, options.data) == ("fclswgan", "cub50")
    assert (options.seeds, options.draws) == (3, 2)
    assert options.variants == "default,released"
    assert options.out == Path("runs/birds")


@pytest.fixture
def ablated(content: dict[str, Any]) -> dict[str, Any]:
    """What ``d3 ablate`` leaves of the same runs."""
    kept = ("adapters", "data", "seeds", "draws", "device", "machine", "hosts")
    variants = ablation(D3Settings(weight=0.5, score="energy"), D3Settings.released())
    settings = {name: content["settings"][name] for name in kept}
    settings["variants"] = {name: v and asdict(v) for name, v in variants.items()}
    rows = {key: content["summary"]["fclswgan"][key] for key in ("baseline", "d3", "released")}
    return {**content, "settings": settings, "summary": {"fclswgan": rows}}


def test_the_page_has_the_ablation(
    script: ModuleType,
    content: dict[str, Any],
    ablated: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, page = tmp_path / "birds", tmp_path / "results.md"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "ablation.json").write_text(json.dumps(ablated))
    monkeypatch.setattr("sys.argv", ["make_results", str(folder), "--out", str(page)])
    script.main()
    _, section = page.read_text().split("## Which part does it: ablation on cub50\n")
    command = section.split("```bash\n")[1].split("\n```")[0]
    assert command.startswith("d3 ablate ")
    options = argparse.Namespace(**parse(shlex.split(command)[1:]))
    assert (options.seeds, options.data, options.out) == (3, "cub50", Path("runs/birds"))
    assert parse_settings(options.d3) == {"weight": 0.5, "score": "energy"}
    table = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in table[0]] == ["", "U", "S", "H", "AUSUC", "ΔH", "ΔAUSUC"]
    assert [line[0].strip() for line in table[2:]] == [
        ROWS[key] for key in ("baseline", "d3", "released")
    ]


def test_a_folder_without_results(
    script: ModuleType, content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not of a finished comparison"):
        script.read(tmp_path)
    del content["runs"][0]["curve"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="start its command again"):
        script.read(tmp_path)


def test_readme_gets_the_summary(
    script: ModuleType, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, readme, page = tmp_path / "birds", tmp_path / "README.md", tmp_path / "results.md"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    words = ["make_results", str(folder), "--out", str(page), "--readme", str(readme)]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    once = readme.read_text()
    script.main()
    assert readme.read_text() == once
    assert once.startswith("before\n<!-- results -->\n- **AUSUC**: +D³, ")
    assert once.endswith("\n<!-- /results -->\nafter\n")
    assert "| fclswgan, cub50 | chosen | 3 " in once
    assert "old" not in once
    readme.write_text("no marks")
    with pytest.raises(InputError, match="has no lines"):
        script.main()
