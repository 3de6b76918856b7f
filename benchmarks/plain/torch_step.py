"""A hand-written step of AlexNet in torch: forward and backward of random images."""

import torch
from torch import nn

JOINTS = 14


def network():
    """Return AlexNet, as in DeepPose."""
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
    """Return two functions: one clears the gradients, one takes a step and returns the loss.

    Clearing the gradients frees 230 MB and is no part of a step. Neither is the release of the
    graph, which happens when the loss is freed. One step of eight images is taken first, as by the
    parity check of a trial: the page faults of a later step depend on the memory that the C
    library's allocator has returned so far.
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
