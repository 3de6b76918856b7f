"""Training in torch by hand and by workload `train`, in turns in one process.

`python torch_training.py FILE` reads a JSON file: `house`, the folder of `workloads`; `data`, a
prepared data set; `photographs`, the file of each of its examples with the corner of the 256×256
pixels that were prepared; `batch_exponent`; `repeats` of the photographs in an epoch; `threads`;
and `rounds`. It prints JSON: the seconds of each epoch by contender, and the share of ours that
waited for data.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parent))
from torch_step import network

SIDE, CROP = 256, 227


class Photographs(Dataset):
    """Photographs as files, each decoded and cropped around the person when it is read."""

    def __init__(self, photographs, folder):
        self.photographs = photographs
        self.joints, self.visible = np.load(folder / "joints.npy"), np.load(folder / "visible.npy")

    def __len__(self):
        """Return the number of photographs."""
        return len(self.photographs)

    def __getitem__(self, index):
        """Return pixels, joints and visibilities.

        Pixels are (3, 227, 227) in [0, 1], joints (14, 2) in units of the crop, visibilities
        (14, 1).
        """
        path, (left, top) = self.photographs[index]
        joints, visible = self.joints[index], self.visible[index]
        seen = joints[visible != 0]
        middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
        x, y = np.clip(np.floor(middle - CROP / 2 + 0.5), 0, SIDE - CROP).astype(int)
        with Image.open(path) as opened:
            image = opened.convert("RGB").crop((left + x, top + y, left + x + CROP, top + y + CROP))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        targets = torch.from_numpy((joints - [x, y]) / CROP).float()
        return pixels, targets, torch.from_numpy(visible[:, None]).float()


class ByHand:
    """AlexNet, its loss and momentum SGD."""

    def __init__(self):
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def step(self, images, targets, visible):
        """Take one iteration and return its loss."""
        self.optimizer.zero_grad()
        difference = (self.model(images).view_as(targets) - targets) * visible
        loss = (difference * difference).sum() / visible.sum()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epoch_s(self, batches):
        """Return the seconds of an epoch over these batches."""
        start = time.perf_counter()
        for batch in batches:
            self.step(*batch)
        return time.perf_counter() - start


class Ours:
    """Workload `train`, epoch by epoch."""

    def __init__(self, asked):
        from workloads import deeppose, train
        from workloads.frameworks import torch as framework
        from workloads.networks import alexnet
        from workloads.runtime import layers, optimizers

        settings = dict(train.PARAMETERS, seed=0, epochs=10**6, threads=asked["threads"])
        settings["batch_exponent"] = asked["batch_exponent"]
        framework.load(settings)
        model = framework.Model(alexnet.NETWORK, layers.draw_weights(alexnet.NETWORK, 0), settings)
        model.set_optimizer(optimizers.chosen(settings["optimizer"], settings["learning_rate"]))
        poses = deeppose.Poses(asked["data"])
        everything = np.tile(np.arange(len(poses)), asked["repeats"])
        split = train.Split(training=everything, validation=everything[:1])
        self.training = train.Training(model, poses, split, settings, report=dict)
        self.batches = self.training.loader(first=1)
        self.epochs = 0

    def epoch_s(self):
        """Return the seconds of the next epoch, as in its record."""
        self.epochs += 1
        self.training.train(self.epochs, self.batches)
        return self.training.curve["epoch_s"][-1]

    def waiting(self):
        """Return the share of the time that waited for data."""
        curve = self.training.curve
        return sum(curve["data_wait_s"]) / sum(curve["epoch_s"])


def main(asked):
    """Time every contender's epochs, in another order in each round; the first does not count."""
    sys.path.insert(0, asked["house"])
    ours, by_hand = Ours(asked), ByHand()
    photographs = ConcatDataset(
        [Photographs(asked["photographs"], Path(asked["data"]))] * asked["repeats"]
    )
    size = 2 ** asked["batch_exponent"]
    how = {"shuffle": True, "drop_last": True}
    none, two = (
        DataLoader(photographs, size, num_workers=n, persistent_workers=n > 0, **how)
        for n in (0, 2)
    )
    resident = next(iter(none))
    contenders = {
        "resident": lambda: by_hand.epoch_s([resident] * len(none)),
        "ours": ours.epoch_s,
        "0 workers": lambda: by_hand.epoch_s(none),
        "2 workers": lambda: by_hand.epoch_s(two),
    }
    epochs_s = {name: [] for name in contenders}
    for _ in range(asked["rounds"] + 1):
        for name in random.sample(sorted(contenders), len(contenders)):
            epochs_s[name].append(contenders[name]())
    print(
        json.dumps(
            {
                "epochs_s": {name: found[1:] for name, found in epochs_s.items()},
                "waiting": ours.waiting(),
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
