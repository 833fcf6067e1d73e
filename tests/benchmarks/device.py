"""What only a device shows: ``python -m tests.benchmarks.device cuda``, or ``cpu`` for a dry run.

One line per check, then the table of ``d3 bench``: the cost of a step of every host family at the
published width, and its memory. ``tests/benchmarks/gpu.sh`` runs this after the tests.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from d3_plugin.evaluation.classifier import Classifier
from d3_plugin.experiments.bench import bench
from tests.benchmarks.baseline import stand_in
from tests.toys import WEIGHT_ZERO, ScriptHost, assert_equal, attach, toy_problem

PUBLISHED_WIDTH = 4096


def steps_do_not_wait(device: torch.device) -> None:
    """``loss()`` reads no value from the device, except every 50th step to look for NaN."""
    host = ScriptHost(toy_problem(), device=device)
    d3 = attach(host)
    host.run(2, d3)  # the first batch is checked
    with waiting_is_an_error(device):
        for _ in range(12):  # the gradient's share is measured in one of them
            d3.loss(host.input_res, host.input_label).backward()
    assert d3.steps == 14


@contextmanager
def waiting_is_an_error(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def half_precision_around_a_step(device: torch.device) -> None:
    """Under autocast the loss is that of float32, up to the rounding of the host's own rows."""
    values = []
    for dtype in (None, torch.bfloat16, torch.float16):
        host = ScriptHost(toy_problem(), device=device)
        d3 = attach(host)
        host.sample()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = host.generator_loss() + d3.loss(host.input_res, host.input_label)
        scaled = dtype is torch.float16  # the default scale needs some steps to come down
        scaler = torch.amp.GradScaler(device.type, init_scale=256.0, enabled=scaled)
        scaler.scale(loss).backward()
        scaler.unscale_(host.optimizer_g)
        assert all(p.grad.isfinite().all() for p in host.net_g.parameters())
        values.append(d3.values["total"])
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=2e-2, atol=2e-2)


def weight_zero_changes_no_bit(device: torch.device) -> None:
    """The host with D³ beside it ends where it ends alone, with deterministic algorithms."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        alone = ScriptHost(toy_problem(), device=device)
        alone.run(10)
        expected = alone.state()
        beside = ScriptHost(toy_problem(), device=device)
        beside.run(10, attach(beside, WEIGHT_ZERO))
        assert_equal(beside.state(), expected)
    finally:
        torch.use_deterministic_algorithms(before)


def classifiers_move_to_the_cpu(device: torch.device) -> None:
    """A classifier saved on the device gives the same scores where it is loaded."""
    host = ScriptHost(toy_problem(), device=device)
    d3 = attach(host)
    host.run(5, d3)
    classifier = d3.classifier()
    rows = host.data.test_unseen_features
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder) / "classifier")
        loaded = Classifier.load(Path(folder) / "classifier")
    here, there = loaded.scores(rows.cpu(), scaled=True), classifier.scores(rows, scaled=True)
    torch.testing.assert_close(here, there.cpu(), rtol=1e-3, atol=1e-4)


CHECKS = (
    steps_do_not_wait,
    half_precision_around_a_step,
    weight_zero_changes_no_bit,
    classifiers_move_to_the_cpu,
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("device", nargs="?", default="cuda")
    device = torch.device(parser.parse_args(arguments).device)
    failed = 0
    for check in CHECKS:
        try:
            check(device)
            print(f"ok      {check.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}\n{traceback.format_exc()}", flush=True)
    if device.type == "cpu":  # the same call, small
        print(bench("fclswgan", "digits", host={"hidden": 8}, d3={"teacher_epochs": 1}, rounds=1))
    else:
        data, host = stand_in(), {"hidden": PUBLISHED_WIDTH}
        print(bench("all", data, host=host, device=str(device), rounds=9, verbose=True))
    return failed


if __name__ == "__main__":
    sys.exit(main())
