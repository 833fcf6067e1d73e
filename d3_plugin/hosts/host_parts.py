"""What a user says of a host, in the arguments of ``attach``, ``evaluate`` or ``classifier``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from d3_plugin.checks import Count, Seed, setting_problems
from d3_plugin.data.host_data import label_form
from d3_plugin.errors import HostError, InputError
from d3_plugin.hosts.call_form import NoiseSource
from d3_plugin.hosts.generator_call import Synthesis
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.labels import LabelForm

Mode = Literal["loss", "hook"]

_PLAIN_CONTAINER = (
    "networks in a plain dict or list belong to no module. Pass the one that makes the features as "
    "generator= and the others as modules=, or hold them in nn.ModuleDict or nn.ModuleList"
)


@dataclass(kw_only=True)
class ScriptParts:
    """The parts of a script, and what the user says of its functions; see :func:`d3_plugin.attach`.

    Raises:
        InputError: lists every argument of a wrong type or outside its range.
        HostError: parts are missing or given twice, or the generator has no parameters.
    """

    function: ClassVar[str]
    """The one that was called, for messages."""
    needed: ClassVar[Sequence[str]] = ("generator", "data")

    generator: nn.Module | None = None
    data: Any = None
    noise_dim: Count | None = None
    noise: NoiseSource | None = None
    synthesize: Synthesis | None = None
    modules: Iterable[nn.Module] | dict[str, nn.Module] = ()
    transform_features: Callable[[Tensor], Tensor] | None = None
    train_classifier: Callable[[Tensor, Tensor, int], Scorer] | None = None
    synthetic_per_class: Count | None = None

    def __post_init__(self) -> None:
        if isinstance(self.generator, (dict, list, tuple)):
            raise HostError(f"generator= takes one nn.Module: {_PLAIN_CONTAINER}")
        if isinstance(self.modules, nn.Module):
            self.modules = [self.modules]
        elif isinstance(self.modules, Iterator):
            self.modules = [*self.modules]
        setting_problems(f"{self.function}()", type(self), vars(self)).raise_as(InputError)
        self._check_complete()

    def _check_complete(self, or_else: str = "") -> None:
        missing = [f"{name}=" for name in self.needed if getattr(self, name) is None]
        if missing or self.generator is None:
            *others, last = (f"{name}=" for name in self.needed)
            raise HostError(
                f"{self.function}() needs {or_else}{', '.join(others)} and {last}; missing: "
                f"{', '.join(missing)}"
            )
        if next(self.generator.parameters(), None) is None:
            raise HostError(f"the generator has no parameters: {_PLAIN_CONTAINER}")

    @property
    def other_modules(self) -> list[nn.Module]:
        return [*(self.modules.values() if isinstance(self.modules, dict) else self.modules)]

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those of the generator; none where it is only scored."""
        return []

    @property
    def classifier_labels(self) -> LabelForm:
        """Form of the labels that ``train_classifier`` gets."""
        return label_form(self.data) or "class_ids"


@dataclass(kw_only=True)
class HostParts(ScriptParts):
    """A trainer, or the parts of a script."""

    trainer: Any = field(default=None, kw_only=False)
    seed: Seed = 0
    plugins: Iterable[object] = ()

    def _check_complete(self, or_else: str = "a trainer, or ") -> None:
        if self.trainer is None:
            super()._check_complete(or_else)
        elif self.generator is not None or self.optimizers:
            raise HostError("give a trainer, or a script's generator= and other parts, not both")


@dataclass(kw_only=True)
class LoopParts(ScriptParts):
    """The parts of a script that trains its generator, and how D³ joins in."""

    function: ClassVar[str] = "d3.attach"
    needed: ClassVar[Sequence[str]] = ("generator", "optimizer")

    optimizer: Optimizer | Iterable[Optimizer] | None = None
    mode: Mode | None = None
    labels_are: LabelForm = "class_ids"

    def __post_init__(self) -> None:
        self.optimizer = _bare(self.optimizer)
        super().__post_init__()

    @property
    def optimizers(self) -> list[Optimizer]:
        if self.optimizer is None:
            return []
        return [self.optimizer] if isinstance(self.optimizer, Optimizer) else [*self.optimizer]

    @property
    def classifier_labels(self) -> LabelForm:
        # Loops map labels for their losses, and many train the final classifier on class ids.
        return label_form(self.data) or self.labels_are


def _bare(given: Any) -> Any:
    """An optimiser, or a list of them, without the wrappers of accelerate and Lightning."""
    if isinstance(given, Iterable):
        return [_bare(each) for each in given] or None
    return getattr(given, "optimizer", given)  # what they wrap; they have no step hooks


def check_optimizers(host: Host, optimizers: Sequence[Optimizer]) -> None:
    """Check that the optimisers step every trainable parameter of the generator.

    Raises:
        HostError: they do not; names the missing parameters.
    """
    if any(is_lazy(p) for module in host.modules for p in module.parameters()):
        raise HostError("the generator has lazy layers: call it once, then make the optimizer")
    owned = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
    foreign = [
        name
        for name, parameter in host.generator.named_parameters()
        if parameter.requires_grad and id(parameter) not in owned
    ]
    if foreign:
        advice = "is it the critic's, or was it made before .to()? Several optimizers go in a list"
        if isinstance(host.generator, AveragedModel):
            advice = "attach to the generator, and give its average to evaluate(generator=...)"
        missing = f"{len(foreign)} parameters of the generator ({', '.join(foreign[:5])})"
        raise HostError(f"the optimizer lacks {missing}: {advice}")
