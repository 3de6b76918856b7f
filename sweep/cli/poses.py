"""Poses: what a trained network predicted for a few validation images, drawn beside what is true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.datasets import Prepared
    from sweep.datasets.sheet import Tile

_PAIRS_IN_A_ROW = 3


def draw(record: Mapping[str, Any], out: Path) -> None:
    """Write a contact sheet of the poses that a record keeps, true and predicted side by side."""
    from sweep.datasets.sheet import sheet

    if not record.get("pose_example") or not record.get("data_id"):
        raise SweepError(
            f"{record['trial_name']} keeps no predictions",
            "trials of workload train do that ended ok",
        )
    page = sheet(_tiles(record, _data(record)), 2 * _PAIRS_IN_A_ROW, _title(record))
    try:
        page.save(out)
    except (OSError, ValueError) as error:
        hint = "give a .png, .jpg or .webp in a folder that exists"
        raise SweepError(f"{out} cannot be written: {error}", hint) from None


def _data(record: Mapping[str, Any]) -> Prepared:
    from sweep.datasets import store

    found = store.find(record["data_id"])
    if found is None:
        name = str(record["data_id"]).rpartition("-")[0]
        hint = f"sweep data prepare {name}, from the files that the trial had"
        raise SweepError(f"data set {record['data_id']} is not prepared on this machine", hint)
    return found


def _tiles(record: Mapping[str, Any], prepared: Prepared) -> list[Tile]:
    import numpy as np

    from sweep.datasets.sheet import Tile

    images, joints, visible = (
        np.load(prepared.folder / f"{name}.npy", mmap_mode="r")
        for name in ("images", "joints", "visible")
    )
    names = (prepared.folder / "names.txt").read_text(encoding="utf-8").splitlines()
    hidden_mean_nothing = not prepared.meta()["locates_invisible"]
    predicted = np.reshape(
        _predictions(record, joints[0].size, len(images)), (-1, *joints.shape[1:])
    )
    tiles = []
    for example, pose in zip(record["pose_example"], predicted, strict=True):
        seen, true = visible[example] != 0, np.array(joints[example])
        if hidden_mean_nothing:
            true[~seen] = np.nan
        tiles.append(Tile(images[example], true, seen, f"{names[example]}: true"))
        tiles.append(Tile(images[example], pose, None, "predicted"))
    return tiles


def _predictions(record: Mapping[str, Any], each: int, examples: int) -> list[float]:
    """The predicted coordinates; raises SweepError where they are not those of the examples named."""
    places, found = record["pose_example"], record.get("pose_joints") or []
    if len(found) != each * len(places):
        told = f"{len(found)} coordinates for {len(places)} examples of {each} each"
        raise SweepError(
            f"{record['trial_name']} keeps {told}", "its workload gives lists that do not fit"
        )
    if not all(place is not None and 0 <= place < examples for place in places):
        raise SweepError(
            f"{record['trial_name']} keeps predictions of examples that its data set does not have"
        )
    return list(found)


def _title(record: Mapping[str, Any]) -> str:
    loss, pck = (list(record.get(f"validation_{name}") or [None])[-1] for name in ("loss", "pck"))
    told = [f"validation loss {loss:.4g}"] if loss is not None else []
    told += [f"PCK {pck:.1%}"] if pck is not None else []
    return ", ".join([str(record["trial_name"]), *told])
