"""Leeds Sports Pose: 2,000 images of sports people (Johnson and Everingham, BMVC 2010)."""

from __future__ import annotations

from pathlib import Path

from sweep.datasets import leeds
from sweep.datasets.dataset import Archive, DataSet
from sweep.datasets.photographs import Photographs


def read(path: Path) -> Photographs:
    """Return the examples.

    Images 1 to 1000 are for training, as published and in the study; the rest are for testing.
    """
    return leeds.read(path, train=1000)


DATASET = DataSet(
    name="lsp",
    summary="Leeds Sports Pose, 2,000 images",
    read=read,
    archive=Archive(
        file="lsp_dataset.zip",
        mirrors=(
            "https://sam.johnson.io/research/lsp_dataset.zip",
            "http://sam.johnson.io/research/lsp_dataset.zip",
            "http://www.comp.leeds.ac.uk/mat4saj/lsp_dataset.zip",
            "https://web.archive.org/web/2017id_/http://sam.johnson.io/research/lsp_dataset.zip",
        ),
        members=(leeds.ANNOTATION, "im0001.jpg"),
    ),
    homepage="http://sam.johnson.io/research/lsp.html",
)
