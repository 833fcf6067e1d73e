"""Checks the result of a short comparison on digits: ``check_comparison.py OUT``."""

import json
import math
import sys
from pathlib import Path

out = Path(sys.argv[1])
page = (out / "report.html").read_text(encoding="utf-8")
results = json.loads((out / "results.json").read_text(encoding="utf-8"))
runs = {(r["seed"], r["split"], r["variant"]): r for r in results["runs"]}
problems = []

if page.count("<svg ") != 6 or "+D³" not in page:
    problems.append("the report lacks its pictures or its table")
for seed, split, variant in runs:
    base, d3 = runs[seed, split, "baseline"], runs[seed, split, "d3"]
    same_start = base["generator_start"] == d3["generator_start"]
    if variant == "d3" and not (base["data"] == d3["data"] and same_start):
        problems.append(f"seed {seed}, {split}: the pair differs before D³ does anything")
    if variant == "d3" and base["generator_mean"] != d3["generator_mean"]:
        problems.append(f"seed {seed}, {split}: D³ changed the generator at weight 0")
summary = results["summary"]["fclswgan"]
if summary["d3"]["curves"] == summary["baseline"]["curves"]:
    problems.append("D³ did not change the classifier")
for row, table in summary.items():
    for metric, statistic in table["metrics"].items():
        if not all(math.isfinite(value) for value in statistic["per_seed"]):
            problems.append(f"{row}: {metric} is not finite")
    # Ten digits, four of them unseen: chance is 0.1 for S and 0.25 for ZSL; AUSUC 0.05 by chance.
    for metric, chance in (("seen", 0.1), ("zsl", 0.25), ("ausuc", 0.05)):
        mean = table["metrics"][metric]["mean"]
        if mean < 1.5 * chance:
            problems.append(f"{row}: {metric} is {mean:.3f}, chance {chance}")

print("\n".join(problems) or f"comparison in order: {len(runs)} runs, {len(page)} bytes of report")
sys.exit(bool(problems))
