"""Code blocks, commands, paths and links of the pages are valid; complete Python blocks run."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3_plugin.__main__ import parse

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]
FILES += sorted(ROOT.glob("examples/**/*.md"))
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in FILES}
BLOCK = re.compile(r"(?m)^(<!-- fragment -->\n)?```(\w+)\n((?s:.*?))^```$")
FILE = re.compile(r"# \S+\.(py|toml)\n")  # typed into a folder by tests/testing/test_contributing
FASTER = ("steps=400", "steps=4")
"""The one number of a page that is changed here."""
ROOMS = ("adapters/", "d3_plugin/", "docs/", "examples/", "tests/", ".ci/")


def blocks(kind: str) -> Iterator[tuple[str, str, bool]]:
    """Page, code, and whether it is complete."""
    for page, text in PAGES.items():
        for fragment, language, code in BLOCK.findall(text):
            if language == kind:
                on_its_own = not (fragment or FILE.match(code) or "examples/hosts" in page)
                yield page, code, on_its_own


PYTHON = list(blocks("python"))
COMPLETE = [(page, code) for page, code, complete in PYTHON if complete]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command, in blocks and in the text."""
    for page, code, _ in blocks("bash"):
        for line in code.splitlines():
            for command in line.split("&&"):
                yield page, shlex.split(command, comments=True)
    for page, text in PAGES.items():
        for span in re.findall(r"`((?:d3|python|pytest|torchrun) [^`\n]+)`", text):
            yield page, shlex.split(span)


def test_no_page_has_the_marks_of_a_merge() -> None:
    marked = [page for page, text in PAGES.items() if re.search(r"(?m)^(<{7}|={7}$|>{7})", text)]
    assert not marked


def test_every_block_is_found() -> None:
    for page, text in PAGES.items():
        indented = re.findall(r"(?m)^ *```", text)
        assert len(indented) == 2 * len(BLOCK.findall(text)), page
    assert {page for page, _ in COMPLETE} >= {"README.md"}


@pytest.mark.parametrize(("page", "code", "complete"), PYTHON)
def test_python_compiles(page: str, code: str, complete: bool) -> None:
    ast.parse(code, page)


@pytest.mark.filterwarnings("ignore:.*far below D³'s student")  # after four steps
@pytest.mark.parametrize(("page", "code"), COMPLETE)
def test_complete_python_runs(
    page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace(*FASTER), page, "exec"), {})


def test_first_block_is_the_example() -> None:
    page, code = COMPLETE[0]
    assert page == "README.md"
    assert FASTER[0] in code
    _, trained = code.replace("FCLSWGANTrainer", "Trainer").split("settings = FCLSWGANSettings")
    assert trained.partition("\n")[2] in (ROOT / "examples/three_lines.py").read_text("utf-8")


def test_commands_are_accepted() -> None:
    """Options exist, and files and modules that are named."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    extras, parsed = setup["options.extras_require"], 0
    for page, words in commands():
        where = f"{page}: {shlex.join(words)}"
        program = Path(words[0]).name if words else ""
        if program == "d3":
            parsed += 1
            try:
                parse(words[1:])
            except SystemExit as end:
                if end.code:  # not --help
                    pytest.fail(where)
        if program == "python" and words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None, where
        if program == "pip":
            assert set(re.findall(r"\[(\w+)\]", words[-1])) <= extras.keys(), where
    assert parsed > 20


def test_paths_exist() -> None:
    """Of this repository, in blocks, in `spans` and in links, with their anchors."""
    for page, text in PAGES.items():
        plain = BLOCK.sub("", text)
        named = [word for span in re.findall(r"`([^`\n]+)`", plain) for word in span.split()]
        named += [word for _, code, _ in blocks("bash") for word in code.split()]
        for word in named:
            if word.startswith(ROOMS) and not re.search(r"[<>{}$*]", word):
                assert (ROOT / word.rstrip(".,;:")).exists(), f"{page} names {word}"
        for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", plain):
            target, _, anchor = link.partition("#")
            file = (ROOT / page).parent / target if target else ROOT / page
            assert file.exists(), f"{page} links to {link}"
            if anchor:
                titles = re.findall(r"(?m)^#+ (.*)$", file.read_text("utf-8"))
                anchors = [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles]
                assert anchor in anchors, f"{page} links to {link}"


def test_links_of_readme_work_on_a_package_index() -> None:
    """It is the description of the distribution too, where relative links lead nowhere."""
    assert not re.findall(r"\]\((?!https?://)", PAGES["README.md"])


def test_gains_on_the_first_screen_are_those_of_the_table() -> None:
    """Lowest and highest difference on real data, and at most 12 lines of text before any code."""
    before_code = PAGES["README.md"].partition("```")[0]
    text = [line for line in before_code.splitlines() if line and not line.startswith("#")]
    assert len(text) <= 12
    header, _, *rows = re.findall(r"(?m)^\|.*\|$", PAGES["README.md"].partition("results -->")[2])
    titles = [title.strip() for title in header.split("|")]
    real = [row.split("|") for row in rows if ", digits" not in row]
    assert len(real) == 9

    def gains(title: str) -> str:
        column = [cells[titles.index(title)] for cells in real]
        values = sorted(float(re.findall(r"[+-]\d+\.\d", cell)[0]) for cell in column)
        return f"{values[0]:+} to {values[-1]:+}"

    said = (
        f"AUSUC {gains('ΔAUSUC')} over the baseline, "
        f"{gains('ΔAUSUC vs ensemble')} over an ensemble of its classifiers; "
        f"H {gains('ΔH vs calibrated stacking')} over calibrated stacking"
    )
    assert said in " ".join(before_code.split())
