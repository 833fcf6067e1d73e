"""docs/tools/make_results.py on small made-up comparisons."""

from __future__ import annotations

import copy
import importlib.util
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from d3_plugin import D3Settings, InputError
from d3_plugin.__main__ import parse
from d3_plugin.report.results import read_results, results
from d3_plugin.report.rows import ABLATION, COMPARISON, rows_of
from tests.report.made_up import SETTINGS, VARIANTS, finished

TITLES = {row.key: row.title for row in COMPARISON}
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


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A comparison in which +D³ has a student with more bias than the baseline."""
    runs = [
        finished(seed, variant, split=split, bias=1.0, student_bias=bias)
        for seed in range(3)
        for split in ("validation", "test")
        for variant, bias in (("baseline", None), ("d3", 5.0), ("released", None))
    ]
    settings = {**SETTINGS, "adapters": ["a"], "data": "/home/somebody/data/cub50", "seeds": 3}
    variants = {**VARIANTS, "released": D3Settings.released()}
    made = results(
        settings,
        runs,
        rows_of(COMPARISON, variants, draws=2),
        {seed: [0, 1] for seed in range(3)},
        command="d3 compare --adapter a --data /home/somebody/data/cub50 --seeds 3",
    )
    return dict(json.loads(json.dumps(made)))


@pytest.fixture
def content(made: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(made)


def stored(folder: Path, content: dict[str, Any], file: str = "results.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    return folder


def test_page(script: ModuleType, content: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    read = read_results(stored(tmp_path / "birds", content) / "results.json")
    script.write_page([("birds", read)], [], page)
    text = page.read_text()
    assert "somebody" not in text
    assert "What the numbers do not show" in text
    for title in TITLES.values():
        assert f"| {title} " in text
    assert "d3 compare --adapter a --data cub50 --seeds 3 --out runs/birds\n" in text
    assert "Mean seconds per test run: baseline 0, +D³ 0, released formulas 0 (cpu" in text
    picture = tmp_path / "results" / "birds-a.svg"
    assert "(results/birds-a.svg)" in text
    before = picture.read_bytes()
    assert b"a on cub50" in before
    script.write_page([("birds", content)], [], page)
    assert picture.read_bytes() == before, "the same numbers give another file"


def test_losing_cells_are_kept_and_marked(script: ModuleType, content: dict[str, Any]) -> None:
    summary = content["summary"]["a"]
    header, *rows = script.table(summary)
    lines = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    d3 = summary["d3"]["metrics"]
    assert d3["harmonic"]["difference"]["mean"] < -0.05
    assert lines[TITLES["d3"]]["ΔH"].startswith("▼ -")
    assert "±" in lines[TITLES["d3"]]["ΔH"]
    constant = summary["baseline_calibrated"]["metrics"]["harmonic"]["per_seed"]
    mean = sum(a - b for a, b in zip(d3["harmonic"]["per_seed"], constant, strict=True)) / 3
    assert lines[TITLES["d3"]]["ΔH vs calibrated stacking"].startswith(f"▼ {100 * mean:.1f} ")
    assert lines["baseline"]["ΔH"] == ""


def test_overview(script: ModuleType, content: dict[str, Any]) -> None:
    """Differences seed by seed, each to the row that its column names."""

    def lines() -> list[dict[str, str]]:
        text, seeds = script.glance([("birds", content)]).split("\n\n")
        assert seeds == "Seeds: cub50 3."
        header, _, *rows = text.splitlines()
        cells = [[c.strip() for c in text.split("|")[1:-1]] for text in (header, *rows)]
        return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]

    summary = content["summary"]["a"]
    summary["d3_chosen"] = summary["released"]
    shown = lines()
    assert [(row[""], row["+D³"]) for row in shown] == [
        ("a, cub50", "tuned"),
        ("a, cub50", "defaults"),
    ]
    for row, key in zip(shown, ("released", "d3"), strict=True):
        for column, (other, metric) in script.GLANCE.items():
            of_row, of_other = (summary[k]["metrics"][metric]["per_seed"] for k in (key, other))
            mean = 100 * sum(a - b for a, b in zip(of_row, of_other, strict=True)) / 3
            assert float(row[column].lstrip("▼ ").split(" ")[0]) == pytest.approx(mean, abs=0.051)
            assert row[column].startswith("▼") == (round(mean, 1) < 0), column
    del summary["baseline_summed"]  # a run with one draw
    assert lines() == [{**row, "ΔAUSUC vs ensemble": ""} for row in shown]


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
    summary = content["summary"]["a"]
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
        (data, {"settings": {**content["settings"], "data": data}, "summary": {"a": made}})
        for data, made in (("digits", rows), ("birds", rows), ("flowers", flowers))
    ]
    if broken:
        with pytest.raises(InputError, match=f"do not bear out.*{broken}"):
            script.claims(contents, contents[1:2])
        return
    told = script.claims(contents, contents[1:2])
    assert len(told) == 5
    assert told[0].endswith(
        "improves 1 of 3 settings, 1 of them significantly (uncorrected: 1); significant "
        "losses: a, digits; a, birds."
        if by < 0
        else "improves 3 of 3 settings, 3 of them significantly (uncorrected: 3); no "
        "significant loss."
    )


def test_holm_by_hand(script: ModuleType) -> None:
    """p values 0.01, 0.02, 0.04 against 0.05/3, 0.05/2, 0.05/1: each is significant in its turn.

    With 0.03 in place of 0.02 the second fails against 0.025, and with it the third.
    """

    def values(p: float) -> np.ndarray:
        """Two differences whose t test, with one degree of freedom, has this p value."""
        return 1 + np.array([-1, 1]) * np.tan(p * np.pi / 2)

    assert script.holm([values(0.04), values(0.01), values(0.02)]) == [True, True, True]
    assert script.holm([values(0.04), values(0.01), values(0.03)]) == [False, True, False]
    assert script.holm([np.ones(3), np.zeros(3), np.ones(1)]) == [True, False, False]


@pytest.fixture
def ablated(content: dict[str, Any]) -> dict[str, Any]:
    """What ``d3 ablate`` leaves of the same runs."""
    rows = {key: content["summary"]["a"][key] for key in ("baseline", "d3", "released")}
    command = "d3 ablate --adapter a --data /home/somebody/data/cub50 --seeds 3"
    return {**content, "command": command, "summary": {"a": rows}, "details": {}}


def test_the_page_has_the_ablation(
    script: ModuleType,
    content: dict[str, Any],
    ablated: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, page = stored(tmp_path / "birds", content), tmp_path / "results.md"
    stored(folder, ablated, "ablation.json")
    monkeypatch.setattr("sys.argv", ["make_results", str(folder), "--out", str(page)])
    script.main()
    _, section = page.read_text().split("## Which part does it: ablation on cub50\n")
    command = section.split("```bash\n")[1].split("\n```")[0]
    assert command.startswith("d3 ablate ")
    options = parse(shlex.split(command)[1:])
    assert (options["seeds"], options["data"], options["out"]) == (3, "cub50", Path("runs/birds"))
    table = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in table[0]] == ["", "U", "S", "H", "AUSUC", "ΔH", "ΔAUSUC"]
    assert [line[0].strip() for line in table[2:]] == [
        content["summary"]["a"][key]["title"] for key in ("baseline", "d3", "released")
    ]


def test_the_page_has_the_generator_trained_too(
    script: ModuleType, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same seeds of the comparison with the generator left alone."""
    folder, page = stored(tmp_path / "birds", content), tmp_path / "results.md"
    stored(folder, content, "end-to-end.json")
    monkeypatch.setattr("sys.argv", ["make_results", str(folder), "--out", str(page)])
    script.main()
    text = page.read_text()
    assert "end to end, it changes the AUSUC of the host's own classifier by +0.0 ± 0.0" in text
    _, section = text.split("## The generator trained, too\n")
    assert "--out runs/birds-end-to-end\n" in section
    assert section.count("| a, cub50 | 3 ") == 3
    trained = copy.deepcopy(content)
    trained["settings"]["seeds"] = 2
    for row in trained["summary"]["a"].values():
        for metric in row["metrics"].values():
            metric["per_seed"] = [value - 0.1 for value in metric["per_seed"][:2]]
    _, *lines = script.beside_left_alone([("birds", trained)], {"birds": content})
    assert [(line[1], line[2]) for line in lines] == [
        ("2", name) for name in ("host's classifier", "tuned", "defaults")
    ]
    assert [line[-1] for line in lines] == ["▼ -10.0 ± 0.0"] * 3


def test_the_stored_results_follow_the_schema(script: ModuleType) -> None:
    """All that the page is made of by default, with the titles of today; small enough for git."""
    assert {folder.name for folder in script.FOLDERS} == {"cub127", "cub50", "digits", "flo64"}
    size = 0
    for folder in script.FOLDERS:
        kinds = {"results": COMPARISON, "ablation": ABLATION, "end-to-end": COMPARISON}
        for file, rows in ((f"{name}.json", rows) for name, rows in kinds.items()):
            if (path := folder / file).exists():
                size += path.stat().st_size
                for summary in read_results(path)["summary"].values():
                    titles = {row.key: row.title for row in rows}
                    assert {k: row["title"] for k, row in summary.items()}.items() <= titles.items()
    assert size < 600_000


def test_readme_gets_the_summary(
    script: ModuleType, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path / "birds", content)
    readme, page = tmp_path / "README.md", tmp_path / "results.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    words = ["make_results", str(folder), "--out", str(page), "--readme", str(readme)]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    once = readme.read_text()
    script.main()
    assert readme.read_text() == once
    assert once.startswith("before\n<!-- results -->\n- **AUSUC**: +D³, ")
    assert once.endswith("\n<!-- /results -->\nafter\n")
    assert "| a, cub50 | " in once
    assert "defaults" not in once.partition("|")[2]
    assert "old" not in once
    readme.write_text("no marks")
    with pytest.raises(InputError, match="has no lines"):
        script.main()
