"""``--plugin``: an idea of one's own is a row beside +D³, in the same training if that is safe."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
import sys
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d3_plugin import D3Settings, FailedConditionError, Host, InputError, StepBatch, hookimpl
from d3_plugin.experiments import ablate, compare, run, unchanged_training
from d3_plugin.experiments.families import find_family, find_plugins
from d3_plugin.experiments.plan import plan, trainings
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_identity import Run
from tests.experiments import spoiled_hosts
from tests.experiments.test_training_functions import train
from tests.experiments.tiny import D3, HOST, SMALL

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (ROOT / "examples" / "contrastive.py").read_text("utf-8")
PATH = "contrastive:contrastive"
TINY: dict[str, Any] = {**SMALL, "seeds": 2, "cuts": 1, "progress": "none"}
ROWS = {"d3_chosen-contrastive": "d3_chosen", "d3-contrastive": "d3"}
TITLE = "+D³ + contrastive (tuned on validation classes)"


class Term:
    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @hookimpl
    def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
        return {"small": self.weight * batch.student_logits.square().mean()}


def fresh_import() -> None:
    sys.modules.pop("contrastive", None)
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the file of docs/own_loss_term.md."""
    folder = tmp_path_factory.mktemp("added")
    page = (ROOT / "docs" / "own_loss_term.md").read_text("utf-8")
    ((name, code),) = re.findall(r"(?m)^```python\n# (\S+\.py)\n((?s:.*?))^```$", page)
    (folder / name).write_text(code, "utf-8")
    return folder


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    fresh_import()


@pytest.fixture(scope="module")
def compared(folder: Path) -> Path:
    """The results of a comparison with its row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        fresh_import()
        compare("fclswgan", "digits-2", folder / "out", plugins=[PATH], **TINY)
    return folder / "out"


@pytest.fixture
def here(importable: None, compared: Path) -> Path:
    return compared


def rows(out: Path) -> Any:
    return json.loads((out / "results.json").read_text("utf-8"))["summary"]["fclswgan"]


def test_the_example_is_short_and_that_of_the_page(folder: Path) -> None:
    assert len(EXAMPLE.splitlines()) <= 30
    assert (folder / "contrastive.py").read_text("utf-8") == EXAMPLE


def test_a_row_beside_each_of_d3(here: Path) -> None:
    found = rows(here)
    assert {key: row["beside"] for key, row in found.items() if "beside" in row} == ROWS
    assert list(found).index("d3_chosen-contrastive") == list(found).index("d3_chosen") + 1
    assert found["d3_chosen-contrastive"]["title"] == TITLE


def test_it_is_the_same_training_with_a_further_term(here: Path) -> None:
    """No warning was given that the baseline is trained apart, which would be an error here."""
    runs = json.loads((here / "results.json").read_text("utf-8"))["runs"]
    of_test = [run for run in runs if (run["split"], run["seed"]) == ("test", 0)]
    assert len({run["generator_mean"] for run in of_test}) == 1
    terms = {run["variant"]: set(run["d3_history"][0]) for run in of_test if run["d3_history"]}
    assert terms["d3-contrastive"] - terms["d3"] == {"contrastive"}


def test_table_report_verdict_and_csv_pair_it_with_d3(here: Path) -> None:
    found, page = rows(here), unescape((here / "report.html").read_text("utf-8"))
    (line,) = re.findall(r'<tr class="d3_chosen-contrastive">.*?</tr>', page, re.S)
    of_seeds = [found[key]["metrics"]["ausuc"]["per_seed"] for key in (*ROWS, "d3_chosen")]
    gain = sum(a - b for a, b in zip(of_seeds[0], of_seeds[2], strict=True)) / 2
    assert re.findall(r"<td>([^<]*)</td></tr>", line)[0].startswith(f"{100 * gain + 0.0:+.1f} ± ")
    assert '<th scope="col">ΔAUSUC vs +D³</th>' in page
    assert f"Beside it {TITLE}" in page
    with (here / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = {(each["row"], each["seed"]): each for each in csv.DictReader(file)}
    assert lines["d3_chosen-contrastive", ""]["beside"] == "d3_chosen"
    shown = lines["d3_chosen-contrastive", ""]["d_ausuc_to_beside"]
    assert float(shown) == pytest.approx(gain)
    assert lines["d3", ""]["d_ausuc_to_beside"] == ""
    tex = (here / "table.tex").read_text("utf-8")
    assert r"$\Delta$AUSUC vs +D$^3$" in tex
    assert len({line.count("&") for line in tex.splitlines() if "&" in line}) == 1


def test_command_gate_and_finished_runs(here: Path) -> None:
    command = json.loads((here / "results.json").read_text("utf-8"))["command"]
    assert command.endswith("--plugin contrastive:contrastive")
    conditions = ["d3-contrastive.d_ausuc_to_d3 >= -1", "d3_chosen-contrastive.ausuc < 0"]
    before = {file: file.stat().st_mtime_ns for file in (here / "runs").iterdir()}
    with pytest.raises(FailedConditionError, match=r"of \+D³ \+ contrastive \(defaults\) it is"):
        compare("fclswgan", "digits-2", here, plugins=[PATH], fail_if=conditions, **TINY)
    assert {file: file.stat().st_mtime_ns for file in (here / "runs").iterdir()} == before


def test_an_ablation_has_it_and_uses_its_runs(here: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (here / "runs").iterdir()}
    tiny = {name: value for name, value in TINY.items() if name != "cuts"}
    made = ablate("fclswgan", "digits-2", here, plugins=[PATH], **tiny)
    row = made.rows["fclswgan"]["d3-contrastive"]
    assert row["title"] == "+D³ + contrastive (all terms)"
    assert row["metrics"] == rows(here)["d3-contrastive"]["metrics"]
    after = {file: file.stat().st_mtime_ns for file in (here / "runs").iterdir()}
    assert before.items() <= after.items()


def test_an_edit_of_the_term_makes_its_runs_again_and_no_others(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(here, out)
    edited = EXAMPLE.replace("of_partners.mean()", "of_partners.sum()")
    (tmp_path / "contrastive.py").write_text(edited, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        fresh_import()
        with pytest.raises(InputError, match=r"^3 finished runs .*: module contrastive"):
            compare("fclswgan", "digits-2", out, plugins=[PATH], **TINY)
        compare("fclswgan", "digits-2", out, plugins=[PATH], rerun=True, **TINY)
    (aside,) = (out / "runs").glob("aside-*")
    moved = {file.name for file in aside.iterdir()}
    assert moved == {file.name for file in (here / "runs").glob("*-d3-contrastive.npz")}
    for file in (here / "runs").glob("*.npz"):
        same = file.read_bytes() == (out / "runs" / file.name).read_bytes()
        assert same == (file.name not in moved)


def planned(plugin: object, **changes: Any) -> list[Run]:
    """Baseline, +D³, and +D³ with the plugin."""
    d3 = D3Settings(**D3)
    first = replace(Run("fclswgan", "digits-2", "", 0, "", "test", HOST, None, 1, "cpu"), **changes)
    variants = {"baseline": None, "d3": d3, "d3-it": d3}
    return plan([first], 1, variants, plugins={"d3-it": plugin})


def test_what_an_object_holds_is_part_of_its_runs_identity() -> None:
    one, other = planned(Term(1.0)), planned(Term(2.0))
    assert [a.identity() == b.identity() for a, b in zip(one, other, strict=True)] == [1, 1, 0]
    assert trainings(one) == [one]


def test_a_plugin_that_changes_the_host_is_trained_apart() -> None:
    class Shrinks:
        @hookimpl
        def d3_extra_terms(self, host: Host) -> dict[str, Tensor]:
            with torch.no_grad():
                next(host.generator.parameters()).mul_(0.9)
            return {}

    family = find_family(spoiled_hosts.family)
    host = asdict(spoiled_hosts.Settings("plain"))
    runs = planned(Shrinks(), adapter="spoiled", host=host, family=family)
    assert "changes the result of training: generator.weight" in unchanged_training.why_apart(runs)


def test_a_plugin_with_a_final_classifier_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Untrained:
        @hookimpl
        def d3_train_classifier(self, features: Tensor, num_classes: int) -> Any:
            return torch.nn.Linear(features.shape[1], num_classes)

    monkeypatch.setattr(run, "why_apart", lambda runs: "")
    baseline, d3, own = (made.evaluation.host_scores for made in execute(planned(Untrained())))
    assert (baseline == d3).all()
    assert (baseline != own).any()


def test_it_is_added_to_the_d3_of_a_training_function(tmp_path: Path) -> None:
    small = {**TINY, "seeds": 1, "host": {}}
    made = compare(train, "digits-1", tmp_path, plugins=[Term()], **small)
    terms = {run["variant"]: set(*run["d3_history"]) for run in made.content["runs"]}
    assert terms["d3-Term"] - terms["d3"] == {"small"}


def test_what_a_plugin_keeps_is_of_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its runs would depend on what was trained before, and so would their identity."""

    class Counts:
        steps = 0

        @hookimpl
        def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
            self.steps += 1
            return {"growing": self.steps * batch.student_logits.square().mean()}

    monkeypatch.setattr(run, "why_apart", lambda runs: "")
    runs = planned(Counts())
    before = runs[2].identity()
    one, other = execute(runs)[2], execute(runs)[2]
    assert one.d3_history[0]["growing"] == other.d3_history[0]["growing"]
    assert runs[2].identity() == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["nowhere:x"], "'nowhere' cannot be imported.*ModuleNotFoundError"),
        (["contrastive:contrast"], "contrastive has no 'contrast'; did you mean 'contrastive'"),
        (["contrastive:Contrastive"], "it is a class; give an object"),
        (["contrastive:hookimpl"], "no function marked d3_plugin.hookimpl"),
        ([Term(), Term(2.0)], "another plugin is named 'Term' too"),
        (["d3_adapters.fclswgan.hooks"], "it is installed, and so part of every row already"),
        ([spoiled_hosts], "it describes a host: a HostFamily is given as --adapter"),
        ([None], "no function marked"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_what_is_no_plugin_is_refused(given: list[Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_plugins(given)


def test_all_problems_are_listed_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)2 problems.*seeds must be.*nowhere"):
        compare(data="digits-2", out=tmp_path, plugins=["nowhere:x"], **{**TINY, "seeds": 0})


def test_names() -> None:
    assert list(find_plugins([Term(), "tests.experiments.test_added_plugins:term"])) == [
        "Term", "term"
    ]  # fmt: skip


term = Term()
