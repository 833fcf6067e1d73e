"""What a user types; type checkers must resolve every name of it."""

import numpy as np
import torch

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3, D3Settings, O2DBDLoss
from d3_plugin.data import GZSLData, load
from d3_plugin.evaluation import gzsl_metrics
from d3_plugin.functional import label_space_kl
from d3_plugin.losses import ID2SDLoss

data: GZSLData = load("digits-1").scaled()
trainer = FCLSWGANTrainer(data, FCLSWGANSettings(steps=4), seed=0)
d3: D3 = d3_plugin.attach(trainer, data=data, settings=D3Settings(weight=0.02))
trainer.fit()
terms: dict[str, torch.Tensor] = d3.values
evaluation = d3.evaluate(draws=2)
harmonic: float = evaluation.metrics.harmonic
baseline: float = d3_plugin.evaluate(trainer).metrics.harmonic
id2sd, o2dbd = ID2SDLoss(torch.arange(6)), O2DBDLoss(10, torch.arange(6))
divergence: torch.Tensor = label_space_kl(torch.ones(2, 6), torch.zeros(2, 10), torch.arange(6))
curve: float = gzsl_metrics(np.eye(2), np.arange(2), np.array([0]), np.array([1])).ausuc
