"""Reads the lines to insert from a host's page, so that the page and what is run are one."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADER = re.compile(r"# (?P<file>\S+), (?P<where>after|before) line (?P<line>\d+): (?P<anchor>.+)")


@dataclass(frozen=True)
class Insertion:
    """Code of ours, and the host's line that it goes after or before.

    Attributes:
        file: relative to the clone.
        where: ``after`` or ``before``.
        line: number of the host's line, from 1.
        anchor: the host's line itself; spacing does not matter.
        code: what to insert, not indented.
    """

    file: str
    where: str
    line: int
    anchor: str
    code: str


def read_insertions(page: str, *, classifier: bool = False) -> list[Insertion]:
    """The Python blocks of a Markdown page that start with ``# FILE, after line N: HOST'S LINE``.

    Args:
        page: the text.
        classifier: with the optional block of the host's classifier, and its arguments of
            ``attach``.

    Raises:
        ValueError: a block that names a line, but not in that form; or no block at all.
    """
    found = []
    for block in _BLOCK.findall(page):
        first, _, code = block.partition("\n")
        header = _HEADER.fullmatch(first)
        if header:
            parts = header.groupdict()
            found.append(Insertion(**{**parts, "line": int(parts["line"]), "code": code}))
        elif " line " in first:
            raise ValueError(f"not of the form '# FILE, after line N: HOST LINE': {first!r}")
    if not found:
        raise ValueError("no block starts with '# FILE, after line N: HOST LINE'")
    if classifier:
        (function,) = [b for b in _BLOCK.findall(page) if b.startswith("# optional")]
        arguments = re.search(r"and add\s`(.*)` to the call", page)[1]
        call = re.sub(r",?\s*\)\n*$", f", {arguments})\n", found[0].code)
        found[0] = replace(found[0], code=function + call)
    return found


def insert(source: str, insertions: list[Insertion]) -> str:
    """The host's source with all insertions for it, each indented as the host's line is.

    Raises:
        ValueError: lists every insertion whose host line is absent or elsewhere.
    """
    lines = source.splitlines()
    problems, placed = [], []
    for one in insertions:
        at = [i for i, line in enumerate(lines) if line.split() == one.anchor.split()]
        if one.line - 1 not in at:
            numbers = ", ".join(str(i + 1) for i in at) or "none"
            problems.append(f"{one.anchor!r} must be line {one.line}; it is line {numbers}")
            continue
        host_line = lines[one.line - 1]
        indent = host_line[: len(host_line) - len(host_line.lstrip())]
        code = textwrap.indent(one.code.rstrip(), indent).splitlines()
        placed.append((one.line - 1 + (one.where == "after"), code))
    if problems:
        raise ValueError("this is another version of the host: " + "; ".join(problems))
    placed.reverse()  # from the last to the first: each leaves the numbers of those before it
    for index, code in sorted(placed, key=lambda place: place[0], reverse=True):
        lines[index:index] = code
    return "\n".join(lines) + "\n"
