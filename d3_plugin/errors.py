"""The exceptions and the warning that d3_plugin raises; all derive from :class:`D3Error`."""

from __future__ import annotations

import sys
import warnings


class D3Error(Exception):
    """Base of every error raised on purpose by d3_plugin."""


class InputError(D3Error, ValueError):
    """A tensor, number or option given to a public function is invalid."""


class DataError(D3Error, ValueError):
    """A data set is unusable: a bad folder, or splits that contradict each other."""


class HostError(D3Error, ValueError):
    """The generative code that D³ is attached to does not match the call."""


class NotFiniteError(D3Error, ArithmeticError):
    """NaN or Inf in too many consecutive steps."""


class PluginError(D3Error):
    """A plugin could not be loaded, or its hook returned something unusable."""


class AdapterError(D3Error, AssertionError):
    """An adapter fails a check of :mod:`d3_plugin.testing`."""


class MissingExtraError(D3Error, ImportError):
    """An optional package is needed and not installed."""


class StorageError(D3Error, OSError):
    """A result could not be written: the disk is full, or the folder is not writable."""


class FailedRunsError(D3Error):
    """Some runs of a grid failed; the finished ones are stored."""


class FailedConditionError(D3Error):
    """A condition of ``--fail-if`` holds; ``results`` are stored, and what the command returns."""

    results: object = None


class D3Warning(UserWarning):
    """Something works, but probably not as intended."""


def warn(sentence: str) -> None:
    """Give a :class:`D3Warning` at the line of the script that led here.

    That is the nearest call from outside of d3_plugin and of what calls d3_plugin back.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_between(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, D3Warning, stacklevel=level)


def _is_between(module: str) -> bool:
    return module.partition(".")[0] in ("d3_plugin", "torch", "pluggy", "contextlib")


class Problems:
    """Collects the problems of an input, to report all of them in one error.

    Args:
        subject: what is being checked; starts the message.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    def check(self, ok: bool, problem: str) -> bool:
        """Note ``problem`` unless ``ok``; returns ``ok``."""
        if not ok:
            self.found.append(problem)
        return ok

    def raise_as(self, error: type[D3Error]) -> None:
        """Raise ``error`` with every problem found, or return if there is none."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise error(f"{self.subject}: {self.found[0]}")
        listing = "\n".join(f"  - {problem}" for problem in self.found)
        raise error(f"{self.subject}: {len(self.found)} problems:\n{listing}")
