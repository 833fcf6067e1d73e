"""D³ on arrays of your own, in 25 lines: train, print U, S, H and AUSUC, save the classifier."""

import numpy as np

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin.data import GZSLData

rng = np.random.default_rng(0)
labels = np.repeat(np.arange(10), 50)  # (N,) class ids
attributes = rng.random((10, 16))  # (C, A)
features = attributes[labels] @ rng.random((16, 64)) + rng.normal(0, 0.3, (500, 64))  # (N, D)

seen, held_out = labels < 8, np.arange(500) % 5 == 0
train, test = seen & ~held_out, seen & held_out
data = GZSLData.from_arrays(
    features, labels, attributes, train=train, test_seen=test, unseen_classes=[8, 9]
)

trainer = FCLSWGANTrainer(data.scaled(), FCLSWGANSettings(steps=50))
d3 = d3_plugin.attach(trainer)
trainer.fit()
print(d3.evaluate())
d3.classifier().save("classifier.pt")
np.savez("test_rows.npz", features=features, scores=d3.classifier().scores(features))
