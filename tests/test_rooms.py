"""Who may import whom: the rooms of d3_plugin in their order, without a circle between files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "d3_plugin"

ROOMS = [
    "errors",
    "checks",
    "files",
    "functional",
    "distributed",
    "losses",
    "data",
    "hosts",
    "distillation",
    "hooks",
    "evaluation",
    "attachment",
    "report",
    "experiments",
    "testing",
    "__main__",
]
"""A room may import itself and what stands above it here; docs/design.md says what each is for."""

FACADE = "d3_plugin"
"""``d3_plugin/__init__.py`` offers names of all rooms; a room takes no more than __version__."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(LIBRARY.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import, also inside functions and for type checkers alone.

    ``import a.b`` gives ``("a.b", "")``.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from ((source, alias.name) for alias in node.names)


def edges(modules: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Importing and imported module, both of ``modules``."""
    for module, path in modules.items():
        for source, name in imports(path):
            assert not source.startswith("."), f"{path}: relative import"
            target = f"{source}.{name}" if f"{source}.{name}" in modules else source
            if target in modules and (target, name) != (FACADE, "__version__"):
                yield module, target


EDGES = list(edges(FILES))


def test_every_folder_and_file_is_a_room() -> None:
    assert {room_of(module) for module in FILES if module != FACADE} == set(ROOMS)


def test_rooms_import_only_what_stands_above_them() -> None:
    wrong = {
        f"{module} imports {target}"
        for module, target in EDGES
        if module != FACADE
        and (target == FACADE or ROOMS.index(room_of(target)) > ROOMS.index(room_of(module)))
    }
    assert not wrong, sorted(wrong)


def test_no_circle_between_files() -> None:
    graph = TopologicalSorter[str]()
    for module, target in EDGES:
        graph.add(module, target)
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", ["d3_plugin", "adapters", "docs", "examples", "tests"])
def test_nobody_imports_the_top_level_name_adapters(folder: str) -> None:
    """It belongs to another distribution; ours are installed as ``d3_adapters``."""
    for path in (ROOT / folder).rglob("*.py"):
        tops = {source.split(".")[0] for source, _ in imports(path)}
        assert "adapters" not in tops, path


def test_the_library_never_imports_an_adapter() -> None:
    """Adapters are found by entry points, like anybody's plugin."""
    for path in FILES.values():
        tops = {source.split(".")[0] for source, _ in imports(path)}
        assert "d3_adapters" not in tops, path


def test_the_checks_see_what_they_should(tmp_path: Path) -> None:
    """Imports inside functions, under TYPE_CHECKING, of a submodule by ``from``."""
    (tmp_path / "a.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import room.b\n"
        "def f():\n    from room import c\n",
        "utf-8",
    )
    files = dict.fromkeys(("room.a", "room.b", "room.c"), tmp_path / "a.py")
    assert set(edges({"room.a": tmp_path / "a.py", **files})) >= {
        ("room.a", "room.b"),
        ("room.a", "room.c"),
    }
