"""Runs a public host three times: as it is, with D³ at weight 0, and with D³.

    python tests/hosts/run_host.py tfvaegan path/to/clone --data path/to/CUB -- --nepoch 3

The blocks of ``tfvaegan.md`` are inserted into a copy of the clone's Python files. It fails unless
D³'s loss is finite and reaches the generator in every step, the student steps with the generator,
and weight 0 leaves all networks, the random stream and the printed lines of the host as they were.
Everything runs on the CPU; ``SHIMS`` here and ``shim_torch`` in host_process.py are what that and
today's torch need, none of it is for D³. Arguments after ``--`` go to the host.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from insertions import Insertion, insert, read_insertions
from stand_in import write_folder

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "examples" / "hosts"
COMMON = (
    "--dataset CUB --dataroot data --class_embedding att --resSize {D} --attSize {A} --nz {A} "
    "--nclass_all {C} --batch_size 64 --ngh 512 --ndh 512 --nepoch 1 --manualSeed 3483 "
)
VAE = (
    "--gzsl --preprocessing --encoded_noise --gammaD 10 --gammaG 10 --lr 0.0001 "
    "--recons_weight 0.01 "
)
HOSTS = {  # script and arguments; the last of two equal options counts
    "fclswgan": ("clswgan.py", COMMON + "--gzsl --preprocessing --cls_weight 0.01"),
    "tfvaegan": ("train_images.py", COMMON + VAE + "--feed_lr 0.00001"),
    "cegzsl": ("CE_GZSL.py", COMMON + "--nclass_seen {S} --embedSize 512 --outzSize 128 --nhF 512"),
    "free": (
        "train_free.py",
        COMMON + VAE + "--recons_weight 0.001 --center_margin 200 --incenter_weight 0.8 "
        "--critic_iter 1 --nclass_seen {S} --latensize 256 --result_root results",
    ),
    "lisgan": ("lisgan.py", COMMON + "--preprocessing --cls_weight 0.01"),
    "lsrgan": ("clswgan.py", COMMON + "--gzsl --preprocessing --cuda --Neighbours 2"),
    "gzslod": (
        "clswgan_action.py",
        COMMON + "--gzsl_od --preprocessing --action_embedding res101 --class_embedding ../att",
    ),
    "cadavae": (
        "model/single_experiment.py",
        "--dataset CUB --num_shots 0 --generalized True",
    ),
    "zla": (
        "WGAN+ZLAP.py",
        "--dataset CUB --dataroot data --resSize {D} --attSize {A} --nz {A} --nepoch 1",
    ),
    "sdgzsl": (
        "train.py",
        "--dataset CUB --dataroot data --gen_nepoch 1 --S_dim 64 --NS_dim 64 --disp_interval 1",
    ),
    "gsmflow": (
        "train_CUB.py",
        "--dataset CUB --dataroot data --gen_nepoch 1 --batchsize 64 --disp_interval 1",
    ),
    "zerodiff": (
        "zerodiff_DFG_train.py",
        "--dataset CUB --dataroot data --resSize {D} --attSize {A} --noiseSize {A} --dim_t {A} "
        "--nclass_all {C} --ngh 512 --ndh 512 --nepoch 1 --manualSeed 3483 --preprocessing "
        "--embed_type VA --gamma_ADV 10 --gamma_dist 5 --freeze_dec",
    ),
    "abp": (
        "train_ABP.py",
        "--dataset CUB --dataroot data --manualSeed 3483 --gh_dim 512 --nSample 50 --nepoch 2 "
        "--disp_interval 7 --evl_interval 14",
    ),
    "gazsl": (
        "train_GBU.py",
        "--dataset CUB --dataroot data --preprocessing --manualSeed 3483 --evl_interval 120",
    ),
    "gdan": (
        "train_gdan.py",
        "--data_name CUB --data_root data --x_dim {D} --s_dim {A} --epoch 1 --batch 64",
    ),
    "regzsl": (
        "main.py",
        "--dataset CUB --dataroot data --epoch 1 --syn_num 50 --c_epoch 2 --critic_iter 1 "
        "--manualSeed 3483 --c_batch_size 64 --seen_Neighbours 3",
    ),
    "bivaegan": (
        "train.py",
        "--dataset CUB --dataroot data --resSize {D} --attSize {A} --nclass_all {C} --gzsl "
        "--transductive --RCritic --preprocessing --batch_size 64 --syn_num 50 --critic_iter 1 "
        "--nepoch 1 --manualSeed 3483",
    ),
    "mdgzsl": (
        "train.py",
        "--dataset CUB --dataroot data --gen_nepoch 1 --S_dim 64 --NS_dim 64 --ntrain_class {S} "
        "--nclass_seen {S} --nSample 50 --disp_interval 7 --evl_interval 13",
    ),
    "cizsl": (
        "train_CIZSL.py",
        "--dataset CUB --splitmode easy --manualSeed 3483 --evl_interval 60",
    ),
    "cgzsl": ("main.py", "--dataset CUB --dataroot data --epochs 1"),
    "zerodiffusion": ("train.py", "data/CUB/sounds.pkl --dataset UrbanSound8k --split test"),
    "d3gzsl": ("gzsl/main.py", ""),  # no options: see argscub.py, and SHIMS
}
WIDE = ("gsmflow", "zerodiff", "regzsl", "cgzsl")  # 2048 features are written into their code
SHIMS = [  # patterns in the host's files, and what stands for them
    # 0-dim today
    (r"\b([DGR]_cost|Wasserstein_D|vae_loss_seen|loss|embed_err|entr_seen)\.data\[0\]", r"\1.data"),
    (r"\b(G_loss|D_loss_\w+)\.data\[0\]", r"\1.data"),
    (r"(requires_grad= ?True\))\.cuda\(\)", r"\1.clone()"),  # changed in place, and no leaf there
    (r"seen_mask = 1 - seen_mask", "seen_mask = ~seen_mask"),
    (r"= \[2048, self", "= [self.dataset.data['train_seen']['resnet_features'].size(1), self"),
    (r"\[8192, 4096\]", "[8192, 512]"),  # widths that no option sets
    (r"\[4096, 8192\]", "[512, 8192]"),
    (r"dec_hidden_size=4096(?=\)$|, use)", "dec_hidden_size=opt.ngh"),
    (r"dec_hidden_size=4096,feature_type", "dec_hidden_size=512,feature_type"),
    (r"default=\[(4096, |1024,)2048\]", "default=[512, 64]"),  # ZLA's, for digits
    (r"import classifier_cls as classifier2\n", "\n"),  # not in the repository, and not used
    (r"'device': 'cuda'", "'device': 'cpu'"),
    (r"torch\.cuda\.(\w+Tensor)", r"torch.\1"),
    (r"shuffle= True,drop_last", "shuffle= False,drop_last"),  # a loader without len(), not used
    (r"'epochs': 100", "'epochs': 1"),
    (r"int\(medi_idx\)", "medi_idx.item()"),  # an array of one element
    (r"z = self\.cinn\(x, c\)", "z, jac = self.cinn(x, c)"),  # FrEIA 0.2: one tuple
    (r"^ +jac = self\.cinn\.log_jacobian.*\n", ""),
    (r"(self\.cinn\(z, c, rev=True\))", r"\1[0]"),
    (r"device='cuda'", "device='cpu'"),
    (r"^ +(netR_state_dict =|self\.netR\.load).*\n", ""),  # netR untrained
    (r'folder_name = "\./(log|out)"', r'folder_name = "./\1/CUB"'),
    (r"ZERODIFF\.interval", "zerodiff.interval"),  # the class has none
    (r"x_t\.device", "x_tp1.device"),  # before x_t is set
    (r"^import (argsawa2?|argsflo|argssun|wandb|seaborn as sns|pandas as pd)\n", ""),  # not used
    (r"wandb\.(init|log)\(", "dict("),
    (r"data/cub/", "data/CUB/"),
    (r"self\.([go]_epoch) = \d+", r"self.\1 = 1"),
    (r"self\.(x_dim|embedSize) = 2048", r"self.\1 = {D}"),
    (r"self\.(attr_dim|nz) = 312", r"self.\1 = {A}"),
    (r"self\.(n_class_all|out_dim) = 200", r"self.\1 = {C}"),
    (r"self\.n_class_seen = 150", "self.n_class_seen = {S}"),
    (  # the critic steps between a forward and its backward pass, which torch 1.4 let pass
        r"^( +)D_optimizer\.step\(\)",
        r"\1with torch.autograd._unsafe_preserve_version_counter("
        r"tuple(discriminator.parameters())): D_optimizer.step()",
    ),
    (
        r"get_loader\(opt2, batch_size=128\)",
        "get_loader(opt2, batch_size=8)",
    ),  # drops the last batch
    (r"from train_diffusion import", "from train_denoise import"),  # the file's name
    (r"min\(8, os\.cpu_count\(\) or 1\)", "0"),
    (r"range\(0, 10\)", "range(0, 2)"),  # trainings
    (r"_epoch\": [28]0", '_epoch": 8'),
    (r"train_cls_num(\s+)= 150", r"train_cls_num\1= {S}"),
    (r"test_cls_num(\s+)= 50", r"test_cls_num\1= {U}"),
    (r"opt\.batchsize = 10(24|00)", "opt.batchsize = 64"),
    (r"3000 ?\+ ?1", "121"),  # steps
    (r"h_dim = 40[89]6", "h_dim = 512"),
    (
        r"nn\.Linear\((opt\.\w+ ?\+ ?opt\.\w+|input_size|opt\.resSize ?), ?4096\)",
        r"nn.Linear(\1, 512)",
    ),
    (r"nn\.Linear\(4096,", "nn.Linear(512,"),
    (r"BatchNorm1d\(4096\)", "BatchNorm1d(512)"),
    (r"torch\.device\(\"cuda:0\"\)", 'torch.device("cpu")'),
    (r"^ +(states = torch\.load\(args\.vae_ckpt|gen\.load_state_dict).*\n", ""),  # untrained
    (r"from \.utils import", "from utils import"),  # a script in no package
    (r"integrate\.trapz", "integrate.trapezoid"),
    (r"data/CUB2011/", "data/CUB/"),
    (r"^from scipy\.stats\.stats import.*\n", ""),
    (r"if not torch\.cuda\.is_available\(\):", "if False:"),
    (r"'--seen_classes', default=8", "'--seen_classes', default=3"),
    (r"'--novel_classes', default=2", "'--novel_classes', default=1"),
    (r"'--num_tasks', default=5", "'--num_tasks', default=2"),
    (r"'--all_classes', default=50", "'--all_classes', default={C}"),
    (r"'--attribute_size', default=85", "'--attribute_size', default={A}"),
]
VARIANTS = {"plain": 0.0, "zero": 0.0, "d3": 0.01}


def prepare(clone: Path, folder: Path, wanted: list[Insertion], facts: dict[str, int]) -> None:
    """A copy of the clone's Python files with shims and insertions."""
    for path in clone.rglob("*.py"):
        name = path.relative_to(clone)
        source = path.read_text(encoding="utf-8")
        here = [one for one in wanted if one.file == name.as_posix()]
        wanted = [one for one in wanted if one not in here]
        source = insert(source, here) if here else source
        for pattern, replacement in SHIMS:
            source = re.sub(pattern, replacement.format(**facts), source, flags=re.MULTILINE)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    (folder / "log").mkdir(exist_ok=True)
    if wanted:
        raise SystemExit(f"not in {clone}: {sorted({one.file for one in wanted})}")


def run(variant: str, folder: Path, script: str, arguments: list[str]) -> dict[str, Any]:
    """Runs one variant in its folder; its lines go to printed.txt and errors.txt there."""
    command = [sys.executable, str(HERE / "host_process.py"), str(VARIANTS[variant]), script]
    with (folder / "printed.txt").open("w") as out, (folder / "errors.txt").open("w") as err:
        done = subprocess.run([*command, *arguments], cwd=folder, stdout=out, stderr=err)
    if done.returncode:
        raise SystemExit(
            f"{variant}: {script} failed\n{(folder / 'errors.txt').read_text()[-3000:]}"
        )
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def printed(folder: Path) -> list[str]:
    """What the host printed, without the time of day (FREE, LisGAN) and folders (CADA-VAE)."""
    lines = (folder / "printed.txt").read_text().splitlines()
    return [line for line in lines if not re.search(r"\d\d:\d\d|Time Elapsed|/zero|/plain", line)]


def problems(work: Path, results: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as it should be."""
    found = []
    for name in results.keys() & {"zero", "d3"}:
        r = results[name]
        if not r["finite"]:
            found.append(f"{name}: a loss was not finite")
        if not len(r["all_gradients"]) == r["student_steps"] > 0:
            found.append(
                f"{name}: {len(r['all_gradients'])} steps, {r['student_steps']} of the student"
            )
        loop, d3 = (r.get("calls", {}).get(who, []) for who in ("loop", "d3"))
        if loop and not set(d3) <= set(loop):
            found.append(f"{name}: D³ passes {d3} to the generator, the loop {loop}")
    gradients = results.get("d3", {}).get("gradients", [1.0])
    if not all(g > 0 for g in gradients) or not gradients:
        found.append("d3: steps without gradient at the generator")
    if results.keys() >= {"plain", "zero"}:
        plain, zero = (torch.load(work / v / "state.pt") for v in ("plain", "zero"))
        for name, state in plain.items():
            if not all(torch.equal(value, zero[name][key]) for key, value in state.items()):
                found.append(f"weight 0 changes {name}")
        if printed(work / "plain") != printed(work / "zero"):
            found.append("weight 0 changes what the host prints")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=HOSTS)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--page", type=Path, help="default: its page in examples/hosts")
    parser.add_argument("--data", type=Path, help="folder with res101.mat and att_splits.mat")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--classifier", action="store_true", help="with the host's own")
    parser.add_argument("--work", type=Path, help="new folder for copies and output")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:end])
    work = options.work or Path(tempfile.mkdtemp(prefix="d3-host-"))
    script, template = HOSTS[options.name]
    page_path = options.page or PAGES / f"{options.name}.md"
    page = page_path.read_text(encoding="utf-8")
    insertions = read_insertions(page, classifier=options.classifier)
    results = {}
    for variant in options.variants:
        folder = work / variant
        width = 2048 if options.name in WIDE else None
        facts = write_folder(folder / "data" / "CUB", options.data, width)
        prepare(options.clone, folder, [] if variant == "plain" else insertions, facts)
        arguments = [*template.format(**facts).split(), *sys.argv[end + 1 :]]
        result = results[variant] = run(variant, folder, script, arguments)
        print(f"{variant}: {result['seconds']} CPU s; last lines of the host:")
        print("  " + "\n  ".join(printed(folder)[-3:]))
        if variant != "plain":
            sizes = [
                sum(g) / len(g) if g else 0 for g in (result["gradients"], result["all_gradients"])
            ]
            print(f"  {result['student_steps']} steps; mean norm of the generator's gradient, D³'s")
            print(f"  {sizes[0]:.1e} in all {sizes[1]:.1e}; last values {result['values']}")
            for who, forms in result["calls"].items():
                print(f"  generator's inputs, {who}: {' | '.join(forms) or 'none'}")
            print(f"  seen-class check {result['seen_class_check']}; loop {result['own_rows']}")
            print(f"  host's classifier alone: {result['host_classifier']}")
            print(f"  with the student:        {result['both']}", flush=True)
    found = problems(work, results)
    print("; ".join(found) if found else f"all checks hold; files in {work}")
    sys.exit(bool(found))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
