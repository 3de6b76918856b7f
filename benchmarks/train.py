"""Whether training waits for its data: an epoch of `train`, computing alone, and JPEG loops.

All contenders take turns in one process of one environment, `benchmarks/plain/torch_training.py`,
in another order in each round. They are: computing alone, which is as many hand-written steps on
one batch in memory; workload `train`; and a hand-written loop with torch's DataLoader, without and
with workers. The brackets contain the 95 % interval of the median over rounds of the ratio, by
resampling rounds with replacement, since other load may take the cores for a whole epoch. The
photographs are those of SWEEP_LSPET_DIR, else drawn figures saved as JPEG files.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import as_a_trial
from sweep import catalog, datasets, environments
from sweep.analysis.statistics import Interval
from sweep.datasets import Prepared, leeds, preparation
from sweep.node import machine

VERSION = "2.13.0"
SIZES = {
    3: (6, 1),
    5: (6, 2),
}  # batch exponent: rounds, how often an epoch goes through the photographs
SCRIPT = Path(__file__).with_name("plain") / "torch_training.py"
_WITHIN = 1.03  # of computing alone
HOUSE = Path(__file__).resolve().parent.parent
NAMES = {
    "resident": f"torch {VERSION}, a loop by hand on one resident batch",
    "ours": OURS,
    "0 workers": f"torch {VERSION}, a loop by hand over JPEG files, DataLoader",
    "2 workers": f"torch {VERSION}, the same with 2 workers",
}

Photograph = tuple[str, tuple[int, int]]  # a file, and the corner of what is prepared of it


def figures(quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        name = "lspet" if "SWEEP_LSPET_DIR" in os.environ else "synthetic"
        prepared = datasets.prepare(name, **({"examples": 128} if name == "synthetic" else {}))
        photographs = as_published() if name == "lspet" else as_drawn(prepared, Path(folder))
        for exponent, (rounds, repeats) in SIZES.items():
            found = measured(
                prepared, photographs, exponent, 3 if quick else rounds, repeats, Path(folder)
            )
            yield from told(name, exponent, found)


def measured(
    prepared: Prepared,
    photographs: list[Photograph],
    exponent: int,
    rounds: int,
    repeats: int,
    folder: Path,
) -> dict[str, Any]:
    """Return the times of the script, run on all cores with the variables of a trial."""
    cores = len(machine.usable_cores())
    asked = {
        "house": str(HOUSE),
        "data": str(prepared.folder),
        "photographs": photographs,
        "threads": cores,
    }
    listed = folder / "asked.json"
    listed.write_text(
        json.dumps(asked | {"batch_exponent": exponent, "rounds": rounds, "repeats": repeats})
    )
    torch = catalog.get_framework("torch")
    environment = environments.prepare(
        environments.specify(torch, VERSION, override={"requires": ["pillow"]})
    )
    return dict(json.loads(as_a_trial([environment.python, "-I", "-B", SCRIPT, listed], folder)))


def told(data: str, exponent: int, found: dict[str, Any]) -> Iterator[Figure]:
    """Yield the medians, the ratio of each to ours, and the share that ours waited."""
    what, epochs_s = f"an epoch of {data}, {2**exponent} images in a batch", found["epochs_s"]
    medians = {key: statistics.median(epochs_s[key]) for key in NAMES}
    yield Figure(what, OURS, medians["ours"])
    yield target(
        what, _WITHIN * medians["resident"], note=f"computing alone, and {_WITHIN - 1:.0%}"
    )
    for key in ("resident", "0 workers", "2 workers"):
        ratio = median_ratio(epochs_s[key], epochs_s["ours"])
        note = f"[{ratio.low:.3f}, {ratio.high:.3f}] × over {len(epochs_s[key])} rounds"
        waited = (
            f"; ours waited {found['waiting']:.2%} of its time for data"
            if key == "resident"
            else ""
        )
        yield Figure(what, NAMES[key], medians[key], note=note + waited)


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Return the median ratio over rounds, with its 95 % interval by resampling rounds."""
    random, ratios = (
        Random(0),
        [one / other for one, other in zip(numerators, denominators, strict=True)],
    )
    drawn = (statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(2000))
    cuts = statistics.quantiles(drawn, n=40)
    return Interval(statistics.median(ratios), cuts[0], cuts[-1])


def as_published() -> list[Photograph]:
    """Return the photographs that preparation keeps, as files on disk."""
    source = leeds.read(Path(os.environ["SWEEP_LSPET_DIR"]).expanduser().absolute())
    folder = Path(source.where).parent
    found = []
    for index, example in enumerate(source.examples):
        placed = preparation.placement_of(source.size(index), example.joints, example.visible)
        if isinstance(placed, preparation.Placement):
            found.append((str(folder / "images" / example.name), placed.corner))
    return found


def as_drawn(prepared: Prepared, folder: Path) -> list[Photograph]:
    """Return the prepared images as JPEG files."""
    import numpy as np
    from PIL import Image

    found = []
    for index, image in enumerate(np.load(prepared.folder / "images.npy", mmap_mode="r")):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(image).save(path, quality=92)
        found.append((str(path), (0, 0)))
    return found
