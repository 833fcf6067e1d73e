"""Train with D³, score, save, compare."""

import warnings

import torch

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3, D3Error, D3Settings, D3Warning, FailedConditionError, InputError
from d3_plugin.data import load, pseudo_unseen
from d3_plugin.evaluation import Classifier
from d3_plugin.experiments import ablate, compare, tune
from d3_plugin.hooks import CSVLog

version = d3_plugin.__version__
warnings.simplefilter("error", D3Warning)
data = load("digits-1").scaled()
trainer = FCLSWGANTrainer(pseudo_unseen(data), FCLSWGANSettings(steps=4), seed=0)
settings = D3Settings.end_to_end(share=0.1)
d3: D3 = d3_plugin.attach(trainer, settings=settings, plugins=[CSVLog("d3.csv")])
trainer.fit()
terms, checked = d3.values, d3.check()
chosen = d3.calibrate()
result = d3.evaluate(draws=2, **chosen)
baseline = d3_plugin.evaluate(trainer)
u, s, h, ausuc = result.U, result.S, result.H, result.ausuc
gain, scores, labels = h - baseline.H, result.scores, result.labels
d3.classifier().save("d3.pt")
loaded, of_host = Classifier.load("d3.pt"), d3_plugin.classifier(trainer)
ids = loaded.predict(data.test_unseen_features)
names = loaded.class_names_[of_host.predict([[0.0] * 64])]
shares = loaded.predict_proba(torch.zeros(3, 64).numpy())
d3.detach()
try:
    comparison = compare("fclswgan", "digits", "runs/a", seeds=2, fail_if=["ausuc < 0.1"])
except FailedConditionError as error:
    raise SystemExit(str(error.results)) from error
except (InputError, D3Error) as error:
    raise SystemExit(str(error)) from error
page, verdict, rows = comparison.page, comparison.verdicts["fclswgan"], comparison.rows
parts, best = ablate(data=data, seeds=2), tune("fclswgan", data, trials=2)
