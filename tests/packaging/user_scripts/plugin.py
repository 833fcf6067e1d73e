"""An adapter with its checks, options as objects, and what they raise."""

from dataclasses import dataclass
from typing import Any

import torch

from d3_plugin import (
    Host,
    HostError,
    HostFamily,
    NotFiniteError,
    PluginError,
    StepBatch,
    experiments,
    hookimpl,
    testing,
)
from d3_plugin.data import GZSLData, load


@dataclass(frozen=True)
class Settings:
    steps: int = 4


class Trainer:
    def __init__(self, data: GZSLData, settings: Settings, seed: int, device: torch.device):
        torch.manual_seed(seed)
        self.data, self.settings, self.history = data.to(device), settings, []
        self.generator = torch.nn.Linear(26, data.feature_dim).to(device)
        self.optimizer = torch.optim.Adam(self.generator.parameters())

    def fit(self) -> None:
        raise NotImplementedError


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if isinstance(trainer, Trainer):
        return Host("mine", trainer.generator, trainer.optimizer, trainer.data, trainer=trainer)
    return None


@hookimpl
def d3_extra_terms(batch: StepBatch) -> dict[str, torch.Tensor]:
    return {"norm": batch.student_embedding.square().mean()}


family = HostFamily("mine", "a linear map", Settings, Trainer)
name, meaning = family.name, family.summary
case = testing.AdapterCase(
    lambda data, seed: Trainer(data, Settings(), seed, torch.device("cpu")), load("digits-1")
)
checks = testing.ADAPTER_CHECKS
try:
    testing.check_adapter(case)
    testing.check_description(case)
    testing.check_family(case)
    testing.check_classifier(case)
    testing.check_training(case)
    testing.check_weight_zero(case)
    testing.check_synthesis_finite(case)
    testing.check_synthesis_form(case)
    testing.check_synthesis_gradient(case)
    testing.check_synthesis_leaves_host(case)
    testing.check_synthesis_order(case)
    testing.check_synthesis_seed(case)
except (HostError, NotFiniteError, PluginError) as error:
    raise SystemExit(str(error)) from error
options = experiments.CompareOptions("fclswgan", "digits", seeds=2, preset="end-to-end")
ablation = experiments.AblateOptions(data="digits-1", seeds=2)
search = experiments.TuneOptions(data="digits-1", trials=2)
result: experiments.Comparison = experiments.compare("fclswgan", "digits", seeds=2)
tuned: experiments.Tuned = experiments.tune("fclswgan", "digits-1")
seeds, passed, json = result.seeds, result.passed, result.to_dict()
