"""Leeds Sports Pose Extended: 10,000 images of harder poses (Johnson and Everingham, CVPR 2011)."""

from __future__ import annotations

from pathlib import Path

from sweep.datasets import leeds
from sweep.datasets.dataset import Archive, DataSet
from sweep.datasets.photographs import Photographs


def read(path: Path) -> Photographs:
    """Return the examples, all for training."""
    return leeds.read(path)


DATASET = DataSet(
    name="lspet",
    summary="Leeds Sports Pose Extended, 10,000 images",
    read=read,
    # The high-resolution edition (hr-lspet.zip) does not fit: its persons exceed the crop.
    archive=Archive(
        file="lspet_dataset.zip",
        mirrors=(
            "https://sam.johnson.io/research/lspet_dataset.zip",
            "http://sam.johnson.io/research/lspet_dataset.zip",
            "http://www.comp.leeds.ac.uk/mat4saj/lspet_dataset.zip",
            "https://web.archive.org/web/2017id_/http://sam.johnson.io/research/lspet_dataset.zip",
        ),
        members=(leeds.ANNOTATION, "im00001.jpg"),
    ),
    homepage="http://sam.johnson.io/research/lspet.html",
)
