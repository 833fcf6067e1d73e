"""``d3 tune``: random search on pseudo-unseen classes, for the baseline and then for D³ on it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from d3_plugin.checks import Effort, takes
from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, FailedRunsError, Problems
from d3_plugin.experiments.families import host_settings
from d3_plugin.experiments.options import CutOptions
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.run_identity import Run, versions
from d3_plugin.experiments.source_digests import short_digest
from d3_plugin.experiments.store import RunStore
from d3_plugin.files import write_atomically
from d3_plugin.report.tables import aligned

D3_SEARCH: dict[str, list[Any]] = {
    "weight": [0.0, 0.001, 0.01],
    "cls_weight": [0.3, 1.0, 3.0],
    "kl_weight": [0.0, 0.1, 1.0],
    "be_weight": [0.0, 0.1, 1.0],
    "od_weight": [0.0, 0.1, 1.0],
    "temperature": [1.0, 2.0, 4.0],
    "relation_temperature": [0.05, 0.1, 0.2],
    "synthetic_rows": [32, 64, 128],
    "real_rows": [32, 64, 128],
    "embedding_dim": [512, 1024, 2048],
    "student_lr": [5e-5, 1e-4, 2e-4, 5e-4, 1e-3],
    "score": ["max_softmax", "max_logit", "energy", "entropy"],
    "od_target": ["domain", "class"],
    "od_relation": ["bce", "contrastive"],
    "student_start": ["semantic", "teacher", "random"],
    "final_classifier": ["both", "student", "host"],
    "ensemble_weight": [0.35, 0.7, 1.0, 2.0],
}
"""Values tried for the settings of D³; the baseline's are its family's ``search``."""

CRITERION = (
    "mean AUSUC over the cuts, which no constant on the seen scores can raise; "
    "where it is equal to 0.01 points, the mean H"
)

Trial = dict[str, Any]
"""``changes``; ``ausuc``, ``harmonic``, ``oracle_harmonic``: means over cuts; ``per_cut`` AUSUC."""

CLOSING = (
    "These numbers are optimistic: they are the best of several trials on few classes. No test "
    "rows were used; to measure on them: d3 compare --settings {path} --data {data}"
)


@dataclass(frozen=True)
class TuneOptions(CutOptions):
    """Arguments of :func:`tune`, the flags of ``d3 tune``; see :class:`CompareOptions`.

    Attributes:
        adapter: one host family; its ``search`` says what is tried on the baseline. Default: that
            of the settings file, or fclswgan.
        data: ``digits-DRAW``, or a folder with ``res101.mat`` and ``att_splits.mat``. In Python
            also a :class:`~d3_plugin.data.GZSLData`.
        out: folder for ``tuned.json`` and the runs; finished runs are not made again.
        trials: number of trials for the baseline, and for D³.
        cuts: pseudo-unseen cuts, or trainings on its own split, that each trial is scored on, at
            least 2.
        seed: of the search; the cuts are ``seed`` to ``seed + cuts - 1``.
        settings: JSON file with settings to start from.
        host, d3: a setting that is not searched but fixed at this value; may be repeated. In Python
            a dict of them.
    """

    command: ClassVar[str] = "tune"

    data: str | Path | GZSLData = "digits-0"
    out: str | Path = Path("runs/tune")
    _: KW_ONLY
    trials: Effort = 20
    seed: int = 0

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check(len(self.adapters) == 1, f"one adapter at a time, got {self.adapter!r}")
        problems.check(
            self.data != "digits",
            "--data digits is another problem for each seed, and training rows of one are test "
            "rows of another: use digits-0, digits-1, ...",
        )
        problems.check(
            self.cuts != 1, "cuts must be at least 2: one depends too much on its classes"
        )
        problems.check(0 <= self.seed <= 10**9, f"seed must be in 0..10**9, got {self.seed}")
        if problems.found:
            return
        (family,) = self.families.values()
        for name, values in family.search.items():  # a plugin's mistake shows before the search
            for value in values:
                host_settings(family, {name: value})


@dataclass(frozen=True)
class Tuned:
    """What :func:`tune` chose.

    Attributes:
        content: of ``tuned.json``.
        file: its path, for ``--settings``.
        data: what was tuned on.
    """

    content: dict[str, Any]
    file: Path
    data: str

    @property
    def host(self) -> dict[str, Any]:
        """The chosen changes to the settings of the host family."""
        return dict(self.content["host"])

    @property
    def d3(self) -> dict[str, Any]:
        """The chosen changes to the settings of D³."""
        return dict(self.content["d3"])

    def to_dict(self) -> dict[str, Any]:
        """The content of ``tuned.json``."""
        return self.content

    def __repr__(self) -> str:
        tuned = self.content["tuned"]
        parts = []
        for side, title in (("baseline", "baseline"), ("d3", "+D³ on the chosen baseline")):
            parts.append(f"{title}\n{trial_table(tuned[side], tuned['chosen'][side])}")
        baseline, d3 = (tuned[side][tuned["chosen"][side]]["ausuc"] for side in ("baseline", "d3"))
        gain = "AUSUC of the chosen +D³ minus that of the chosen baseline, on the cuts"
        closing = CLOSING.format(path=self.file, data=self.data)
        return "\n\n".join([*parts, f"{gain}: {d3 - baseline:+.2%}", closing, str(self.file)])


@takes(TuneOptions)
def tune(options: TuneOptions) -> Tuned:
    """Choose settings of one baseline, then of D³ on it, on pseudo-unseen classes.

    Random search with the same number of trials and the same cuts for both; the first trial of both
    changes nothing. A cut lets a quarter of the seen classes play unseen; its number is also the
    seed of the training on it. Test rows are dropped before anything is trained, so that no choice
    can depend on them. The highest mean AUSUC is chosen. Writes ``tuned.json``.

    The arguments are those of :class:`~d3_plugin.experiments.TuneOptions`.

    Raises:
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    (adapter,), (family,) = options.adapters, options.families.values()
    # Everything that will be tried is made now: a bad combination shows before any training.
    start = host_settings(family, options.host_changes)
    host_changes = sample(family.search, options.trials, options.seed, start, options.host or {})
    hosts = [asdict(host_settings(family, options.host_changes | c)) for c in host_changes]
    d3_start = options.d3_settings
    d3_changes = sample(D3_SEARCH, options.trials, options.seed, d3_start, options.d3 or {})
    d3s = [D3Settings(**{**options.d3_changes, **change}) for change in d3_changes]
    cuts = range(options.seed, options.seed + options.cuts)
    (first,) = options.first_runs()

    def runs(host: dict[str, Any], d3: D3Settings | None) -> list[Run]:
        trial = replace(first, split="validation", variant=trial_name(host, d3), host=host, d3=d3)
        return [replace(trial, seed=cut) for cut in cuts]

    if options.progress != "none" and len(hosts) < len(d3s):
        print(
            f"{family.name} has only {len(hosts)} settings to try (HostFamily.search without those "
            f"given): the baseline has a smaller budget than +D³ with {len(d3s)}"
        )
    of_hosts = [runs(host, None) for host in hosts]
    baseline, chosen = _judged("baseline", host_changes, of_hosts, options)
    of_d3s = [runs(hosts[chosen], d3) for d3 in d3s]
    title = f"+D³ on trial {chosen} of the baseline"
    with_d3, chosen_d3 = _judged(title, d3_changes, of_d3s, options)

    content = {
        "adapter": adapter if isinstance(adapter, str) else family.name,
        "host": {**options.host_changes, **host_changes[chosen]},
        "d3": {**options.d3_changes, **d3_changes[chosen_d3]},
        "tuned": {
            "data": first.data_digest or first.data,
            "criterion": CRITERION,
            "cuts": list(cuts),
            "validation": options.validation,
            "seed": options.seed,
            "draws": options.draws,
            "versions": versions(),
            "chosen": {"baseline": chosen, "d3": chosen_d3},
            "baseline": baseline,
            "d3": with_d3,
        },
    }
    path = Path(options.out) / "tuned.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return Tuned(content, path, first.data)


def trial_name(host: Mapping[str, Any], d3: D3Settings | None) -> str:
    """Variant of a trial of ``d3 tune``, made from its settings: equal trials share their runs."""
    content = json.dumps([host, d3 and asdict(d3)], sort_keys=True)
    kind = "baseline" if d3 is None else "d3"
    return f"{kind}-{short_digest(content)}"


def _judged(
    title: str, changes: list[dict[str, Any]], runs: list[list[Run]], options: TuneOptions
) -> tuple[list[Trial], int]:
    """The trials, from the runs of each, and which is best."""
    store = RunStore(Path(options.out))
    if options.progress != "none":
        print(f"{title}: {len(runs)} trials, {options.cuts} cuts each", flush=True)
    try:
        run_all([run for of_trial in runs for run in of_trial], store, options, rerun=options.rerun)
    except FailedRunsError as error:  # settings that diverge must not end the search
        print(f"{error}\nA trial with a failed run is not chosen.", flush=True)
    made = ([store.load(run) for run in of_trial] for of_trial in runs)
    trials = [judge(each, outcomes) for each, outcomes in zip(changes, made, strict=True)]
    return trials, best(trials)


def trial_table(trials: Sequence[Trial], chosen: int) -> str:
    """A row per trial, with an arrow at the chosen one."""
    rows = [["trial", "AUSUC", "H", "best H", "changes"]]
    for number, trial in enumerate(trials):
        values = [trial[name] for name in ("ausuc", "harmonic", "oracle_harmonic")]
        shown = ["failed" if value is None else f"{value:.2%}" for value in values]
        changed = " ".join(f"{k}={v}" for k, v in trial["changes"].items()) or "none"
        rows.append([f"{'→' if number == chosen else ' '} {number}", *shown, changed])
    return aligned(rows)


def sample(
    space: Mapping[str, Sequence[Any]], trials: int, seed: int, default: Any, fixed: Collection[str]
) -> list[dict[str, Any]]:
    """Changes to try: first none, then random draws from the space, without repetition.

    Args:
        space: values by the name of a setting.
        trials: number of trials; fewer if the space has fewer.
        seed: of the draw.
        default: settings that count as no change.
        fixed: names that the user has set, which are not searched.
    """
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    free = {name: list(values) for name, values in space.items() if name not in fixed}
    wanted = min(trials, len(ParameterGrid(free)))
    drawn = ParameterSampler(free, wanted, random_state=seed)
    changes: list[dict[str, Any]] = [{}]
    for values in drawn:
        change = {k: v for k, v in values.items() if v != getattr(default, k)}
        if change.get("final_classifier", getattr(default, "final_classifier", None)) != "both":
            change.pop("ensemble_weight", None)  # has no effect there: would repeat a trial
        if change not in changes:
            changes.append(change)
    return changes[:trials]


def judge(changes: dict[str, Any], outcomes: Sequence[Outcome | None]) -> Trial:
    """The trial that these validation runs, one per cut, make; a failed run leaves None in it."""
    metrics = [outcome.evaluation.metrics for outcome in outcomes if outcome is not None]
    names = ("ausuc", "harmonic", "oracle_harmonic")
    if len(metrics) < len(outcomes):
        return {"changes": changes, **dict.fromkeys(names), "per_cut": []}
    means = {name: float(np.mean([getattr(m, name) for m in metrics])) for name in names}
    return {"changes": changes, **means, "per_cut": [m.ausuc for m in metrics]}


def best(trials: Sequence[Trial]) -> int:
    """Index of the best trial by :data:`CRITERION`; of equal ones, the first.

    Raises:
        D3Error: the first trial, which changes nothing, failed.
    """
    if trials[0]["ausuc"] is None:
        raise D3Error("the trial that changes nothing failed; nothing can be compared with it")
    keys = [
        (-1.0, 0.0) if trial["ausuc"] is None else (round(trial["ausuc"], 4), trial["harmonic"])
        for trial in trials
    ]
    return keys.index(max(keys))
