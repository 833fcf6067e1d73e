"""The pages of public hosts: their blocks parse, and go where they say in a host of that shape."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.io
import torch

from tests.hosts.test_imitations import IMITATED
from tests.toys import toy_problem

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "examples" / "hosts"
DRIVER = REPOSITORY / "tests" / "hosts"
sys.path.insert(0, str(DRIVER))
from insertions import Insertion, insert, read_insertions  # noqa: E402
from run_host import HOSTS, problems  # noqa: E402
from stand_in import as_cizsl, as_gsmflow, as_mat  # noqa: E402

PAGES = sorted(FOLDER.glob("*.md"))
MINIATURE = """\
import argparse, torch, torch.nn as nn, scipy.io
from networks.net import Generator
parser = argparse.ArgumentParser()
for name in ("dataset", "dataroot", "class_embedding"):
    parser.add_argument("--" + name)
for name in "resSize attSize nz nclass_all batch_size ngh ndh nepoch manualSeed".split():
    parser.add_argument("--" + name, type=int)
parser.add_argument("--gzsl", action="store_true")
parser.add_argument("--preprocessing", action="store_true")
parser.add_argument("--cls_weight", type=float)
opt = parser.parse_args()
torch.manual_seed(opt.manualSeed)
class Data: pass
data, at = Data(), f"{opt.dataroot}/{opt.dataset}/"
mat, splits = scipy.io.loadmat(at + "res101.mat"), scipy.io.loadmat(at + "att_splits.mat")
x, y = torch.tensor(mat["features"].T).float() / 16, torch.tensor(mat["labels"]).view(-1).long() - 1
for part in ("trainval", "test_seen", "test_unseen"):
    rows = torch.tensor(splits[part + "_loc"].astype(int)).view(-1) - 1
    setattr(data, part.replace("trainval", "train") + "_feature", x[rows])
    setattr(data, part.replace("trainval", "train") + "_label", y[rows])
data.attribute = torch.tensor(splits["att"].T).float()
data.seenclasses, data.unseenclasses = data.train_label.unique(), data.test_unseen_label.unique()
netG = Generator(opt.nz, opt.ngh, opt.resSize).cuda()
optimizerG = torch.optim.Adam(netG.parameters(), lr=1e-3)
one = torch.FloatTensor([1])
for step in range(3):
\tidx = torch.randperm(len(data.train_label))[:16]
\tinput_res, input_att = data.train_feature[idx], data.attribute[data.train_label[idx]]
\tnetG.zero_grad()
\tG_cost = (netG(torch.randn(16, opt.nz), c=input_att) - input_res).pow(2).mean()
\terrG = G_cost
\terrG.backward(one)
\toptimizerG.step()
print('loss', G_cost.data[0].item())
"""
NETWORK = """\
import torch
class Generator(torch.nn.Module):
    def __init__(self, nz, ngh, width):
        super().__init__()
        self.fc1, self.fc3 = torch.nn.Linear(2 * nz, ngh), torch.nn.Linear(ngh, width)
    def forward(self, z, a1=None, c=None):
        self.out = torch.relu(self.fc1(torch.cat((z, c), 1)))
        return torch.sigmoid(self.fc3(self.out))
"""
PAGE = """\
Text.

```bash
pip install nothing
```
```python
# clswgan.py, after line 24: optimizerG  = torch.optim.Adam(netG.parameters(), lr=1e-3)
import d3_plugin

d3 = d3_plugin.attach(generator=netG, optimizer=optimizerG, data=data)
```
```python
x = "not an insertion"
```
```python
# clswgan.py, before line 32: errG.backward(one)
errG = errG + d3.loss(features=input_res, attributes=input_att)
```
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_attach_and_add_the_loss(page: Path) -> None:
    attach, loss = read_insertions(page.read_text(encoding="utf-8"))
    assert (attach.where, loss.where) == ("after", "before")
    assert attach.file == loss.file
    assert "d3_plugin.attach(" in attach.code
    name, d3 = (
        re.fullmatch(r"(\w+)\.backward\(.*\)", loss.anchor)[1],
        r"(self\.)?d3\.loss\((?s:.*)\)\n",
    )
    assert re.fullmatch(rf"{name} = {name} \+ {d3}", loss.code)
    compile(attach.code + loss.code, page.name, "exec")
    if page.stem not in IMITATED:
        assert attach.line < loss.line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_at_most_five_lines(page: Path) -> None:
    """Statements, however many lines their arguments are written in."""
    text = page.read_text(encoding="utf-8")
    code = [one.code for one in read_insertions(text)]
    code.append(re.search(r"After the last epoch, `(print\(.*?\))`\.", text)[1])
    statements = [node for part in code for node in ast.walk(ast.parse(part))]
    limit = {"zerodiffusion": 9, "cgzsl": 6}.get(page.stem, 5)  # loaders without a GZSL problem
    assert sum(isinstance(node, ast.stmt) for node in statements) <= limit


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_say_what_was_run(page: Path) -> None:
    *_, run = page.read_text(encoding="utf-8").split("## What was run\n")
    assert "weight 0 left every" in re.sub(r"\s+", " ", run)


def test_the_table_of_all_hosts_has_every_page() -> None:
    table = (REPOSITORY / "docs" / "hosts.md").read_text("utf-8")
    rows = dict(
        re.findall(r"(?m)^\| \[.*?\]\(../examples/hosts/(\w+)\.md\) \| (\d+ \| .*?) \|", table)
    )
    found = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        last = re.search(r"After the last epoch, `(print\(.*?\))`\.", text)
        assert last
        code = [*(insertion.code for insertion in read_insertions(text)), last[1]]
        nodes = [node for part in code for node in ast.walk(ast.parse(part))]
        statements = sum(isinstance(node, ast.stmt) for node in nodes)
        keywords = [
            f"`{keyword.arg}`"
            for node in nodes
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "d3_plugin.attach"
            for keyword in node.keywords
            if keyword.arg not in ("generator", "optimizer", "data")
        ]
        found[page.stem] = f"{statements} | {', '.join(keywords) or 'none'}"
    assert rows == found


@pytest.mark.parametrize("name", ["fclswgan", "tfvaegan", "cegzsl", "free"])
def test_optional_classifiers_are_arguments_of_attach(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    attach, _ = read_insertions(text, classifier=True)
    function, *_, last = ast.parse(attach.code).body
    given = {keyword.arg for keyword in last.value.keywords}
    assert function.name == "d3_classifier"
    assert given >= {"generator", "data", "train_classifier", "synthetic_per_class"}


def test_there_is_a_page_for_every_host() -> None:
    assert {p.stem for p in PAGES} == {*HOSTS, *IMITATED}


def test_blocks_are_read() -> None:
    first, second = read_insertions(PAGE)
    assert second == Insertion(
        "clswgan.py",
        "before",
        32,
        "errG.backward(one)",
        "errG = errG + d3.loss(features=input_res, attributes=input_att)\n",
    )
    assert (first.where, first.line) == ("after", 24)
    assert first.code.startswith("import d3_plugin\n\nd3 =")


@pytest.mark.parametrize(
    ("page", "match"),
    [
        ("no blocks", "no block"),
        ("```python\n# a.py, behind line 3: x\ny\n```\n", "not of the form.*behind line 3"),
        ("```python\n# a.py, after line three: x\ny\n```\n", "not of the form"),
    ],
)
def test_unreadable_pages(page: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_insertions(page)


def test_insertions_take_the_hosts_indentation() -> None:
    source = "for i in x:\n\ta  = 1\n\tb()\nc()\n"
    wanted = [
        Insertion("s.py", "after", 2, "a = 1", "if a:\n    d()\n\ne()\n"),
        Insertion("s.py", "before", 3, "b()", "before_b()\n"),
        Insertion("s.py", "after", 4, "c()", "end()\n"),
    ]
    lines = [
        "for i in x:",
        "\ta  = 1",
        "\tif a:",
        "\t    d()",
        "",
        "\te()",
        "\tbefore_b()",
        "\tb()",
    ]
    assert insert(source, wanted).splitlines() == [*lines, "c()", "end()"]


def test_every_misplaced_anchor_is_listed() -> None:
    wanted = [
        Insertion("s.py", "after", 3, "a()", ""),
        Insertion("s.py", "after", 2, "b()", ""),
        Insertion("s.py", "after", 2, "gone()", ""),
    ]
    with pytest.raises(ValueError, match="another version") as error:
        insert("a()\nc()\nb()\na()\n", wanted)
    for part in ("'a()' must be line 3; it is line 1, 4", "line 3", "it is line none"):
        assert part in str(error.value)


@pytest.mark.slow
def test_driver_on_a_miniature_host(tmp_path: Path) -> None:
    """The driver with another page, on a host written here."""
    (tmp_path / "fclswgan.md").write_text(PAGE, encoding="utf-8")
    clone = tmp_path / "clone"
    (clone / "networks").mkdir(parents=True)
    (clone / "clswgan.py").write_text(MINIATURE)
    (clone / "networks" / "net.py").write_text(NETWORK)
    command = [str(DRIVER / "run_host.py"), "fclswgan", "clone", "--page", "fclswgan.md"]
    (tmp_path / "data").mkdir()
    features, splits = as_mat(toy_problem())
    features["features"] *= 16  # the host divides by it
    scipy.io.savemat(tmp_path / "data" / "res101.mat", features)
    scipy.io.savemat(tmp_path / "data" / "att_splits.mat", splits)
    command += ["--data", "data", "--work", "work", "--", "--ngh", "16"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks hold" in done.stdout
    for variant in ("zero", "d3"):
        result = json.loads((tmp_path / "work" / variant / "result.json").read_text())
        assert result["student_steps"] == len(result["all_gradients"]) == 3
    assert len(result["gradients"]) == 3
    printed = [(tmp_path / "work" / v / "printed.txt").read_text() for v in ("plain", "zero", "d3")]
    assert printed[0] == printed[1] != printed[2]


def test_gsmflows_files_hold_the_same_rows_with_seen_classes_first() -> None:
    features, splits = as_mat(toy_problem())
    data, labels = as_gsmflow(features, splits)
    before = splits["att"].T[features["labels"][splits["test_unseen_loc"][:, 0] - 1, 0] - 1]
    assert (data["attribute"][labels["test_unseen_idex"] - 1] == before).all()
    assert labels["train_idx"].max() == len(data["seen_pro"]) < labels["test_unseen_idex"].min()
    assert len(data["train_fea"]) == len(labels["train_idx"])


def test_cizsls_files_hold_the_same_rows(tmp_path: Path) -> None:
    features, splits = as_mat(toy_problem())
    files = as_cizsl(features, splits, tmp_path)
    for part, name in (("trainval", "train"), ("test_unseen", "test")):
        labels = pickle.loads((tmp_path / f"labels_{name}.pkl").read_bytes())
        rows = splits[f"{part}_loc"][:, 0] - 1
        classes = files["train_test_split_easy"][f"{name}_cid"]
        assert (classes[labels] == features["labels"][rows, 0]).all()
        assert (files[f"pfc_feat_{name}"]["pfc_feat"] == features["features"].T[rows]).all()


def outcome(folder: Path, weight: float, printed: str) -> dict[str, object]:
    folder.mkdir()
    stream = {"cpu": torch.get_rng_state()}
    torch.save({"netG": {"w": torch.tensor(weight)}, "stream": stream}, folder / "state.pt")
    (folder / "printed.txt").write_text(printed)
    return {"finite": True, "gradients": [], "all_gradients": [1.0, 1.0], "student_steps": 2}


def test_driver_notices_what_is_wrong(tmp_path: Path) -> None:
    results = {
        "plain": outcome(tmp_path / "plain", 1.0, "loss 1"),
        "zero": outcome(tmp_path / "zero", 1.0, "loss 1"),
        "d3": outcome(tmp_path / "d3", 2.0, "loss 2") | {"gradients": [0.1, 0.2]},
    }
    assert problems(tmp_path, results) == []
    results["d3"] |= {"gradients": [0.1, 0.0], "finite": False, "student_steps": 1}
    results["d3"]["calls"] = {
        "loop": ["c: noise, z: attributes"],
        "d3": ["c: attributes, z: noise"],
    }
    torch.rand(1)
    (tmp_path / "zero").rename(tmp_path / "before")
    outcome(tmp_path / "zero", 1.0 + 1e-6, "loss 3")
    found = "; ".join(problems(tmp_path, results))
    for part in (
        "d3: a loss was not finite",
        "d3: 2 steps, 1 of the student",
        "d3: D³ passes ['c: attributes, z: noise'] to the generator, the loop ['c: noise",
        "without gradient at the generator",
        "weight 0 changes netG",
        "weight 0 changes stream",
        "weight 0 changes what the host prints",
    ):
        assert part in found
    assert found.count(";") == 6
