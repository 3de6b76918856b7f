"""Synthetic: drawn figures of people with known joints; needs no photographs.

A figure is an articulated body seen from a random side. Limb angles stay within what joints allow,
and limbs are foreshortened. The right limbs have warm colours and the left ones cool colours. The
background is textured, with distractors; at times an obstacle stands in front. A joint that is
drawn over is invisible.

Example i depends on (seed, i) alone. All drawing is elementwise arithmetic in NumPy, so that the
bytes are the same on every machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweep.datasets.dataset import JOINTS, SIDE, DataSet, Example, Flags, Floats, Pixels
from sweep.errors import SweepError

VERSION = 1  # raise it when the drawing changes
MAX_EXAMPLES = 1_000_000
TEST_SHARE = 5  # every fifth example is for testing
_MARGIN = 12  # pixels between any joint and the edge

# Lengths in units of the body's height, from head top to ankle.
_HEAD, _TORSO, _UPPER_ARM, _FOREARM, _THIGH, _SHIN = 0.17, 0.31, 0.17, 0.16, 0.245, 0.235
_SHOULDER, _HIP = 0.115, 0.07  # from the middle

Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A rounded limb from `a` to `b`, whose radius goes from `ra` to `rb`.

    `joints` are the joints at its ends.
    """

    a: Point
    b: Point
    ra: float
    rb: float
    colour: Colour
    joints: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure to be drawn: `parts` from back to front."""

    joints: Floats  # (14, 2)
    visible: Flags  # (14,)
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Figures:
    """A Source of drawn figures."""

    count: int
    seed: int
    where: str = "the synthetic data set"
    locates_invisible: bool = True

    @cached_property
    def examples(self) -> Sequence[Example]:
        return [self._example(i) for i in range(self.count)]

    def _example(self, index: int) -> Example:
        figure = draw_figure(_random(self.seed, index))
        is_test = index % TEST_SHARE == TEST_SHARE - 1
        return Example(f"figure {index}", figure.joints, figure.visible, test=is_test)

    def identity(self) -> str:
        return json.dumps([VERSION, self.count, self.seed])

    def size(self, index: int) -> tuple[int, int]:  # noqa: ARG002  all are alike
        return SIDE, SIDE

    def image(self, index: int) -> Pixels:
        random = _random(self.seed, index)
        return render(draw_figure(random), random)


def read(examples: int, seed: int) -> Figures:
    """Return `examples` figures; SweepError if a number is out of range."""
    if not 1 <= examples <= MAX_EXAMPLES:
        raise SweepError(
            f"{examples} synthetic examples are asked for",
            f"from 1 to {MAX_EXAMPLES:,} can be made",
        )
    if not 0 <= seed < 2**32:
        raise SweepError(
            f"seed {seed} of the synthetic data set is out of range", "from 0 to 4294967295"
        )
    return Figures(examples, seed)


def draw_figure(random: np.random.RandomState) -> Figure:
    """Return a body in a random pose, seen from a random side, at a random place in the image."""
    facing = random.uniform(-math.pi, math.pi)  # 0 faces the viewer, ±π turns the back
    skeleton = _skeleton(random, facing)
    joints = _placed(random, skeleton)
    height = _body_height(skeleton, joints)
    parts = (*_body(random, joints, height, facing), *_obstacle(random, joints, height))
    return Figure(joints, _uncovered(joints, parts), parts)


def render(figure: Figure, random: np.random.RandomState) -> Pixels:
    """Return the picture (256, 256, 3) of a figure, with background, light and noise."""
    canvas = _background(random)
    for part in figure.parts:
        _paint(canvas, part)
    canvas *= random.uniform(0.75, 1.2)
    canvas += random.randint(-7, 8, canvas.shape)
    return np.clip(np.floor(canvas + 0.5), 0, 255).astype(np.uint8)


def _random(seed: int, index: int) -> np.random.RandomState:
    # RandomState's stream is the same in every version of NumPy; Generator's is not.
    return np.random.RandomState((seed, index))


def _skeleton(random: np.random.RandomState, facing: float) -> Floats:
    """Return joints (14, 2) in units of the body's height.

    The origin is the middle of the hips, and y points downward.
    """
    lean = float(np.clip(random.normal(0, 0.22), -0.7, 0.7))
    across = math.cos(facing)  # positive: the person's right is on the viewer's left
    joints = np.zeros((JOINTS, 2))
    neck = _along((0.0, 0.0), math.pi + lean, _TORSO * random.uniform(0.85, 1))
    joints[12] = neck
    joints[13] = _along(neck, math.pi + lean + random.uniform(-0.35, 0.35), _HEAD)
    side_axis = lean - math.pi / 2  # towards the viewer's left when the body stands upright
    for side, (hip, knee, ankle, shoulder, elbow, wrist) in (
        (1, (2, 1, 0, 8, 7, 6)),
        (-1, (3, 4, 5, 9, 10, 11)),
    ):
        sign = side * across
        joints[shoulder] = _along(_along(neck, lean, 0.03), side_axis, sign * _SHOULDER)
        joints[hip] = _along((0.0, 0.0), side_axis, sign * _HIP)
        # Angles grow from "down" towards the viewer's right.
        outward = -1 if sign > 0 else 1
        arm, arm_lengths = (shoulder, elbow, wrist), (_UPPER_ARM, _FOREARM)
        _limb(random, joints, arm, arm_lengths, lean, outward, (-0.35, 2.7), (0, 2.4))
        leg, leg_lengths = (hip, knee, ankle), (_THIGH, _SHIN)
        _limb(random, joints, leg, leg_lengths, lean, outward, (-0.25, 1.15), (-1.5, 0))
    return joints


def _limb(
    random: np.random.RandomState,
    joints: Floats,
    chain: tuple[int, int, int],
    lengths: tuple[float, float],
    lean: float,
    outward: int,
    swing: tuple[float, float],
    bend: tuple[float, float],
) -> None:
    """Place two segments from joint `chain[0]`.

    The first is swung outward from the trunk's axis; the second is bent at the middle joint.
    """
    angle = lean + outward * swing[0] + outward * (swing[1] - swing[0]) * random.beta(1.3, 2.2)
    joints[chain[1]] = _along(joints[chain[0]], angle, lengths[0] * random.uniform(0.75, 1))
    angle += outward * random.uniform(*bend) * random.uniform(0.2, 1)
    joints[chain[2]] = _along(joints[chain[1]], angle, lengths[1] * random.uniform(0.75, 1))


def _along(start: Sequence[float] | Floats, angle: float, length: float) -> Point:
    """Return the point `length` away from `start`; angle 0 is down, π/2 to the viewer's right."""
    return float(start[0]) + math.sin(angle) * length, float(start[1]) + math.cos(angle) * length


def _placed(random: np.random.RandomState, skeleton: Floats) -> Floats:
    """Return the skeleton in pixels, inside the margins, on a grid of 1/64 pixel."""
    low, high = skeleton.min(axis=0), skeleton.max(axis=0)
    height = min(random.uniform(120, 190), 200 / float((high - low).max()))
    free = SIDE - 2 * _MARGIN - (high - low) * height
    corner = _MARGIN + free * random.random_sample(2)
    pixels: Floats = (skeleton - low) * height + corner
    # The grid hides differences in the last bits of sin and cos between math libraries.
    return np.floor(pixels * 64 + 0.5) / 64


def _body_height(skeleton: Floats, joints: Floats) -> float:
    """Return the pixels per unit of the skeleton."""
    return float(np.ptp(joints[:, 1]) / np.ptp(skeleton[:, 1]))


def _body(
    random: np.random.RandomState, joints: Floats, height: float, facing: float
) -> list[Part]:
    """Return the body's parts from back to front.

    The limbs of the far side come first, then trunk and head, then the limbs of the near side.
    """
    right_is_near = math.sin(facing) > 0
    skin = _jitter(random, (205, 165, 135), 25)
    sides = {
        True: _side(random, joints, height, (2, 1, 0, 8, 7, 6), ((225, 70, 40), (245, 165, 40))),
        False: _side(random, joints, height, (3, 4, 5, 9, 10, 11), ((45, 90, 225), (50, 195, 215))),
    }
    far, near = sides[not right_is_near], sides[right_is_near]
    # Both arms lie behind the trunk, as if folded at the back.
    arms_behind = random.random_sample() < 0.4
    trunk = [*_trunk(random, joints, height), *_head(joints, height, facing, skin)]
    return [*far, *near[2:], *trunk, *near[:2]] if arms_behind else [*far, *trunk, *near]


def _side(
    random: np.random.RandomState,
    joints: Floats,
    height: float,
    chain: tuple[int, ...],
    colours: tuple[Colour, Colour],
) -> list[Part]:
    """Return thigh, shin, upper arm and forearm of one side, lower segments in front."""
    hip, knee, ankle, shoulder, elbow, wrist = chain
    leg, arm = _jitter(random, colours[0], 22), _jitter(random, colours[1], 22)
    segments = (
        (knee, ankle, 0.036, 0.024, leg),
        (hip, knee, 0.05, 0.038, leg),
        (shoulder, elbow, 0.034, 0.029, arm),
        (elbow, wrist, 0.028, 0.02, arm),
    )
    return [
        _between(joints, a, b, ra * height, rb * height, colour)
        for a, b, ra, rb, colour in segments
    ]


def _trunk(random: np.random.RandomState, joints: Floats, height: float) -> list[Part]:
    colour = _jitter(random, (110, 150, 95), 40)
    hips, chest = (joints[2] + joints[3]) / 2, (joints[8] + joints[9]) / 2
    middle = Part(_point(chest), _point(hips), 0.07 * height, 0.058 * height, colour, (2, 3, 8, 9))
    bars = ((8, 9), (2, 3), (8, 2), (9, 3))
    return [
        *(_between(joints, a, b, 0.048 * height, 0.048 * height, colour) for a, b in bars),
        middle,
    ]


def _head(joints: Floats, height: float, facing: float, skin: Colour) -> list[Part]:
    """Return neck, head with hair, and the face if it is turned to the viewer."""
    neck, top = joints[12], joints[13]
    up = top - neck
    across = np.array([-up[1], up[0]])
    hair = (60.0, 42.0, 32.0)
    radius = 0.062 * height
    parts = [
        Part(_point(neck), _point(neck + 0.5 * up), 0.03 * height, 0.03 * height, skin, (12,)),
        Part(_point(neck + 0.52 * up), _point(neck + 0.66 * up), radius, radius, skin, (13,)),
        Part(
            _point(neck + 0.78 * up),
            _point(neck + 0.82 * up),
            0.78 * radius,
            0.62 * radius,
            hair,
            (13,),
        ),
    ]
    if math.cos(facing) <= 0:
        return [
            *parts,
            Part(_point(neck + 0.5 * up), _point(neck + 0.7 * up), radius, radius, hair, (13,)),
        ]
    turned = neck + 0.5 * up + across * (0.2 * math.sin(facing))
    eyes = (turned + across * 0.13, turned - across * 0.13)
    return [
        *parts,
        *(
            Part(_point(eye), _point(eye), 0.01 * height, 0.01 * height, (20, 20, 25))
            for eye in eyes
        ),
    ]


def _obstacle(random: np.random.RandomState, joints: Floats, height: float) -> list[Part]:
    """Return, at times, a pole or a rock in front of the figure."""
    if random.random_sample() > 0.35:
        return []
    colour = _jitter(random, (120, 115, 110), 45)
    centre = joints[random.randint(0, JOINTS)] + random.uniform(-0.1, 0.1, 2) * height
    angle, length = random.uniform(-math.pi, math.pi), random.uniform(0.02, 0.25) * height
    radius = random.uniform(0.04, 0.09) * height
    ends = _along(centre, angle, length), _along(centre, angle + math.pi, length)
    return [Part(ends[0], ends[1], radius, radius, colour)]


def _uncovered(joints: Floats, parts: Sequence[Part]) -> Flags:
    """Return which joints are visible: not drawn over after the last part that ends there."""
    visible = np.ones(JOINTS, bool)
    for part in parts:
        for joint in range(JOINTS):
            if joint in part.joints:
                visible[joint] = True
            elif _inside(part, joints[joint]):
                visible[joint] = False
    return visible if visible.any() else np.ones(JOINTS, bool)


def _inside(part: Part, point: Floats) -> bool:
    distance, radius, _ = _distance(part, point[0], point[1])
    return bool(distance < radius)


def _paint(canvas: Floats, part: Part) -> None:
    """Draw a part on the canvas, darker towards its edge, anti-aliased over a pixel."""
    reach = max(part.ra, part.rb) + 1
    left, right = _range(part.a[0], part.b[0], reach)
    top, bottom = _range(part.a[1], part.b[1], reach)
    if left >= right or top >= bottom:
        return
    y, x = np.ogrid[top:bottom, left:right]
    distance, radius, along = _distance(part, x + 0.5, y + 0.5)
    cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    light = 1.08 - 0.5 * np.clip(distance / radius, 0, 1) ** 2 - 0.08 * along
    area = canvas[top:bottom, left:right]
    area += cover * (light[..., None] * np.array(part.colour) - area)


def _distance(part: Part, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return for points: distance to the part's axis, radius there, and position along it.

    Positions go from 0 at `a` to 1 at `b`.
    """
    (ax, ay), (bx, by) = part.a, part.b
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    along = (
        np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1)
        if length
        else np.zeros(np.broadcast(x, y).shape)
    )
    px, py = x - (ax + along * dx), y - (ay + along * dy)
    return np.sqrt(px * px + py * py), part.ra + along * (part.rb - part.ra), along


def _background(random: np.random.RandomState) -> Floats:
    """Return a wall and a floor of muted colours with texture, and shapes that are no limbs."""
    canvas = np.empty((SIDE, SIDE, 3))
    horizon = random.randint(90, 230)
    canvas[:horizon] = _muted(random)
    canvas[horizon:] = _muted(random)
    for cells, strength in ((4, 36), (16, 22), (64, 14)):
        canvas += _texture(random, cells)[..., None] * strength * random.uniform(0.4, 1.2, 3)
    for _ in range(random.randint(0, 6)):
        start = random.uniform(0, SIDE, 2)
        end = _along(start, random.uniform(-math.pi, math.pi), random.uniform(0, 90))
        ra, rb = random.uniform(4, 26, 2)
        _paint(canvas, Part(_point(start), end, float(ra), float(rb), _muted(random)))
    return canvas


def _texture(random: np.random.RandomState, cells: int) -> Floats:
    """Return random values in [-1, 1] on a grid, interpolated smoothly (256, 256)."""
    grid = random.uniform(-1, 1, (cells + 1, cells + 1))
    at = np.arange(SIDE) * cells / SIDE
    cell = at.astype(np.intp)
    share = at - cell
    share = share * share * (3 - 2 * share)
    rows = grid[cell] * (1 - share[:, None]) + grid[cell + 1] * share[:, None]
    return rows[:, cell] * (1 - share) + rows[:, cell + 1] * share


def _muted(random: np.random.RandomState) -> Colour:
    grey = random.uniform(50, 205)
    red, green, blue = grey + random.uniform(-22, 22, 3)
    return float(red), float(green), float(blue)


def _jitter(random: np.random.RandomState, colour: Colour, by: float) -> Colour:
    red, green, blue = np.array(colour) + random.uniform(-by, by, 3)
    return float(red), float(green), float(blue)


def _between(joints: Floats, a: int, b: int, ra: float, rb: float, colour: Colour) -> Part:
    return Part(_point(joints[a]), _point(joints[b]), ra, rb, colour, (a, b))


def _range(a: float, b: float, reach: float) -> tuple[int, int]:
    return max(0, math.floor(min(a, b) - reach)), min(SIDE, math.ceil(max(a, b) + reach) + 1)


def _point(values: Floats) -> Point:
    return float(values[0]), float(values[1])


DATASET = DataSet(
    name="synthetic",
    summary="drawn figures on textured backgrounds; needs no files",
    read=read,
    options={"examples": 512, "seed": 0},
    generated=True,
)
