"""The final classifier as an object: it predicts, and can be saved and loaded anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.errors import DataError, HostError, InputError, warn
from d3_plugin.evaluation.captured import Captured
from d3_plugin.evaluation.classifier_format import packed, unpacked
from d3_plugin.files import write_atomically
from d3_plugin.hosts.isolation import plain_pytorch

Array = npt.NDArray[Any] | Sequence[Any]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What a classifier knows of the rows that it was trained on.

    Attributes:
        center: (D,) their mean.
        length, spread: their mean norm, and their mean distance from the center.
        low, high: the range of the features that the classifier takes, before it scales them.
    """

    center: Tensor
    length: float
    spread: float
    low: float
    high: float

    @classmethod
    def of(cls, rows: Tensor, scaling: Tensor | None) -> TrainingRows:
        """Of rows (N, D), which are scaled already."""
        center = rows.mean(dim=0)
        given = rows if scaling is None else (rows - scaling[1]) / scaling[0]
        length, spread = (each.norm(dim=1).mean().item() for each in (rows, rows - center))
        return cls(center, length, spread, given.min().item(), given.max().item())

    def unlike(self, rows: Tensor) -> str:
        """How other rows (N, D) differ in scale, or nothing. Few rows may differ by chance."""
        if not len(rows):
            return ""
        slack = 1 + len(rows) ** -0.5
        length = rows.norm(dim=1).mean().item() / max(self.length, 1e-12)
        distance = (rows - self.center.to(rows)).norm(dim=1).mean().item()
        if not 0.7 / slack <= length <= 1.4 * slack:
            return f"{length:.2g} times as long as the training rows"
        if distance > 2 * slack * max(self.spread, 1e-12):
            times = distance / max(self.spread, 1e-12)
            return f"{times:.2g} times as far from the mean of the training rows as those are"
        return ""


class Classifier:
    """A final classifier: features (N, D) in, class ids or scores out.

    Made by :meth:`d3_plugin.D3.classifier`, :func:`d3_plugin.classifier` or :meth:`load`. Takes
    NumPy arrays (or what becomes one) and tensors on any device, and answers in kind. What
    surrounds a call, such as autocast or a default dtype, changes no answer.

    If the problem's features were scaled by :meth:`~d3_plugin.data.GZSLData.scaled`, the scaling is
    part of the classifier: it takes rows as they are in the file, or with ``scaled=True`` rows that
    are scaled already, such as ``data.test_unseen_features``. If a script's loader scales them,
    the classifier takes rows as that loader gives them. Rows whose scale is far from that of the
    training rows are answered with a warning; a single row must be about 3 times too long or too
    short to be noticed, a hundred rows 1.5 times.

    It can be copied and pickled if it can be saved; the copy runs on the CPU.

    Args:
        function: (N, D) -> (N, C) scores, of rows in the space of the problem's features.
        device: where it runs.
        name: what it is, in words.
        class_names: C names.
        trained_on: the rows that it was trained on.
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
        trained_on: TrainingRows,
        scaling: Tensor | None,
        obstacle: str = "",
    ) -> None:
        self._function, self._device, self._obstacle = function, device, obstacle
        self._trained_on, self._scaling = trained_on, scaling
        self.name, self.scales = name, scaling is not None
        self.classes_ = np.arange(len(class_names))
        self.class_names_: npt.NDArray[np.str_] = np.array(class_names)

    @overload
    def scores(self, X: Tensor, *, scaled: bool = False) -> Tensor: ...  # noqa: N803
    @overload
    def scores(self, X: Array, *, scaled: bool = False) -> npt.NDArray[np.float32]: ...  # noqa: N803
    def scores(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803 - as in scikit-learn
        """Scores (N, C) float32, as in :attr:`Evaluation.scores`.

        Args:
            X: (N, D) finite numbers; it is not changed.
            scaled: whether the rows are scaled already; makes no difference if ``scales`` is False.

        Raises:
            InputError: X is something else.

        Warns:
            D3Warning: the rows' scale is far from that of the training rows, because ``scaled``
                is the wrong way round or for another reason.
        """
        return self._answer(X, scaled, lambda scores: scores)

    @overload
    def predict_proba(self, X: Tensor, *, scaled: bool = False) -> Tensor: ...  # noqa: N803
    @overload
    def predict_proba(self, X: Array, *, scaled: bool = False) -> npt.NDArray[np.float32]: ...  # noqa: N803
    def predict_proba(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803
        """Probabilities (N, C) float32: the softmax of :meth:`scores`."""
        return self._answer(X, scaled, lambda scores: scores.softmax(dim=1))

    @overload
    def predict(self, X: Tensor, *, scaled: bool = False) -> Tensor: ...  # noqa: N803
    @overload
    def predict(self, X: Array, *, scaled: bool = False) -> npt.NDArray[np.int64]: ...  # noqa: N803
    def predict(self, X: Any, *, scaled: bool = False) -> Any:  # noqa: N803
        """Class ids (N,) int64."""
        return self._answer(X, scaled, lambda scores: scores.argmax(dim=1))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, with tensors and settings, and no code or data of the host.

        Raises:
            HostError: it is not made of PyTorch operations on its rows; says what is not.
            StorageError: the file cannot be written; one that was there is unchanged.
        """
        write_atomically(Path(path), self._content())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The classifier in a file of :meth:`save`, on the CPU.

        The file may be from anyone: what it can contain is tensors, and operations on them from a
        list of about 150 that change nothing but their result.

        Raises:
            DataError: there is no such file, it is damaged, or it holds something else.
        """
        try:
            return cls._from_content(Path(path).read_bytes())
        except DataError as error:
            raise DataError(f"{path} {error}") from error
        except Exception as error:  # whatever Python and PyTorch make of another file
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise DataError(f"{path} is no classifier of Classifier.save() ({why})") from error

    def _content(self) -> bytes:
        if not isinstance(self._function, Captured):
            raise HostError(
                f"{self.name} cannot be saved: {self._obstacle}. What train_classifier= and "
                "transform_features= return must compute with PyTorch, for any rows.shape[0]"
            )
        function, rows = self._function, self._trained_on
        values = {
            "name": self.name,
            "class_names": self.class_names_.tolist(),
            "trained_on": [rows.length, rows.spread, rows.low, rows.high],
            "steps": function.steps,
            "result": function.result,
        }
        own = {"center": rows.center, "scaling": self._scaling}
        tensors = {name: tensor for name, tensor in own.items() if tensor is not None}
        return packed(values, tensors | {f"of {n}": each for n, each in function.tensors.items()})

    @classmethod
    def _from_content(cls, content: bytes) -> Classifier:
        """The classifier, on the CPU.

        Raises:
            Exception: of any kind, if it is something else.
        """
        values, tensors = unpacked(content)
        center, scaling = tensors.pop("center"), tensors.pop("scaling", None)
        name, names, figures = values["name"], values["class_names"], values["trained_on"]
        own = [center] if scaling is None else [center, scaling]
        fits = (
            center.ndim == 1
            and (scaling is None or scaling.shape == (2, len(center)))
            and all(each.dtype == torch.float32 and each.isfinite().all() for each in own)
            and all(isinstance(each, str) for each in (name, *names))
            and all(isinstance(each, float) and abs(each) < float("inf") for each in figures)
        )
        if not fits:
            raise ValueError("parts of another kind")
        with plain_pytorch():
            function = Captured(
                {name.removeprefix("of "): each for name, each in tensors.items()},
                values["steps"],
                values["result"],
                width=len(center),
                num_classes=len(names),
            )
        return cls(
            function,
            device=torch.device("cpu"),
            name=name,
            class_names=names,
            trained_on=TrainingRows(center, *figures),
            scaling=scaling,
        )

    def __reduce__(self) -> tuple[Callable[[bytes], Classifier], tuple[bytes]]:
        return Classifier._from_content, (self._content(),)

    def __repr__(self) -> str:
        rows, then = self._trained_on, ", which it scales" if self.scales else ""
        return (
            f"Classifier({self.name}: features (N, {len(rows.center)}) in {rows.low:.3g} to "
            f"{rows.high:.3g}{then} -> {len(self.classes_)} classes)"
        )

    def _answer(self, X: Any, scaled: bool, of: Callable[[Tensor], Tensor]) -> Any:  # noqa: N803
        """What ``of`` makes of the scores, of the kind of X."""
        with plain_pytorch(), torch.no_grad():
            rows = self._rows(X)
            other = rows
            if self._scaling is not None:
                factor, offset = self._scaling.to(rows)
                fitted = rows * factor + offset
                rows, other = (rows, fitted) if scaled else (fitted, rows)
            known = self._trained_on
            if unlike := known.unlike(rows):
                advice = f"scale them as those were, to about {known.low:.3g} to {known.high:.3g}"
                if not known.unlike(other):
                    state = "unscaled" if scaled else "scaled already"
                    advice = f"they look {state}: pass scaled={not scaled}"
                warn(f"these rows are {unlike}; {advice}")
            scores = rows.new_zeros(0, len(self.classes_))
            if len(rows):  # scikit-learn, for instance, refuses none
                scores = self._function(rows).to(torch.float32, copy=True)
            answer = of(scores)
        return answer.to(X.device) if isinstance(X, Tensor) else answer.cpu().numpy()

    def _rows(self, X: Any) -> Tensor:  # noqa: N803
        """A copy of X as (N, D) float32 on the classifier's device."""
        width = len(self._trained_on.center)
        problem = describe(X)
        try:
            if isinstance(X, Tensor):
                plain = X.layout == torch.strided and not X.is_complex() and not X.is_quantized
                rows = X.detach().to(self._device, torch.float32, copy=True) if plain else None
            else:
                rows = _from_numbers(X)
                rows = None if rows is None else rows.to(self._device)
            if rows is not None and rows.ndim == 2 and rows.shape[1] == width:
                if rows.isfinite().all():
                    return rows
                problem = f"{problem} with values that are not finite"
        except Exception as error:  # whatever X makes of being converted
            problem = f"{problem} ({type(error).__name__})"
        raise InputError(f"X must be (N, {width}) finite features, one row each; got {problem}")


def _from_numbers(values: Any) -> Tensor | None:
    """A tensor of real numbers, or None; masked and complex ones would lose what they are."""
    array = np.asanyarray(values)
    if array.dtype.kind not in "fiubO" or np.ma.is_masked(array):
        return None
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(array, dtype=np.float32))
