"""A step of AlexNet in torch, for other tools to time: forward and backward, of so many random images."""

import torch
from torch import nn


def step(batch):
    """Two functions: one clears the gradients, giving back 230 MB, which is no part of a step; one takes a step."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 28)),
    )
    images, targets, visible = torch.rand(batch, 3, 227, 227), torch.rand(batch, 14, 2), torch.ones(batch, 14, 1)
    model(torch.rand(8, 3, 227, 227)).sum().backward()  # as a trial does in its fairness gate

    def take():
        difference = (model(images).view(batch, 14, 2) - targets) * visible
        loss = (difference * difference).sum() / visible.sum()
        loss.backward()

    return model.zero_grad, take
