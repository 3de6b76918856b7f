"""A hand-written step of AlexNet in Chainer: forward and backward of random images."""

import chainer
import chainer.functions as F  # noqa: N812  as everybody calls it
import chainer.links as L  # noqa: N812
import numpy as np

JOINTS = 14


def network():
    """Return the layers of AlexNet that have weights, as in DeepPose."""
    return chainer.ChainList(
        L.Convolution2D(3, 96, 11, stride=4),
        L.Convolution2D(96, 256, 5, pad=2),
        L.Convolution2D(256, 384, 3, pad=1),
        L.Convolution2D(384, 384, 3, pad=1),
        L.Convolution2D(384, 256, 3, pad=1),
        L.Linear(9216, 4096),
        L.Linear(4096, 4096),
        L.Linear(4096, 2 * JOINTS),
    )


def predicted(model, x):
    """Return the joints (batch, 14, 2) of images (batch, 3, 227, 227)."""
    conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8 = model
    h = F.max_pooling_2d(F.relu(conv1(x)), 3, 2, cover_all=False)
    h = F.max_pooling_2d(F.relu(conv2(h)), 3, 2, cover_all=False)
    h = F.relu(conv4(F.relu(conv3(h))))
    h = F.max_pooling_2d(F.relu(conv5(h)), 3, 2, cover_all=False)
    h = F.dropout(F.relu(fc6(h)), 0.5)
    h = F.dropout(F.relu(fc7(h)), 0.5)
    return F.reshape(fc8(h), (len(x), JOINTS, 2))


def step(batch):
    """Return two functions: one clears the gradients, one takes a step.

    `torch_step.py` explains the preparation.
    """
    model, random = network(), np.random.RandomState(0)
    images = random.random_sample((batch, 3, 227, 227)).astype(np.float32)
    targets = random.random_sample((batch, JOINTS, 2)).astype(np.float32)
    visible = np.ones((batch, JOINTS, 2), np.float32)
    F.sum(predicted(model, random.random_sample((8, 3, 227, 227)).astype(np.float32))).backward()

    def take():
        difference = (predicted(model, images) - targets) * visible
        loss = F.sum(difference * difference) / (visible.sum() / 2)
        loss.backward()
        return loss

    return model.cleargrads, take
