"""Pictures of poses: what a trained network predicted, beside the annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.datasets import Prepared
    from sweep.datasets.sheet import Tile

_PAIRS_PER_ROW = 3


def draw(record: Mapping[str, Any], out: Path) -> None:
    """Write a contact sheet of the poses that a record keeps, each beside the predicted one."""
    from sweep.datasets.sheet import sheet

    if not record.get("pose_example") or not record.get("data_id"):
        raise SweepError(
            f"{record['trial_name']} keeps no predictions",
            "trials of workload train do that ended ok",
        )
    page = sheet(_tiles(record, _data(record)), 2 * _PAIRS_PER_ROW, _title(record))
    try:
        page.save(out)
    except (OSError, ValueError) as error:
        hint = "give a .png, .jpg or .webp in a folder that exists"
        raise SweepError(f"{out} cannot be written: {error}", hint) from None


def _data(record: Mapping[str, Any]) -> Prepared:
    from sweep.datasets import store

    prepared = store.find(record["data_id"])
    if prepared is None:
        name = str(record["data_id"]).rpartition("-")[0]
        hint = f"sweep data prepare {name}, from the files that the trial had"
        raise SweepError(f"data set {record['data_id']} is not prepared on this machine", hint)
    return prepared


def _tiles(record: Mapping[str, Any], prepared: Prepared) -> list[Tile]:
    import numpy as np

    from sweep.datasets.sheet import Tile

    images, joints, visible = (
        np.load(prepared.folder / f"{name}.npy", mmap_mode="r")
        for name in ("images", "joints", "visible")
    )
    names = (prepared.folder / "names.txt").read_text(encoding="utf-8").splitlines()
    hides_invisible = not prepared.meta()["locates_invisible"]
    coordinates = _predictions(record, joints[0].size, len(images))
    predicted = np.reshape(coordinates, (-1, *joints.shape[1:]))
    tiles = []
    for example, pose in zip(record["pose_example"], predicted, strict=True):
        is_visible, true = visible[example] != 0, np.array(joints[example])
        if hides_invisible:
            true[~is_visible] = np.nan
        tiles.append(Tile(images[example], true, is_visible, f"{names[example]}: true"))
        tiles.append(Tile(images[example], pose, None, "predicted"))
    return tiles


def _predictions(record: Mapping[str, Any], per_example: int, available: int) -> list[float]:
    """Return the predicted coordinates; SweepError if they do not fit the examples."""
    examples, coordinates = record["pose_example"], record.get("pose_joints") or []
    if len(coordinates) != per_example * len(examples):
        raise SweepError(
            f"{record['trial_name']} keeps {len(coordinates)} coordinates"
            f" for {len(examples)} examples of {per_example} each",
            "its workload gives lists that do not fit",
        )
    if not all(index is not None and 0 <= index < available for index in examples):
        raise SweepError(
            f"{record['trial_name']} keeps predictions of examples that its data set does not have"
        )
    return list(coordinates)


def _title(record: Mapping[str, Any]) -> str:
    loss, pck = (list(record.get(f"validation_{name}") or [None])[-1] for name in ("loss", "pck"))
    parts = [str(record["trial_name"])]
    if loss is not None:
        parts.append(f"validation loss {loss:.4g}")
    if pck is not None:
        parts.append(f"PCK {pck:.1%}")
    return ", ".join(parts)
