"""A hand-written loop: AlexNet in torch, forward and backward timed. `python torch_loop.py BATCH SAMPLES`

Before, it takes a step of eight images, as a trial does in its fairness gate: how many page faults a later step takes
depends on what the C library's allocator has given back so far.
"""

import gc
import json
import sys
import time

import torch
from torch import nn

batch, samples = int(sys.argv[1]), int(sys.argv[2])
model = nn.Sequential(
    *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
    *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
    *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
    *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
    *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    *(nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5)),
    *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 28)),
)
images, targets = torch.rand(batch, 3, 227, 227), torch.rand(batch, 14, 2)
visible = torch.ones(batch, 14, 1)
model(torch.rand(8, 3, 227, 227)).sum().backward()
times = []
gc.disable()
for _ in range(samples + 3):
    model.zero_grad()
    start = time.perf_counter()
    difference = (model(images).view(batch, 14, 2) - targets) * visible
    loss = (difference * difference).sum() / visible.sum()
    loss.backward()
    times.append(time.perf_counter() - start)
    del difference, loss
print(json.dumps(times[3:]))
