"""Host families that no installed plugin provides: an import path, or the object itself."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from d3_plugin.__main__ import main
from d3_plugin.experiments import compare, parallel
from d3_plugin.experiments.families import find_family
from tests.experiments.tiny import D3

MODULE = """
from dataclasses import dataclass
import torch
from d3_plugin import Host, HostFamily, hookimpl

@dataclass(frozen=True)
class Settings:
    steps: int = 3

class Trainer:
    def __init__(self, data, settings, seed, device):
        torch.manual_seed(seed)
        self.data, self.settings, self.history = data, settings, []
        self.generator = torch.nn.Linear(2 * data.attributes.shape[1], data.feature_dim)
        self.optimizer = torch.optim.Adam(self.generator.parameters())

    def synthesize(self, class_ids):
        attributes = self.data.attributes[class_ids]
        return self.generator(torch.cat([torch.randn_like(attributes), attributes], dim=1))

    def fit(self):
        for step in range(self.settings.steps):
            loss = (self.synthesize(self.data.train_labels) - self.data.train_features).norm()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.history.append({"step": step + 1, "error": loss.item()})

@hookimpl
def d3_describe_host(trainer):
    if isinstance(trainer, Trainer):
        return Host("regression", trainer.generator, trainer.optimizer, trainer.data, trainer)

@hookimpl
def d3_synthesize_features(host, class_ids):
    return host.trainer.synthesize(class_ids)

family = HostFamily("regression", "linear regression", Settings, Trainer)
"""
TINY = ["compare", "--data", "digits-2", "--seeds", "1", "--draws", "1"]
for _name, _value in D3.items():
    TINY += ["--set", f"{_name}={_value}"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which Python does not search."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    importlib.invalidate_caches()
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_an_import_path(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my_package").mkdir()
    (here / "my_package" / "trainer.py").write_text(MODULE)
    path = "my_package.trainer:family"
    alone = ["--set", "weight=0.1"]  # every run has a training of its own, which needs no proof
    assert main([*TINY, *alone, "--adapter", path, "--jobs", "2", "--out", "out"]) == 0
    assert "regression on digits-2, 1 seed\n" in capsys.readouterr().out
    results = json.loads((here / "out" / "results.json").read_text())
    assert results["settings"]["hosts"] == {"regression": {"steps": 3}}
    assert f"--adapter {path} " in results["command"]
    assert len(list((here / "out" / "runs").glob("regression-*.npz"))) == 4

    # The object is the same family, whose runs are finished.
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *_: pytest.fail(f"{runs[0].name} was made")
    )
    family = importlib.import_module("my_package.trainer").family
    compare(family, "digits-2", here / "out", seeds=1, draws=1, d3={**D3, "weight": 0.1})
    assert main(["settings", "--adapter", path]) == 0
    assert "steps=3" in capsys.readouterr().out


def test_tuned_settings_name_the_import_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "tuned_family.py").write_text(MODULE)
    path = "tuned_family:family"
    tuning = ["tune", "--adapter", path, "--trials", "1", "--cuts", "2", "--out", "tuned"]
    again = ["tune", "--settings", "tuned/tuned.json", *tuning[3:]]
    for command in ([*tuning, *TINY[5:]], [*again, *TINY[5:]]):
        assert main(command) == 0
        assert json.loads(Path("tuned/tuned.json").read_text())["adapter"] == path
    monkeypatch.setattr(parallel, "execute", lambda run, *_: pytest.fail("accepted"))
    more = ["--settings", "tuned/tuned.json", "--out", "out"]
    for adapter in ([], ["--adapter", path]):
        with pytest.raises(BaseException, match="accepted"):
            main([*TINY, *more, *adapter])
    assert main([*TINY, *more, "--adapter", "fclswgan"]) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_family:famly", "my_family has no 'famly'; did you mean 'family'?"),
        ("my_family:Trainer", "is a type, not a HostFamily; there are family"),
        ("my_family:", "is a module, not a HostFamily; there are family"),
        ("my_famly:family", "'my_famly' cannot be imported (ModuleNotFoundError: No module"),
        (":family", "'' cannot be imported (ValueError"),
        ("leaves:family", "'leaves' cannot be imported (SystemExit: 3)"),
        ("fails:family", "'fails' cannot be imported (KeyError: 'x')"),
        ("json:family", "json has no 'family'; there are "),
        ("taken:family", "an installed adapter is named 'fclswgan' too; choose another name"),
        ("wrong_hooks:family", "wrong_hooks"),
    ],
)
def test_bad_import_paths(
    here: Path, capsys: pytest.CaptureFixture[str], path: str, message: str
) -> None:
    contents = {
        "my_family": MODULE,
        "leaves": "raise SystemExit(3)",
        "fails": "{}['x']",
        "taken": MODULE.replace('"regression"', '"fclswgan"'),
        "wrong_hooks": MODULE.replace("d3_synthesize_features", "d3_synthesise_features"),
    }
    for name, content in contents.items():
        (here / f"{name}.py").write_text(content)
    assert main(["compare", "--adapter", path, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (here / "out").exists()


def test_installed_families_are_what_they_are() -> None:
    family = find_family("fclswgan")
    assert find_family(replace(family)).hooks is None


def test_a_trainer_that_no_plugin_knows_is_not_trained(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "unknown.py").write_text(
        re.sub("@hookimpl\ndef d3_describe.*?\n\n", "", MODULE, flags=re.DOTALL).replace(
            "def fit(self):", "def fit(self):\n        raise RuntimeError('trained')"
        )
    )
    assert main([*TINY, "--adapter", "unknown:family", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert "no plugin knows a Trainer" in error
    assert "RuntimeError" not in error, "it was trained"


def test_a_family_in_the_script_itself(tmp_path: Path) -> None:
    """Works in this process; workers could not import it."""
    (tmp_path / "script.py").write_text(
        f"{MODULE}\n"
        "from d3_plugin.experiments import compare\n"
        "from d3_plugin.report import page\n"
        "page._pictures = lambda *_: ()\n"
        f"small = {{'seeds': 1, 'draws': 1, 'd3': {D3}}}\n"
        "compare(family, 'digits-2', 'out', **small)\n"
        "compare(family, 'digits-2', 'out', jobs=2, **small)\n"
    )
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "out" / "report.html").exists(), done.stderr
    assert "d3_plugin.errors.InputError: compare: worker processes cannot import" in done.stderr


def test_hooks_may_be_any_object(here: Path) -> None:
    (here / "with_object.py").write_text(MODULE)
    module = find_family("with_object:family").hooks
    hooks = type("Hooks", (), {name: staticmethod(f) for name, f in vars(module).items()})()
    del module.d3_describe_host
    family = replace(module.family, hooks=hooks)
    assert compare(family, "digits-2", here / "out", seeds=1, draws=1, d3=D3).rows["regression"]
