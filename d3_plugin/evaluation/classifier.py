"""The final classifier as an object: it predicts, and can be saved and loaded anywhere."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.errors import D3Warning, DataError, HostError, InputError, StorageError
from d3_plugin.evaluation.captured import Captured

_FORMAT = "d3_plugin classifier 1"


class Classifier:
    """A final classifier: features (N, D) in, class ids or scores out.

    Made by :meth:`d3_plugin.D3.classifier`, :func:`d3_plugin.classifier` or :meth:`load`. Takes
    NumPy arrays (or what becomes one) and tensors on any device, and answers in kind.

    If the problem's features were scaled by :meth:`~d3_plugin.data.GZSLData.scaled`, the scaling is
    part of the classifier: it takes rows as they are in the file, or with ``scaled=True`` rows that
    are scaled already, such as ``data.test_unseen_features``. If a script's loader scales them,
    the classifier takes rows as that loader gives them.

    Args:
        function: (N, D) -> (N, C) scores, of rows in the space of the problem's features.
        device: where it runs.
        name: what it is, in words.
        class_names: C names.
        center: (D,) mean of the training rows.
        scaling: of the problem; see :class:`~d3_plugin.data.GZSLData`.
        obstacle: why it cannot be saved.

    Attributes:
        classes_: (C,) int64 class ids, ``0..C-1``.
        class_names_: (C,) str: ``clf.class_names_[clf.predict(X)]``.
        scales: whether it scales rows.
        name: what it is, in words.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        device: torch.device,
        name: str,
        class_names: Sequence[str],
        center: Tensor,
        scaling: Tensor | None,
        obstacle: str = "",
    ) -> None:
        self._function, self._device, self._obstacle = function, device, obstacle
        self._center, self._scaling = center, scaling
        self.name, self.scales = name, scaling is not None
        self.classes_ = np.arange(len(class_names))
        self.class_names_ = np.array(class_names)

    def scores(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803 - as in scikit-learn
        """Scores (N, C) float32, as in :attr:`Evaluation.scores`.

        Args:
            X: (N, D) finite numbers.
            scaled: whether the rows are scaled already; makes no difference if ``scales`` is False.

        Raises:
            InputError: X has another shape, or values that are not finite numbers.

        Warns:
            D3Warning: ``scaled`` seems to be the wrong way round.
        """
        return self._answer(X, scaled, lambda scores: scores)

    def predict_proba(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803
        """Probabilities (N, C) float32: the softmax of :meth:`scores`."""
        return self._answer(X, scaled, lambda scores: scores.softmax(dim=1))

    def predict(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803
        """Class ids (N,) int64."""
        return self._answer(X, scaled, lambda scores: scores.argmax(dim=1))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, with tensors and settings, and no code or data of the host.

        Raises:
            HostError: it is not made of PyTorch operations on its rows; says what is not.
            StorageError: the file cannot be written.
        """
        if not isinstance(self._function, Captured):
            raise HostError(
                f"{self.name} cannot be saved: {self._obstacle}. What train_classifier= and "
                "transform_features= return must compute with PyTorch, for any rows.shape[0]"
            )
        buffer = io.BytesIO()
        torch.save(
            {
                "format": _FORMAT,
                "name": self.name,
                "class_names": self.class_names_.tolist(),
                "center": self._center.cpu(),
                "scaling": None if self._scaling is None else self._scaling.cpu(),
                "function": self._function.state,
            },
            buffer,
        )
        try:
            Path(path).write_bytes(buffer.getvalue())
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The classifier in a file of :meth:`save`, on the CPU. Runs no code from the file.

        Raises:
            DataError: there is no such file, or it holds something else.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state.pop("format") != _FORMAT:
                raise ValueError("another format")
            function = Captured(state.pop("function"))
            made = cls(function, device=torch.device("cpu"), **state)
            if function(torch.zeros(1, len(made._center))).shape != (1, len(made.classes_)):
                raise ValueError("scores of another shape")
        except Exception as error:  # whatever torch and Python make of another file
            # Not torch's own advice, to load the file with weights_only=False.
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise DataError(f"{path} is no classifier of Classifier.save() ({why})") from error
        return made

    def __repr__(self) -> str:
        takes = "features as in the file, which it scales" if self.scales else "features"
        return (
            f"Classifier({self.name}: {takes} (N, {len(self._center)}) -> "
            f"{len(self.classes_)} classes)"
        )

    @torch.no_grad()
    def _answer(self, X: Any, scaled: bool, of: Callable[[Tensor], Tensor]) -> Any:  # noqa: N803
        """What ``of`` makes of the scores, of the kind of X.

        Warns if the rows would be much closer to the training rows the other way round.
        """
        rows = self._rows(X)
        if self._scaling is not None:
            factor, offset = self._scaling
            fitted = rows * factor + offset
            used, other = (rows, fitted) if scaled else (fitted, rows)
            near, far = ((each.mean(dim=0) - self._center).norm() for each in (other, used))
            if 3 * near < far:
                warnings.warn(
                    f"these rows look {'unscaled' if scaled else 'scaled already'}: pass "
                    f"scaled={not scaled}",
                    D3Warning,
                    stacklevel=4,
                )
            rows = used
        answer = of(self._function(rows).float())
        return answer.to(X.device) if isinstance(X, Tensor) else answer.cpu().numpy()

    def _rows(self, X: Any) -> Tensor:  # noqa: N803
        width = len(self._center)
        try:
            rows = X if isinstance(X, Tensor) else torch.from_numpy(np.array(X, dtype=np.float32))
            rows = rows.detach().to(self._device, torch.float32)
            problem = "" if rows.isfinite().all() else "values that are not finite"
        except (TypeError, ValueError):
            rows, problem = torch.empty(0), type(X).__name__
        if not problem and (rows.ndim != 2 or rows.shape[1] != width):
            problem = str(tuple(rows.shape))
        if problem:
            raise InputError(f"X must be (N, {width}) finite features, one row each; got {problem}")
        return rows
