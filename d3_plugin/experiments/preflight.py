"""Everything that can fail for a reason of the user's, before hours of training."""

from __future__ import annotations

import importlib

from d3_plugin.data import load, pseudo_unseen
from d3_plugin.errors import InputError, MissingExtraError, Problems
from d3_plugin.experiments.clusters import Backend, unusable

_MOST = 10_000  # more is a slip of the hand, and would fill the memory


def check(data: str, device: str, backend: Backend, **counts: int) -> None:
    """Check the options that the commands share.

    Args:
        data: a data set's name or folder.
        device, backend: where to train; a cluster's workers look at the device themselves.
        counts: by name; each must be at least 1 and at most 10,000.

    Raises:
        MissingExtraError: a package of the extra ``compare`` is not installed.
        InputError: a count out of range, or a device that cannot be used.
        DataError: unusable data.
    """
    try:
        for package in ("matplotlib", "tqdm"):  # the report at the end needs them
            importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"this command needs {error.name}: pip install 'd3-plugin[compare]'"
        ) from error
    problems = Problems("options")
    for name, value in counts.items():
        problems.check(
            isinstance(value, int) and 1 <= value <= _MOST,
            f"{name} must be at least 1 and at most {_MOST}, got {value!r}",
        )
    for problem in unusable(device, here=backend == "loky"):
        problems.add(problem)
    problems.raise_as(InputError)
    pseudo_unseen(load(data))
