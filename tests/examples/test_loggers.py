"""examples/loggers.py with the real TensorBoard and MLflow, and a stand-in for Weights & Biases."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, attach

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "loggers.py"


@pytest.fixture(scope="module")
def loggers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loggers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(data: GZSLData, log: object) -> dict[str, float]:
    """Five steps; the values of the fourth by the names that tools show."""
    d3 = attach(ScriptHost(data), plugins=[log])
    for _ in range(4):
        d3.loss()
    values = {f"d3/{name}": pytest.approx(v.item()) for name, v in d3.values.items()}
    d3.loss()
    return values


def test_tensorboard(loggers: ModuleType, toy_data: GZSLData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        expected = train(toy_data, loggers.TensorBoardLog(writer, every=2))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    logged = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    assert {name: series[-1].value for name, series in logged.items()} == expected
    assert {tuple(event.step for event in series) for series in logged.values()} == {(2, 4)}


def test_mlflow(
    loggers: ModuleType, toy_data: GZSLData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No report home, and files instead of a database; read as mlflow is imported.
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        expected = train(toy_data, loggers.MLflowLog(every=2))
    client = mlflow.MlflowClient()
    assert client.get_run(run.info.run_id).data.metrics == expected
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "d3/total")]
    assert steps == [2, 4]


def test_wandb_stand_in(loggers: ModuleType, toy_data: GZSLData) -> None:
    class Run:
        """Has the two methods of ``wandb.Run`` that are called."""

        def __init__(self) -> None:
            self.axes: dict[str, str] = {}
            self.logged: list[dict[str, float]] = []

        def define_metric(self, name: str, step_metric: str) -> None:
            self.axes[name] = step_metric

        def log(self, data: dict[str, float]) -> None:
            self.logged.append(data)

    run = Run()
    expected = train(toy_data, loggers.WandbLog(run, every=2))
    assert run.axes == {"d3/*": "d3/step"}
    assert [entry["d3/step"] for entry in run.logged] == [2, 4]
    assert run.logged[-1] == {**expected, "d3/step": 4}
