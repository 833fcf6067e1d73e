"""D³ with a generator in DistributedDataParallel: all processes share one student.

``torchrun --nproc_per_node 2 examples/ddp_training.py`` trains a small GAN on scikit-learn's
digits, on GPUs with nccl if there are enough, otherwise on the CPU with gloo. The lines for D³ are
marked ``# D3``: ``gather=True``, and its loss in the same backward as the host's.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import d3_plugin  # D3
from d3_plugin.data import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch_size", type=int, default=32, help="rows per process")
options = parser.parse_args()

local_rank, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
on_gpu = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
if on_gpu:
    torch.cuda.set_device(device)
dist.init_process_group("nccl" if on_gpu else "gloo")
rank = dist.get_rank()
torch.manual_seed(rank)  # different noise and batches per process; DDP equalises the weights

data = load("digits-1").scaled().to(device)
width, attribute_width = data.feature_dim, data.attributes.shape[1]


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Linear(2 * attribute_width, 128), nn.ReLU(), nn.Linear(128, width)]
        self.layers = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, noise, attributes):
        return self.layers(torch.cat([noise, attributes], dim=1))


generator = DistributedDataParallel(Generator().to(device))
critic = DistributedDataParallel(
    nn.Sequential(nn.Linear(width + attribute_width, 128), nn.ReLU(), nn.Linear(128, 1)).to(device)
)
optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
d3 = d3_plugin.attach(generator=generator, optimizer=optimizer, data=data, gather=True)  # D3

own_rows = torch.arange(rank, len(data.train_labels), processes, device=device)
for _ in range(options.steps):
    rows = own_rows[torch.randint(len(own_rows), (options.batch_size,), device=device)]
    features, labels = data.train_features[rows], data.train_labels[rows]
    attributes = data.attributes[labels]
    fake = generator(torch.randn_like(attributes), attributes)

    both = torch.cat([features, fake.detach()])
    real_score, fake_score = critic(torch.cat([both, attributes.repeat(2, 1)], dim=1)).chunk(2)
    critic_loss = (1 - real_score).relu().mean() + (1 + fake_score).relu().mean()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()

    # Without the critic's DDP wrapper: this backward is not for its parameters.
    loss = -critic.module(torch.cat([fake, attributes], dim=1)).mean()
    loss = loss + d3.loss(features=features, labels=labels)  # D3
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

if rank == 0:
    print(d3.evaluate())
dist.barrier()
dist.destroy_process_group()
