"""D³ on a trainer object in three lines, beside the plain baseline.

``python examples/three_lines.py`` trains an f-CLSWGAN on scikit-learn's digits twice, from the same
seed, first as it is and then with D³.
"""

import argparse

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin.data import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", default="digits-1", help="digits-DRAW or a folder of .mat files")
parser.add_argument("--steps", type=int, default=400)
options = parser.parse_args()

data = load(options.data).scaled()
settings = FCLSWGANSettings(steps=options.steps)

trainer = FCLSWGANTrainer(data, settings, seed=0)  # the baseline
trainer.fit()
print("baseline", d3_plugin.evaluate(trainer, draws=3))

trainer = FCLSWGANTrainer(data, settings, seed=0)  # the same, with D³
d3 = d3_plugin.attach(trainer, data=data)
trainer.fit()
print("+D³     ", d3.evaluate(draws=3))
