"""Digests of source files: a module, and what it imports from its own package or folder."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
import types
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

_NOT_THEIRS = {"d3_plugin", *sys.stdlib_module_names} - {"__main__"}

# Of a module: what it was read from, and what was found. After a reload its spec is another one.
_known: dict[tuple[str, frozenset[str]], tuple[object, str, list[str]]] = {}


def module_digests(objects: Iterable[object], settings: type[Any] | None) -> dict[str, str]:
    """Digests by name of the modules that define these objects, and of all that they import.

    A digest is that of the syntax tree without docstrings. Only modules of the same package,
    distribution or folder are followed, also those that are imported inside a function.

    Args:
        objects: functions, classes, modules or other plugin objects.
        settings: a dataclass whose fields are left out: their values are compared.
    """
    defined: dict[str, list[object]] = {}
    for part in (part for each in objects for part in _parts(each)):
        defined.setdefault(_module_name(part), []).append(part)
    found: dict[str, str] = {}
    waiting = sorted(defined)
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] in _NOT_THEIRS:
            continue
        if (file := _place(name)[0]) is not None:
            found[name], imported = _read(name, file, _fields_in(settings, name))
            waiting += imported
        elif name in defined:  # of a notebook, for example
            found[name] = short_digest("".join(_compiled(defined[name], name)))
    return found


def file_digest(file: Path, left_out: Collection[str] = ()) -> str:
    """Digest of a Python file's syntax tree without docstrings, or of another file's bytes.

    Args:
        file: the file.
        left_out: annotated names in the bodies of classes.
    """
    content = file.read_bytes()
    with suppress(SyntaxError, ValueError):
        return short_digest(ast.unparse(_Bare(left_out).visit(ast.parse(content))))
    return hashlib.sha256(content).hexdigest()[:12]


def short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _Bare(ast.NodeTransformer):
    """Leaves out docstrings and some fields of dataclasses."""

    def __init__(self, left_out: Collection[str]) -> None:
        self._left_out = left_out

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [line for line in node.body if not self._is_field(node, line)]
        return self.generic_visit(node)

    def _is_field(self, of: ast.ClassDef, line: ast.stmt) -> bool:
        named = isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        return named and f"{of.name}.{line.target.id}" in self._left_out  # type: ignore[attr-defined]


def _fields_in(settings: type[Any] | None, module: str) -> frozenset[str]:
    """``Class.field`` of the settings class and its bases, as far as they stand in this module."""
    fields = getattr(settings, "__dataclass_fields__", {})
    classes = [each for each in getattr(settings, "__mro__", ()) if each.__module__ == module]
    return frozenset(f"{each.__name__}.{name}" for each in classes for name in fields)


def _read(name: str, file: Path, left_out: frozenset[str]) -> tuple[str, list[str]]:
    """Digest and imports of a module, as it was when it was first read after its import.

    An edit of the file changes nothing in a process that has imported it, until it is reloaded.
    """
    spec = getattr(sys.modules.get(name), "__spec__", None)
    key = name, left_out
    if key not in _known or _known[key][0] is not spec:
        imported: list[str] = []
        with suppress(SyntaxError, ValueError):
            package = name if file.stem == "__init__" else name.rpartition(".")[0]
            imported = sorted(set(_imports(ast.parse(file.read_bytes()), package)))
        imported = [other for other in imported if _together(name, other) and _place(other)[0]]
        _known[key] = spec, file_digest(file, left_out), imported
    return _known[key][1:]


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of what may be modules, with the packages that they are in."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                with suppress(ImportError):  # beyond the top: not a package after all
                    source = importlib.util.resolve_name("." * node.level + source, package)
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                names.append(str(node.args[0].value))
    for name in [*names, package]:
        parts = name.split(".")
        yield from (".".join(parts[: n + 1]) for n in range(len(parts)))


def _place(name: str) -> tuple[Path | None, list[str]]:
    """A module's file, if it has one, and a package's folders; nothing is imported."""
    if name in sys.modules:
        attributes = vars(sys.modules[name])
        file, folders = attributes.get("__file__"), attributes.get("__path__")
    else:
        package = name.rpartition(".")[0]
        spec = PathFinder.find_spec(name, _place(package)[1] if package else None)
        file, folders = (spec.origin, spec.submodule_search_locations) if spec else (None, None)
    return Path(file) if file and Path(file).is_file() else None, list(folders or ())


def _together(one: str, other: str) -> bool:
    """Whether two modules are of the same package, distribution or folder."""
    tops = [name.partition(".")[0] for name in (one, other)]
    if tops[0] == tops[1]:
        return True
    home, there = (_home(top) for top in tops)
    if home is None or there is None or tops[1] in _NOT_THEIRS or not there.is_relative_to(home):
        return False
    if not any(part.endswith("-packages") for part in there.parts):
        return True
    owners = _owners()
    return bool(set(owners.get(tops[0], [])) & set(owners.get(tops[1], [])))


@functools.cache
def _owners() -> Any:
    return packages_distributions()


@functools.cache
def _home(top: str) -> Path | None:
    """The folder that holds a module or package without a dot in its name."""
    file, folders = _place(top)
    found = folders[0] if folders else file
    return Path(found).resolve().parent if found else None


def _parts(each: object) -> Iterator[object]:
    """What an object consists of that has a module: of a plugin its hooks as well."""
    while isinstance(each, functools.partial):
        each = each.func
    if each is None:
        return
    yield each
    if not isinstance(each, (types.ModuleType, types.FunctionType, type)):
        hooks = (getattr(each, name) for name in dir(each) if name.startswith("d3_"))
        yield from (hook for hook in hooks if callable(hook))
    if isinstance(each, type):
        yield from (base for base in each.__mro__[1:-1])


def _module_name(part: object) -> str:
    if isinstance(part, types.ModuleType):
        return part.__name__
    return getattr(part, "__module__", None) or type(part).__module__


def _compiled(objects: Iterable[object], module: str) -> Iterator[str]:
    """The compiled code of functions and classes that have no file, and what it refers to.

    Another version of Python compiles otherwise, which counts as a change.
    """
    waiting, seen = list(objects), list[object]()
    while waiting:
        each = waiting.pop()
        each = getattr(each, "__func__", getattr(each, "fget", each))
        if any(each is other for other in seen):
            continue
        seen.append(each)
        own = getattr(each, "__module__", "") == module
        if isinstance(each, (tuple, list)):
            waiting += each
        elif isinstance(each, types.ModuleType):
            if each.__name__ == module:
                waiting += [value for name, value in vars(each).items() if name.startswith("d3_")]
        elif isinstance(each, types.CodeType):
            yield f"{each.co_code.hex()}{each.co_names}{each.co_varnames}"
            first, *others = each.co_consts or (None,)
            waiting += others if isinstance(first, str) else [first, *others]  # a docstring
        elif isinstance(each, types.FunctionType):
            used = [each.__globals__.get(name) for name in _names(each.__code__)]
            cells = [cell.cell_contents for cell in each.__closure__ or ()]
            waiting += [each.__code__, *(each.__defaults__ or ()), *cells, *used] if own else ()
        elif isinstance(each, type):
            members = [v for n, v in vars(each).items() if n not in ("__doc__", "__module__")]
            waiting += [*members, *each.__mro__[1:]] if own else ()
        elif isinstance(each, (dict, set, frozenset)):
            yield repr(sorted(map(repr, each.items() if isinstance(each, dict) else each)))
        elif " at 0x" not in (text := repr(each)):
            yield text


def _names(code: types.CodeType) -> list[str]:
    """Names that a function uses, also in the functions inside it."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return [*code.co_names, *(name for each in inner for name in _names(each))]
