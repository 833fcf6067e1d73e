"""Type checkers find nothing in the library, and resolve a user's script.

Also in the installs that the pages tell people to make.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("user_script.py")
LITTER = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
DISTRIBUTIONS = {found.name for found in distributions()}
INSTALL = re.compile(r"pip install (?:-q )?torch\S+ (.*?) &&")
PAGES = "".join((ROOT / page).read_text("utf-8") for page in ("README.md", "CONTRIBUTING.md"))
INSTALLS = sorted({re.sub(r"\[\w+\]", "", words) for words in INSTALL.findall(PAGES)})
USERS = sorted((ROOT / "tests" / "packaging" / "user_scripts").glob("*.py"))
EXAMPLES = ("contrastive", "own_arrays", "own_vae", "three_lines")
RIGHT = SCRIPT.read_text("utf-8")
WRONG = "wrong: str = harmonic\nd3.evaluat()\nid2sd().shap\n"
LINES = [str(RIGHT.count("\n") + more) for more in (1, 2, 3)]
"""Where the checkers must find an error, and nowhere else."""


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def pyright(python: object, folder: Path, *files: Path) -> str:
    """What it says in basic mode of these files, or of those that the folder's settings name."""
    if "pyright" not in DISTRIBUTIONS:
        pytest.skip("pyright is not installed in this environment")
    done = run(sys.executable, "-m", "pyright", "--pythonpath", python, *files, cwd=folder)
    if not re.search(r"\d errors?, ", done.stdout):
        pytest.skip(f"pyright cannot be started here: {done.stderr[-500:]}")
    return done.stdout


@pytest.mark.slow
def test_pyright_finds_nothing_in_the_library() -> None:
    said = pyright(sys.executable, ROOT)
    assert said.startswith("0 errors, 0 warnings"), said


@pytest.mark.slow
def test_pyright_sees_types(tmp_path: Path) -> None:
    """Of the source, laid out as it is installed."""
    for name, folder in (("d3_plugin", "d3_plugin"), ("d3_adapters", "adapters")):
        shutil.copytree(ROOT / folder, tmp_path / name, ignore=LITTER)
    script = tmp_path / "script.py"
    script.write_text(RIGHT + WRONG, "utf-8")
    said = pyright(sys.executable, tmp_path, script)
    assert re.findall(r":(\d+):\d+ - error", said) == LINES, said


def assigned(script: str) -> list[str]:
    """Names at the top level, also in ``try``."""
    names = []
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Assign) and node.col_offset <= 4:
            names += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return list(dict.fromkeys(names))


def test_scripts_use_every_public_object() -> None:
    used = {word for script in USERS for word in re.findall(r"\w+", script.read_text("utf-8"))}
    for module in (
        "",
        ".data",
        ".evaluation",
        ".experiments",
        ".functional",
        ".losses",
        ".testing",
    ):
        public = importlib.import_module(f"d3_plugin{module}").__all__
        assert set(public) <= used, module


@pytest.mark.slow
def test_pyright_knows_the_results_of_every_public_object(tmp_path: Path) -> None:
    """No error, and no name of which an editor would say Any or Unknown; in the examples, too."""
    for script in USERS:
        text = script.read_text("utf-8")
        shown = "".join(f"reveal_type({name})\n" for name in assigned(text))
        (tmp_path / script.name).write_text(f"{text}\n{shown}", "utf-8")
    examples = [ROOT / "examples" / f"{name}.py" for name in EXAMPLES]
    said = pyright(sys.executable, tmp_path, *tmp_path.glob("*.py"), *examples)
    assert "\n0 errors, 0 warnings" in said, said
    types = dict(re.findall(r'Type of "(\w+)" is "(.*)"', said))
    assert len(types) > 60
    known = r"tuple\[Any, \.{3}\]|floating\[Any\]|dict\[str, Any\]"  # of arrays, and of JSON
    vague = {
        n: t for n, t in types.items() if re.search(r"\b(Any|Unknown)\b", re.sub(known, "", t))
    }
    assert not vague


def test_pages_name_two_installs() -> None:
    assert INSTALLS == ['"."', '--config-settings editable_mode=strict -e "."']


@pytest.mark.slow
@pytest.mark.parametrize("words", INSTALLS)
def test_checkers_see_types_in_every_install(words: str, tmp_path: Path) -> None:
    source, script = tmp_path / "source", tmp_path / "script" / "script.py"
    shutil.copytree(ROOT, source, ignore=LITTER)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    libraries = run(python, "-c", "import site; print(*site.getsitepackages())", cwd=tmp_path)
    # torch and all else from this environment, but not its own copy of the package.
    Path(libraries.stdout.strip(), "others.pth").write_text(sysconfig.get_path("purelib"))
    done = run(python, "-m", "pip", "install", "--no-deps", *shlex.split(words), cwd=source)
    assert done.returncode == 0, done.stderr
    script.parent.mkdir()
    script.write_text(RIGHT + WRONG, "utf-8")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    done = run(*mypy, script, cwd=script.parent)
    assert re.findall(r"(\d+): error", done.stdout) == LINES, done.stdout
    said = pyright(python, script.parent, script)
    assert re.findall(r":(\d+):\d+ - error", said) == LINES, said
