"""A file is an input from anyone: each field of ``results.json`` is right, or an error names it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from d3_plugin.errors import D3Error, InputError
from d3_plugin.report import page
from d3_plugin.report.results import read_results, write_results
from tests.report.made_up import content

OTHERS: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 3.5, 1e31, -1e31, 10**300, "", "x", "../x", "\ud800", "\x00", "a\nb"),
    *([], [1], [[]], {}, {"a": 1}),
)


@pytest.fixture(scope="module")
def results() -> Any:
    return json.loads(json.dumps(content()))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value, containers included."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutated(results: Any, path: tuple[Any, ...], number: random.Random) -> Any:
    """With one value replaced, removed or, of a list, doubled."""
    made = copy.deepcopy(results)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    kind = number.choice(["replace"] * 4 + ["remove", "again"])
    if kind == "remove":
        del inside[path[-1]]
    elif kind == "again" and isinstance(inside, list):
        inside.append(inside[path[-1]])
    else:
        inside[path[-1]] = number.choice(OTHERS)
    return made


def check_mutations(results: Any, folder: Path, seed: int, times: int) -> int:
    """How many of the mutated files are refused; the others give a page."""
    number, refusals = random.Random(seed), []
    by_depth: dict[str, list[tuple[Any, ...]]] = {}
    for path in places(results):  # a thousand numbers of curves count as one kind of value
        kind = ".".join("*" if isinstance(key, int) else key for key in path)
        by_depth.setdefault(kind, []).append(path)
    for _ in range(times):
        path = number.choice(by_depth[number.choice([*by_depth])])
        made = mutated(results, path, number)
        (folder / "results.json").write_text(json.dumps(made))
        try:
            page.render_again(folder)
        except D3Error as error:
            refusals.append(str(error))
        except Exception as error:
            raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
    assert all(str(folder / "results.json") in refusal for refusal in refusals)
    return len(refusals)


def test_mutated_files_are_read_or_refused(
    results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "KINDS", {})  # pictures are drawn, but not written
    monkeypatch.setattr(page, "_saved", lambda figure: {"svg": b"<svg />"})
    assert check_mutations(results, tmp_path, 0, 50) > 35


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_with_pictures(results: Any, tmp_path: Path) -> None:
    assert check_mutations(results, tmp_path, 1, 500) > 350


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("settings", "seeds"), "2", "$.settings.seeds: '2' is not of type 'integer'"),
        (("summary", "a", "d3", "beside"), "d4", "$.summary.a.d3.beside: no row 'd4'"),
        (("settings", "seeds"), 3, "$.summary.a.baseline.curves: not of 3 seeds"),
        (("summary", "a", "d3", "metrics", "ausuc", "mean"), 54.2, "$.summary.a.d3.metrics.ausuc"),
        (("summary", "a", "d3", "metrics", "zsl", "per_seed"), [0.5], "d3.metrics.zsl: not of 2"),
        (("summary", "a", "d3", "curves"), [[0.5] * 50] * 2, "$.summary.a.d3.curves[0]"),
        (("summary", "../a"), {}, "$.summary: '../a' does not match"),
        (("details", "a", "row"), "d5", "$.details.a.row: no such row"),
        (("details", "a", "teacher", "seen"), [], "$.details.a.teacher: as many bars"),
        (("details", "a", "projection", "real"), [], "$.details.a.projection: not all of the same"),
        (("details", "b"), {}, "$.details.b"),
        (("runs",), [], "$.runs: none of a"),
        (("runs", 0, "history"), [{"step": 0.5}], "$.runs[0].history[0].step"),
    ],
)
def test_the_error_names_file_and_field(
    results: Any, tmp_path: Path, path: tuple[Any, ...], value: Any, said: str
) -> None:
    made = copy.deepcopy(results)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    file = tmp_path / "results.json"
    file.write_text(json.dumps(made))
    with pytest.raises(InputError) as error:
        read_results(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)


def test_nothing_else_is_written(results: Any, tmp_path: Path) -> None:
    """Content that does not follow the schema leaves the file that was there."""
    file = tmp_path / "results.json"
    write_results(file, results)
    before = file.read_bytes()
    for change in ({"finished": "today"}, {"runs": [float("nan")]}, {"version": 1}):
        with pytest.raises(InputError):
            write_results(file, {**results, **change})
    assert file.read_bytes() == before
    assert read_results(file) == results
