"""The contact sheet: images with their joints as stick figures, to check what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sweep.datasets.dataset import LEFT_LIMBS, RIGHT_LIMBS, TRUNK, Flags, Floats, Pixels

RIGHT, LEFT, MIDDLE = (255, 140, 0), (30, 150, 255), (60, 220, 90)
_INK, _PAPER, _GAP, _LINE = (40, 40, 40), (250, 250, 250), 8, 20
# Figures are drawn this many times larger and then reduced, for smooth edges.
_OVER = 4


@dataclass(frozen=True, eq=False)
class Tile:
    """One image with a pose; joints that are not finite are left out.

    Without `visible` all joints are drawn as visible, for a prediction.
    """

    image: Pixels  # (height, width, 3)
    joints: Floats  # (14, 2) x, y in pixels of the image
    visible: Flags | None = None  # (14,)
    label: str = ""


def sheet(tiles: Sequence[Tile], columns: int = 6, title: str = "") -> Image.Image:
    """Return all tiles in rows of `columns`, each above its label, with a legend at the bottom."""
    columns = max(1, min(columns, len(tiles)))
    width, height = max(t.image.shape[1] for t in tiles), max(t.image.shape[0] for t in tiles)
    rows = -(-len(tiles) // columns)
    step_x, step_y = width + _GAP, height + _LINE + _GAP
    page = Image.new("RGB", (_GAP + columns * step_x, _GAP + _LINE + rows * step_y + _LINE), _PAPER)
    pen = ImageDraw.Draw(page)
    _write(pen, (_GAP, _GAP // 2), title, page.width - 2 * _GAP)
    for i, tile in enumerate(tiles):
        corner = _GAP + i % columns * step_x, _GAP + _LINE + i // columns * step_y
        page.paste(posed(tile), corner)
        _write(pen, (corner[0], corner[1] + height + 2), tile.label, width)
    _legend(pen, page.height - _LINE)
    return page


def posed(tile: Tile) -> Image.Image:
    """Return the tile's image with its stick figure.

    Visible joints are filled. Others are rings, and their limbs are dashed.
    """
    image = Image.fromarray(np.asarray(tile.image)).convert("RGBA")
    over = Image.new("RGBA", (image.width * _OVER, image.height * _OVER))
    pen = ImageDraw.Draw(over)
    visible = np.ones(len(tile.joints), bool)
    if tile.visible is not None:
        visible = np.asarray(tile.visible, bool)
    points = [(float(x) * _OVER, float(y) * _OVER) for x, y in tile.joints]
    drawn = {int(j) for j in np.flatnonzero(np.isfinite(tile.joints).all(axis=1))}
    for limbs, colour in ((TRUNK, MIDDLE), (LEFT_LIMBS, LEFT), (RIGHT_LIMBS, RIGHT)):
        for a, b in (limb for limb in limbs if drawn.issuperset(limb)):
            _limb(pen, points[a], points[b], colour, bool(visible[a] and visible[b]))
    for joint in sorted(drawn):
        _joint(pen, points[joint], _colour(joint), bool(visible[joint]))
    figure = over.resize(image.size, Image.Resampling.BOX)
    return Image.alpha_composite(image, figure).convert("RGB")


def _limb(
    pen: ImageDraw.ImageDraw,
    a: tuple[float, float],
    b: tuple[float, float],
    colour: tuple[int, ...],
    solid: bool,
) -> None:
    for outline, width in (((0, 0, 0, 150), 4.5), ((*colour, 255), 2.5)):
        if solid:
            pen.line([a, b], fill=outline, width=int(width * _OVER))
            continue
        start, way = np.array(a), np.array(b) - np.array(a)
        dashes = max(1, int(np.hypot(*way) / (6 * _OVER)))
        for dash in range(dashes):
            piece = start + way * (dash / dashes), start + way * ((dash + 0.5) / dashes)
            pen.line([tuple(p) for p in piece], fill=outline, width=int(width * _OVER * 0.6))


def _joint(
    pen: ImageDraw.ImageDraw, centre: tuple[float, float], colour: tuple[int, ...], solid: bool
) -> None:
    _disc(pen, centre, 4 * _OVER, (0, 0, 0, 180))
    _disc(pen, centre, 3.2 * _OVER, (*colour, 255))
    if not solid:
        _disc(pen, centre, 2 * _OVER, (255, 255, 255, 255))


def _disc(
    pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: tuple[int, ...]
) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _colour(joint: int) -> tuple[int, int, int]:
    if joint >= 12:
        return MIDDLE
    return RIGHT if joint in {j for limb in RIGHT_LIMBS for j in limb} else LEFT


def _legend(pen: ImageDraw.ImageDraw, top: int) -> None:
    x = float(_GAP)
    entries = (
        (RIGHT, True, "person's right"),
        (LEFT, True, "person's left"),
        (MIDDLE, True, "trunk and head"),
        (_INK, False, "not visible"),
    )
    for colour, solid, text in entries:
        _disc(pen, (x + 4, top + 6), 4, colour)
        if not solid:
            _disc(pen, (x + 4, top + 6), 2, _PAPER)
        pen.text((x + 13, top - 1), text, fill=_INK, font=_font())
        x += 13 + pen.textlength(text, font=_font()) + 18


def _write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, width: int) -> None:
    while text and pen.textlength(text, font=_font()) > width:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    pen.text(corner, text, fill=_INK, font=_font())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
