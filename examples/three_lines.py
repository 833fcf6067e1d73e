"""A baseline with and without D³: attaching D³ to a trainer object takes three lines.

``python examples/three_lines.py --adapter tfvaegan`` trains a TF-VAEGAN twice on scikit-learn's
digits, from the same seed: first the plain baseline, then the same with D³.
"""

import argparse

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_plugin.data import load

FAMILIES = {
    "fclswgan": (FCLSWGANTrainer, FCLSWGANSettings),
    "tfvaegan": (TFVAEGANTrainer, TFVAEGANSettings),
    "diffusion": (DiffusionTrainer, DiffusionSettings),
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--adapter", choices=FAMILIES, default="fclswgan")
parser.add_argument("--data", default="digits-1", help="digits-DRAW or a folder of .mat files")
parser.add_argument("--steps", type=int, default=400)
options = parser.parse_args()

data = load(options.data).scaled()
Trainer, Settings = FAMILIES[options.adapter]
settings = Settings(steps=options.steps)

trainer = Trainer(data, settings, seed=0)  # the baseline
trainer.fit()
print("baseline", d3_plugin.evaluate(trainer, draws=3))

trainer = Trainer(data, settings, seed=0)  # the same with D³
d3 = d3_plugin.attach(trainer, data=data)
trainer.fit()
print("+D³     ", d3.evaluate(draws=3))
