"""A step of AlexNet in torch, by hand: forward and backward of so many random images."""

import torch
from torch import nn

JOINTS = 14


def network():
    """AlexNet, as DeepPose has it."""
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 2 * JOINTS)),
    )


def step(batch):
    """Two functions: one clears the gradients, giving back 230 MB, which is no part of a step; one takes a step.

    What that returns is the loss, with which its graph is let go: that is no part of a step either.
    Before, one of eight images is taken, as a trial does in its parity check: how many page faults a later step takes
    depends on what the C library's allocator has given back so far.
    """
    model = network()
    images, targets = torch.rand(batch, 3, 227, 227), torch.rand(batch, JOINTS, 2)
    visible = torch.ones(batch, JOINTS, 1)
    model(torch.rand(8, 3, 227, 227)).sum().backward()

    def take():
        difference = (model(images).view(batch, JOINTS, 2) - targets) * visible
        loss = (difference * difference).sum() / visible.sum()
        loss.backward()
        return loss

    return model.zero_grad, take
