"""A hand-written loop: AlexNet in Chainer, forward and backward timed. `python chainer_loop.py BATCH SAMPLES`

Before, it takes a step of eight images, as a trial does in its fairness gate; `torch_loop.py` says why.
"""

import gc
import json
import sys
import time

import chainer
import chainer.functions as F  # noqa: N812  as everybody calls it
import chainer.links as L  # noqa: N812
import numpy as np

batch, samples = int(sys.argv[1]), int(sys.argv[2])
model = chainer.ChainList(
    L.Convolution2D(3, 96, 11, stride=4),
    L.Convolution2D(96, 256, 5, pad=2),
    L.Convolution2D(256, 384, 3, pad=1),
    L.Convolution2D(384, 384, 3, pad=1),
    L.Convolution2D(384, 256, 3, pad=1),
    L.Linear(9216, 4096),
    L.Linear(4096, 4096),
    L.Linear(4096, 28),
)


def predicted(x):
    conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8 = model
    h = F.max_pooling_2d(F.relu(conv1(x)), 3, 2, cover_all=False)
    h = F.max_pooling_2d(F.relu(conv2(h)), 3, 2, cover_all=False)
    h = F.relu(conv4(F.relu(conv3(h))))
    h = F.max_pooling_2d(F.relu(conv5(h)), 3, 2, cover_all=False)
    h = F.dropout(F.relu(fc6(h)), 0.5)
    h = F.dropout(F.relu(fc7(h)), 0.5)
    return F.reshape(fc8(h), (len(x), 14, 2))


random = np.random.RandomState(0)
images = random.random_sample((batch, 3, 227, 227)).astype(np.float32)
targets = random.random_sample((batch, 14, 2)).astype(np.float32)
visible = np.ones((batch, 14, 2), np.float32)
F.sum(predicted(random.random_sample((8, 3, 227, 227)).astype(np.float32))).backward()
times = []
gc.disable()
for _ in range(samples + 3):
    model.cleargrads()
    start = time.perf_counter()
    difference = (predicted(images) - targets) * visible
    loss = F.sum(difference * difference) / (visible.sum() / 2)
    loss.backward()
    times.append(time.perf_counter() - start)
    del difference, loss
print(json.dumps(times[3:]))
