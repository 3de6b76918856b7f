"""Data sets: what is read, how it is padded, cropped and dropped, and what becomes of bad files."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.io
from commands import Sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep import datasets
from sweep.datasets import matlab, preparation, store, synthetic
from sweep.datasets.dataset import FLIP_PAIRS, JOINT_NAMES
from sweep.datasets.files import open_files
from sweep.datasets.photographs import Photographs
from sweep.datasets.sheet import LEFT, RIGHT, Tile, posed, sheet
from sweep.errors import SweepError
from sweep.node import provision

REAL = Path(
    os.environ.get("SWEEP_LSPET_DIR", Path(__file__).resolve().parents[2] / "shared" / "lspet")
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LSP", "LSPET", "LSP_LSPET", "MPII", "FLIC"):
        monkeypatch.delenv(f"SWEEP_{name}_DIR", raising=False)
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def person(x: float = 40, y: float = 30) -> np.ndarray:
    """Joints of somebody about 60 × 120 pixels large, whose upper left is at (x, y)."""
    random = np.random.RandomState(0)
    return np.array([x, y]) + random.random_sample((14, 2)) * [60, 120]


def write_leeds(
    folder: Path,
    joints: np.ndarray,
    visible: np.ndarray,
    sizes: list[tuple[int, int]],
    digits: int = 5,
) -> Path:
    """A folder in the layout of LSPET (five digits) or LSP (four), its images lossless."""
    (folder / "images").mkdir(parents=True)
    for i, size in enumerate(sizes, 1):
        pixels = np.random.RandomState(i).randint(1, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"im{i:0{digits}d}.jpg", "PNG")
    stacked = np.concatenate([joints, visible[..., None]], axis=2)  # (N, 14, 3)
    scipy.io.savemat(
        folder / "joints.mat",
        {"joints": stacked.transpose((1, 2, 0) if digits == 5 else (2, 1, 0))},
    )
    return folder


@pytest.fixture
def leeds(tmp_path: Path) -> Path:
    """Four people in images of different sizes, all of them visible but for one joint."""
    joints = np.stack([person(), person(150, 90), person(10, 10), person(5, 5)])
    visible = np.ones((4, 14))
    visible[0, 3] = 0
    return write_leeds(
        tmp_path / "leeds", joints, visible, [(180, 200), (400, 300), (256, 256), (300, 140)]
    )


def zipped(folder: Path, inside: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(inside, file.relative_to(folder)))
    return path


def arrays(prepared: datasets.Prepared) -> SimpleNamespace:
    names = ("images", "joints", "visible", "split")
    return SimpleNamespace(**{name: np.load(prepared.folder / f"{name}.npy") for name in names})


# padding, cropping, dropping


def by_hand(
    image: np.ndarray, joints: np.ndarray, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The study's preparation step by step: pad the whole image, then cut the crop out."""
    height, width = image.shape[:2]
    left, top = max(0, 256 - width) // 2, max(0, 256 - height) // 2
    right, bottom = max(0, 256 - width) - left, max(0, 256 - height) - top
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    moved = joints + np.array([left, top])
    centre = (moved[visible].min(axis=0) + moved[visible].max(axis=0)) / 2
    x = min(max(0, int(centre[0] - 128)), padded.shape[1] - 256)
    y = min(max(0, int(centre[1] - 128)), padded.shape[0] - 256)
    return padded[y : y + 256, x : x + 256], moved - [x, y]


@settings(deadline=None)
@given(st.integers(40, 600), st.integers(40, 600), st.integers(0, 2**32 - 1))
def test_an_image_of_any_size_is_padded_and_cropped_as_in_the_study(
    width: int, height: int, seed: int
) -> None:
    random = np.random.RandomState(seed)
    image = random.randint(1, 256, (height, width, 3)).astype(np.uint8)
    joints = (
        random.random_sample((14, 2)) * np.minimum([width, height], 200)
        + random.random_sample(2) * 30
    )
    visible = random.random_sample(14) < 0.8
    visible[random.randint(14)] = True
    placement = preparation.placement_of((width, height), joints, visible)
    pixels, moved = by_hand(image, joints, visible)
    inside = ((moved[visible] >= 0) & (moved[visible] < 256)).all()
    assert isinstance(placement, preparation.Placement) == bool(inside)
    if isinstance(placement, preparation.Placement):
        np.testing.assert_array_equal(preparation.crop(image, placement.corner)[0], pixels)
        np.testing.assert_allclose(placement.joints, moved)


def test_padding_is_zero_and_even_on_both_sides() -> None:
    image = np.full((100, 201, 3), 9, np.uint8)
    placement = preparation.placement_of((201, 100), person(70, 0) * [1, 0.5], np.ones(14, bool))
    assert isinstance(placement, preparation.Placement)
    whole, inside = preparation.crop(image, placement.corner)
    rows, columns = np.flatnonzero(whole.any(axis=(1, 2))), np.flatnonzero(whole.any(axis=(0, 2)))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (78, 177, 27, 227)
    assert inside.shape == image.shape


def test_a_visible_joint_outside_the_image_drops_the_example() -> None:
    joints = person()
    joints[5] = [-1, 50]
    everything = np.ones(14, bool)
    assert preparation.placement_of((300, 300), joints, everything) == preparation.JOINT_OUTSIDE
    everything[5] = False
    assert isinstance(
        preparation.placement_of((300, 300), joints, everything), preparation.Placement
    )


@pytest.mark.parametrize(("extent", "kept"), [(226.9, True), (227, False)])
def test_joints_over_227_pixels_drop_the_example(extent: float, kept: bool) -> None:
    joints = np.clip(person(100, 100), 100, 200)
    joints[0], joints[1] = [20, 150], [20 + extent, 150]
    placement = preparation.placement_of((500, 500), joints, np.ones(14, bool))
    assert placement == preparation.TOO_LARGE or (
        kept and isinstance(placement, preparation.Placement)
    )


def test_dropped_examples_are_counted_by_reason(leeds: Path) -> None:
    joints = np.stack([person(), person(), person(y=530), person() * 3])
    visible = np.ones((4, 14))
    visible[1] = 0
    folder = write_leeds(leeds.parent / "dropped", joints, visible, [(300, 300)] * 3 + [(900, 900)])
    prepared = datasets.prepare("lspet", folder)
    assert prepared.examples == 1
    assert prepared.meta()["dropped"] == {
        preparation.NO_VISIBLE_JOINT: 1,
        preparation.JOINT_OUTSIDE: 1,
        preparation.TOO_LARGE: 1,
    }


# Leeds Sports Pose


def test_both_layouts_of_joints_say_the_same(tmp_path: Path, leeds: Path) -> None:
    joints = np.stack([person(), person(20, 20)])
    visible = np.random.RandomState(1).random_sample((2, 14)) < 0.6
    sizes = [(256, 256), (200, 300)]
    extended = datasets.prepare(
        "lspet", write_leeds(tmp_path / "a", joints, visible.astype(float), sizes)
    )
    original = datasets.prepare(
        "lsp", write_leeds(tmp_path / "b", joints, 1.0 - visible, sizes, digits=4)
    )
    for name in ("images", "joints", "visible"):
        np.testing.assert_array_equal(
            getattr(arrays(extended), name), getattr(arrays(original), name)
        )
    np.testing.assert_array_equal(arrays(extended).visible, visible)
    assert extended.meta()["locates_invisible"] is False
    assert original.meta()["locates_invisible"] is True


def test_both_leeds_sets_together_come_one_after_the_other(tmp_path: Path) -> None:
    joints, sizes = np.stack([person(), person(10, 10)]), [(256, 256), (300, 300)]
    occluded, visible = np.zeros((2, 14)), np.ones((2, 14))
    occluded[0, 2], visible[1, 5] = 1, 0
    zipped(write_leeds(tmp_path / "lsp_dataset", joints, occluded, sizes, digits=4))
    write_leeds(tmp_path / "lspet", joints, visible, sizes)
    both = arrays(together := datasets.prepare("lsp_lspet", tmp_path))
    apart = [
        arrays(datasets.prepare("lsp", tmp_path / "lsp_dataset")),
        arrays(datasets.prepare("lspet", tmp_path / "lspet")),
    ]
    for name in ("images", "joints", "visible", "split"):
        np.testing.assert_array_equal(
            getattr(both, name), np.concatenate([getattr(each, name) for each in apart])
        )
    assert (both.visible[0, 2], both.visible[3, 5]) == (0, 0)
    assert not together.meta()["locates_invisible"]
    (tmp_path / "lspet").rename(tmp_path / "elsewhere")
    with pytest.raises(SweepError, match=r"holds no lspet_dataset\.zip") as raised:
        datasets.prepare("lsp_lspet", tmp_path)
    assert "sweep data fetch lsp and lspet" in raised.value.hint


def test_arrays_have_the_shapes_and_types_workers_expect(leeds: Path) -> None:
    prepared = datasets.prepare("lspet", leeds)
    found = arrays(prepared)
    assert (found.images.shape, found.images.dtype) == ((4, 256, 256, 3), np.uint8)
    assert (found.joints.shape, found.joints.dtype) == ((4, 14, 2), np.float32)
    assert (found.visible.shape, found.visible.dtype) == ((4, 14), np.uint8)
    assert (prepared.folder / "names.txt").read_text().split() == [
        f"im{i:05d}.jpg" for i in range(1, 5)
    ]
    meta = prepared.meta()
    assert meta["id"] == prepared.id == prepared.folder.name
    assert meta["joint_names"] == list(JOINT_NAMES)
    assert meta["flip_pairs"] == [list(pair) for pair in FLIP_PAIRS]


def test_flip_pairs_join_the_right_joint_to_its_left() -> None:
    for right, left in FLIP_PAIRS:
        assert JOINT_NAMES[right].replace("right", "left") == JOINT_NAMES[left]


def test_images_after_the_thousandth_of_lsp_are_for_testing(tmp_path: Path) -> None:
    count = 1002
    folder = write_leeds(
        tmp_path / "lsp", np.stack([person()] * 3), np.zeros((3, 14)), [(120, 160)] * 3, digits=4
    )
    stacked = np.zeros((3, 14, count))
    stacked[:2] = person().T[..., None]
    scipy.io.savemat(folder / "joints.mat", {"joints": stacked})
    for i in range(4, count + 1):
        (folder / "images" / f"im{i:04d}.jpg").hardlink_to(folder / "images" / "im0001.jpg")
    prepared = datasets.prepare("lsp", folder)
    assert (prepared.meta()["train"], prepared.meta()["test"]) == (1000, 2)
    np.testing.assert_array_equal(arrays(prepared).split, [0] * 1000 + [1] * 2)


def test_a_folder_and_an_archive_of_it_are_the_same_data_set(leeds: Path) -> None:
    from_folder = datasets.prepare("lspet", leeds)
    assert datasets.prepare("lspet", zipped(leeds)) == from_folder
    assert datasets.prepare("lspet", zipped(leeds, "lspet_dataset")) == from_folder


def test_a_changed_image_is_another_data_set(leeds: Path) -> None:
    before = datasets.prepare("lspet", leeds)
    image = leeds / "images" / "im00002.jpg"
    Image.new("RGB", (400, 300), (1, 2, 3)).save(image, "PNG")
    after = datasets.prepare("lspet", leeds)
    assert after.id != before.id
    assert (arrays(after).images[1] == [1, 2, 3]).all()


def test_colour_axes_are_those_of_the_photographs_without_their_padding(leeds: Path) -> None:
    prepared = datasets.prepare("lspet", leeds)
    images = arrays(prepared).images
    pixels = (
        images.reshape(-1, 3)[images.reshape(-1, 3).any(axis=1)] / 255
    )  # photographs hold no zero
    colour = prepared.meta()["colour"]
    values, vectors = np.array(colour["eigenvalues"]), np.array(colour["eigenvectors"])
    np.testing.assert_allclose(colour["mean"], pixels.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        vectors.T @ np.diag(values) @ vectors, np.cov(pixels.T, bias=True), atol=1e-9
    )
    assert list(values) == sorted(values, reverse=True)


@pytest.mark.skipif(
    not REAL.is_dir(), reason="SWEEP_LSPET_DIR names no folder with the real photographs"
)
def test_real_photographs_are_prepared(tmp_path: Path) -> None:
    prepared = datasets.prepare("lspet", REAL)
    found = arrays(prepared)
    meta = prepared.meta()
    raw = scipy.io.loadmat(REAL / "joints.mat")["joints"]
    assert prepared.examples + sum(meta["dropped"].values()) == raw.shape[2]
    seen = found.visible != 0
    assert ((found.joints[seen] >= 0) & (found.joints[seen] < 256)).all()
    name = (prepared.folder / "names.txt").read_text().split()[5]
    original = np.asarray(Image.open(REAL / "images" / name).convert("RGB"))
    number = int(name[2:7]) - 1
    pixels, joints = by_hand(original, raw[:, :2, number], raw[:, 2, number] != 0)
    np.testing.assert_array_equal(found.images[5], pixels)
    np.testing.assert_allclose(found.joints[5], joints, atol=1e-4)


# the store


def test_preparing_twice_makes_the_arrays_once(leeds: Path) -> None:
    first = datasets.prepare("lspet", leeds)
    stamp = (first.folder / "images.npy").stat().st_mtime_ns
    assert datasets.prepare("lspet", leeds) == first
    assert (first.folder / "images.npy").stat().st_mtime_ns == stamp


def test_processes_that_prepare_at_once_get_the_same_whole_arrays(leeds: Path, cache: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(datasets.prepare, ["lspet"] * 3, [leeds] * 3))
    assert len(set(found)) == 1
    assert [path.name for path in cache.glob("*/images.npy")] == ["images.npy"]


def test_a_preparation_that_fails_leaves_nothing(leeds: Path, cache: Path) -> None:
    (leeds / "images" / "im00004.jpg").write_bytes(
        (leeds / "images" / "im00004.jpg").read_bytes()[:500]
    )
    with pytest.raises(SweepError, match=r"im00004\.jpg cannot be decoded"):
        datasets.prepare("lspet", leeds)
    assert store.everything() == []
    assert not [path for path in cache.iterdir() if path.name.startswith((".lspet", "lspet"))]


def test_what_a_killed_preparation_left_is_cleared_away(leeds: Path, cache: Path) -> None:
    prepared = datasets.prepare("lspet", leeds)
    left = prepared.folder.rename(cache / f".{prepared.id}.killed")
    assert datasets.prepare("lspet", leeds) == prepared
    assert not left.exists()


def test_damaged_arrays_are_made_anew(leeds: Path) -> None:
    prepared = datasets.prepare("lspet", leeds)
    whole = (prepared.folder / "images.npy").read_bytes()
    (prepared.folder / "images.npy").write_bytes(whole[:1000])
    assert store.everything("lspet") == []
    again = datasets.prepare("lspet", leeds)
    assert (again.folder / "images.npy").read_bytes() == whole


def _prepare_within(limit: int, folder: Path) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        return datasets.prepare("lspet", folder).id
    except SweepError as error:
        return f"{error.message} / {error.hint}"


def test_a_disk_without_room_is_an_error_before_any_image_is_written(
    leeds: Path, cache: Path
) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        said = pool.submit(_prepare_within, 300_000, leeds).result()
    assert "are not to be had in" in said
    assert "SWEEP_DATA_DIR" in said
    assert store.everything() == []


def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(SweepError, match="cannot be written"):
        datasets.prepare("synthetic", examples=1)


# where the files are


def test_the_variable_names_the_folder(leeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_LSPET_DIR", str(leeds))
    assert datasets.prepare("lspet").meta()["source"] == str(leeds)


def test_without_a_path_the_newest_prepared_is_used(leeds: Path) -> None:
    datasets.prepare("lspet", leeds)
    (leeds / "images" / "im00001.jpg").write_bytes((leeds / "images" / "im00002.jpg").read_bytes())
    newest = datasets.prepare("lspet", leeds)
    assert datasets.prepare("lspet") == newest


def test_without_a_path_a_fetched_archive_is_used(leeds: Path, cache: Path) -> None:
    (cache / "archives").mkdir(parents=True)
    zipped(leeds).rename(cache / "archives" / "lspet_dataset.zip")
    assert datasets.prepare("lspet").examples == 4


def test_without_anything_the_error_says_which_commands_help() -> None:
    with pytest.raises(SweepError, match="lsp is not prepared") as caught:
        datasets.prepare("lsp")
    assert "sweep data fetch lsp" in caught.value.hint
    assert "sweep data prepare lsp --path" in caught.value.hint


def test_a_misspelt_name_or_option_gets_the_nearest() -> None:
    with pytest.raises(SweepError) as caught:
        datasets.prepare("lspte")
    assert "lspet" in caught.value.hint
    with pytest.raises(SweepError) as caught:
        datasets.prepare("synthetic", exmples=3)
    assert "examples" in caught.value.hint
    with pytest.raises(SweepError, match=r"option examples .* is '3'"):
        datasets.prepare("synthetic", examples="3")


def test_a_plug_in_of_another_package_is_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dots.py").write_text(
        "from sweep.datasets import DataSet\n"
        "from sweep.datasets.synthetic import Figures\n"
        "DATASET = DataSet('dots', 'two figures', lambda: Figures(2, 9), generated=True)\n"
    )
    info = tmp_path / "dots-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dots\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sweep.datasets]\ndots = dots\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert datasets.prepare("dots").examples == 2


def test_a_plug_in_s_data_are_prepared_anew_when_its_code_changes(tmp_path: Path) -> None:
    """In processes of their own, as commands are."""
    package, info = tmp_path / "dots", tmp_path / "dots-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(
        "from sweep.datasets import DataSet\n"
        "from dots.made import read\n"
        "DATASET = DataSet('dots', 'two figures', read, generated=True)\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dots\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sweep.datasets]\ndots = dots\n")
    ask = "from sweep import datasets; print(datasets.prepare('dots').id)"
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "SWEEP_DATA_DIR": str(tmp_path / "data"),
    }
    found = []
    for comment in ("", "", "# drawn otherwise\n"):
        text = f"{comment}from sweep.datasets.synthetic import Figures\ndef read():\n    return Figures(2, 9)\n"
        (package / "made.py").write_text(text)
        said = subprocess.run(
            [sys.executable, "-c", ask], env=environment, capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        found.append(said.stdout)

    assert found[0] == found[1] != found[2]


# bad files: one error each, naming the file


def _remove(folder: Path) -> None:
    (folder / "images" / "im00003.jpg").unlink()


def _truncate(folder: Path) -> None:
    path = folder / "images" / "im00003.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty_image(folder: Path) -> None:
    (folder / "images" / "im00003.jpg").write_bytes(b"")


def _text_image(folder: Path) -> None:
    (folder / "images" / "im00003.jpg").write_text("<html>not found</html>")


def _no_joints(folder: Path) -> None:
    (folder / "joints.mat").unlink()


def _not_a_mat(folder: Path) -> None:
    (folder / "joints.mat").write_bytes(b"\x89PNG not a mat file at all" * 20)


def _empty_mat(folder: Path) -> None:
    (folder / "joints.mat").write_bytes(b"")


def _truncated_mat(folder: Path) -> None:
    (folder / "joints.mat").write_bytes((folder / "joints.mat").read_bytes()[:700])


def _save(folder: Path, change: Callable[[np.ndarray], Any], name: str = "joints") -> None:
    joints = scipy.io.loadmat(folder / "joints.mat")["joints"]
    changed = change(joints)
    scipy.io.savemat(folder / "joints.mat", {name: joints if changed is None else changed})


def _other_variable(folder: Path) -> None:
    _save(folder, lambda joints: None, "points")


def _other_shape(folder: Path) -> None:
    _save(folder, lambda joints: joints[:13])


def _flat(folder: Path) -> None:
    _save(folder, lambda joints: joints[..., 0])


def _texts(folder: Path) -> None:
    _save(folder, lambda joints: np.full((14, 3, 4), "a", object))


def _none(folder: Path) -> None:
    _save(folder, lambda joints: joints[..., :0])


def _all_invisible(folder: Path) -> None:
    def hide(joints: np.ndarray) -> None:
        joints[:, 2] = 0

    _save(folder, hide)


def _not_a_number(folder: Path) -> None:
    def spoil(joints: np.ndarray) -> None:
        joints[4, 1, 2] = np.nan

    _save(folder, spoil)


def _infinite(folder: Path) -> None:
    def spoil(joints: np.ndarray) -> None:
        joints[13, 0, 1] = np.inf

    _save(folder, spoil)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_remove, r"images/im00003\.jpg.* is missing"),
        (_truncate, r"images/im00003\.jpg.* cannot be decoded"),
        (_empty_image, r"images/im00003\.jpg.* cannot be decoded"),
        (_text_image, r"images/im00003\.jpg.* cannot be decoded: it is no JPEG or PNG image"),
        (_no_joints, r"holds no joints\.mat"),
        (_not_a_mat, r"joints\.mat.* is no readable \.mat file"),
        (_empty_mat, r"joints\.mat.* is no readable \.mat file"),
        (_truncated_mat, r"joints\.mat.* is no readable \.mat file"),
        (_other_variable, r"joints\.mat.* has no variable 'joints'"),
        (_other_shape, r"joints\.mat.* has shape 13×3×4"),
        (_flat, r"joints\.mat.* has shape 14×3"),
        (_texts, r"joints\.mat.* holds no numbers"),
        (_none, r"joints\.mat.* (is empty|has shape)"),
        (_all_invisible, r"no example of .*joints\.mat.* can be used \(4 × no visible joint\)"),
        (_not_a_number, r"y of the left knee in example 3 is nan in .*joints\.mat"),
        (_infinite, r"x of the head top in example 2 is inf in .*joints\.mat"),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_a_bad_file_is_one_error_that_names_it(
    spoil: Callable[[Path], None], said: str, archived: bool, leeds: Path
) -> None:
    spoil(leeds)
    with pytest.raises(SweepError, match=said) as caught:
        datasets.prepare("lspet", zipped(leeds) if archived else leeds)
    assert caught.value.hint


def test_a_joints_file_with_any_damage_is_no_crash(leeds: Path) -> None:
    whole = (leeds / "joints.mat").read_bytes()
    for seed in range(150):
        random = np.random.RandomState(seed)
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 12)):
            damaged[random.randint(min(len(damaged), 400))] = random.randint(256)
        (leeds / "joints.mat").write_bytes(damaged)
        with contextlib.suppress(SweepError):
            assert len(datasets.get("lspet").read(leeds).examples) == 4


def _texts_and_numbers() -> dict[str, Any]:
    random = np.random.RandomState(3)
    numbers = {
        f"a_{kind}": (random.random_sample((3, 1, 4)) * 90).astype(kind)
        for kind in ("u1", "i2", "i8", "f4", "f8")
    }
    nested = structures(
        [{"x": 1.0, "name": "first"}, {"x": 2.0, "inner": structures([{"y": np.arange(5.0)}])}]
    )
    return {
        **numbers,
        "text": "fünf",
        "none": np.empty((0, 0)),
        "nested": nested,
        "flag": np.array([True, False]),
    }


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_files_are_read_as_they_were_written(packed: bool, tmp_path: Path) -> None:
    values = _texts_and_numbers()
    scipy.io.savemat(tmp_path / "all.mat", values, do_compression=packed)
    files = open_files(tmp_path)
    for name, value in values.items():
        found = matlab.variable(files, "all.mat", name)
        if name == "nested":
            assert [
                (record["x"].item(), record["name"] if i == 0 else None)
                for i, record in enumerate(found)
            ] == [
                (1, "first"),
                (2, None),
            ]
            np.testing.assert_array_equal(found[1]["inner"][0]["y"], [np.arange(5)])
        elif isinstance(value, str):
            assert found == value
        else:
            np.testing.assert_array_equal(found.ravel(), value.ravel())


def test_a_matlab_file_of_version_73_says_how_to_save_it(leeds: Path) -> None:
    (leeds / "joints.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n")
    with pytest.raises(SweepError, match=r"MATLAB 7\.3") as caught:
        datasets.prepare("lspet", leeds)
    assert "-v7" in caught.value.hint


def test_a_matlab_variable_that_unpacks_without_end_is_refused(
    leeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "MAX_BYTES", 1000)
    joints = scipy.io.loadmat(leeds / "joints.mat")["joints"]
    scipy.io.savemat(leeds / "joints.mat", {"joints": joints}, do_compression=True)
    with pytest.raises(
        SweepError, match=r"joints\.mat is no readable .mat file: a variable is larger"
    ):
        datasets.prepare("lspet", leeds)


def test_images_may_be_a_link_even_one_in_a_circle(leeds: Path) -> None:
    before = datasets.prepare("lspet", leeds)
    moved = (leeds / "images").rename(leeds.parent / "elsewhere")
    (leeds / "images").symlink_to(moved)
    (moved / "back").symlink_to(leeds)
    assert datasets.prepare("lspet", leeds) == before


def test_an_empty_folder_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SweepError, match=r"empty holds no joints\.mat"):
        datasets.prepare("lspet", tmp_path / "empty")
    with pytest.raises(SweepError, match="nowhere does not exist"):
        datasets.prepare("lspet", tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("<html>")
    with pytest.raises(SweepError, match=r"text\.zip is neither a folder nor a zip"):
        datasets.prepare("lspet", tmp_path / "text.zip")


def test_too_few_examples_are_an_error_with_both_numbers(leeds: Path) -> None:
    with pytest.raises(SweepError, match="holds 4 examples and 32 are needed"):
        datasets.prepare("lspet", leeds, at_least=32)


@pytest.mark.parametrize(
    "name", ["../joints.mat", "/etc/joints.mat", "a/../../b", "C:\\joints.mat", "..\\b"]
)
def test_an_archive_that_points_outside_itself_is_refused(name: str, leeds: Path) -> None:
    path = zipped(leeds)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(SweepError, match=r"leeds\.zip names a file outside itself"):
        datasets.prepare("lspet", path)


def test_a_bomb_in_an_archive_is_refused(leeds: Path) -> None:
    (leeds / "joints.mat").unlink()
    path = zipped(leeds)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("joints.mat", "w") as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    with pytest.raises(SweepError, match=r"joints\.mat in .*leeds\.zip is larger than 256 MiB"):
        datasets.prepare("lspet", path)


def test_a_damaged_member_of_an_archive_is_named(leeds: Path) -> None:
    path = zipped(leeds)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("images/im00002.jpg").header_offset
    content[start + 2000 : start + 2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(SweepError, match=r"im00002\.jpg in .*leeds\.zip cannot be"):
        datasets.prepare("lspet", path)


def test_an_image_of_too_many_pixels_is_refused_undecoded(leeds: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(leeds / "images" / "im00001.jpg", "PNG")
    with pytest.raises(SweepError, match=r"im00001\.jpg cannot be decoded"):
        datasets.prepare("lspet", leeds)


@pytest.mark.parametrize(
    "kind", ["device", "pipe", "pipe among the files", "link to nothing", "directory for a file"]
)
def test_what_is_no_file_is_refused_at_once(leeds: Path, tmp_path: Path, kind: str) -> None:
    path, image = leeds, leeds / "images" / "im00001.jpg"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    else:
        image.unlink()
        if kind == "pipe among the files":
            os.mkfifo(image)
        elif kind == "link to nothing":
            image.symlink_to(tmp_path / "nothing")
        else:
            image.mkdir()
    with pytest.raises(
        SweepError, match=r"neither a folder nor a zip archive|im00001\.jpg (is|cannot)"
    ):
        datasets.prepare("lspet", path)


def test_names_that_are_no_text_and_links_to_nothing_beside_the_files_do_no_harm(
    leeds: Path,
) -> None:
    expected = datasets.prepare("lspet", leeds).id
    Path(os.fsdecode(os.fsencode(leeds) + b"/images/\xff\xfe.jpg")).write_bytes(b"")
    (leeds / "images" / "broken.jpg").symlink_to(leeds / "nothing")
    assert datasets.prepare("lspet", leeds).id == expected


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("place", ["header", "start", "middle"])
def test_a_damaged_member_is_named_however_it_is_packed(
    leeds: Path, compression: int, place: str
) -> None:
    path = leeds.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(leeds.rglob("*")):
            archive.write(file, file.relative_to(leeds))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("images/im00002.jpg")
    content = bytearray(path.read_bytes())
    data = member.header_offset + 30 + len(member.filename)
    at = {
        "header": member.header_offset,
        "start": data,
        "middle": data + member.compress_size // 2,
    }[place]
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(SweepError, match=r"im00002\.jpg in .*leeds\.zip cannot be"):
        datasets.prepare("lspet", path)


def test_joints_of_more_examples_than_any_data_set_has_are_refused_before_they_are_converted(
    leeds: Path,
) -> None:
    scipy.io.savemat(leeds / "joints.mat", {"joints": np.zeros((14, 3, 200_001), np.int8)})
    with pytest.raises(SweepError, match="200,001 examples"):
        datasets.prepare("lspet", leeds)


@pytest.mark.parametrize("scale", [0.005, 1e-9, 1e-200, 1e-320])
def test_an_image_that_would_become_too_large_is_refused_undecoded(
    tmp_path: Path, scale: float
) -> None:
    folder = write_mpii(
        tmp_path / "mpii", [{"id": 0, "x": 600.0, "y": 300.0, "is_visible": 1.0}], scale
    )
    with pytest.raises(SweepError, match=r"a\.jpg person 1 would be .* times as large"):
        datasets.prepare("mpii", folder)


def test_large_images_are_decoded_one_after_another(
    leeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, decode = [0], [0], Photographs.image

    def counted(self: Photographs, index: int) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.05)  # long enough for the other threads to come
        at_once[0] -= 1
        return decode(self, index)

    monkeypatch.setattr(preparation, "_CHUNK", 1)
    monkeypatch.setattr(preparation, "_LARGE_PIXELS", 10_000)
    monkeypatch.setattr(Photographs, "image", counted)
    datasets.prepare("lspet", leeds)
    assert most == [1]


def test_grey_and_palette_images_become_rgb(leeds: Path) -> None:
    Image.new("L", (180, 200), 77).save(leeds / "images" / "im00001.jpg", "PNG")
    Image.new("P", (400, 300)).save(leeds / "images" / "im00002.jpg", "PNG")
    found = arrays(datasets.prepare("lspet", leeds)).images
    assert set(np.unique(found[0])) == {0, 77}


# synthetic


def test_synthetic_figures_are_the_same_bytes_everywhere() -> None:
    prepared = datasets.prepare("synthetic", examples=20)
    assert (
        prepared.meta()["pixels_sha256"]
        == "4acb00ce7866525f6653bbc0e6289ae449445fab83552940dd202629e672f826"
    )


def test_a_synthetic_example_depends_on_its_seed_and_number_alone() -> None:
    few, many = (
        arrays(datasets.prepare("synthetic", examples=3)),
        arrays(datasets.prepare("synthetic", examples=6)),
    )
    other = arrays(datasets.prepare("synthetic", examples=3, seed=1))
    np.testing.assert_array_equal(few.images, many.images[:3])
    np.testing.assert_array_equal(few.joints, many.joints[:3])
    assert (few.joints != other.joints).any()


def test_synthetic_joints_lie_inside_and_some_are_invisible() -> None:
    figures = synthetic.read(examples=300, seed=5)
    joints = np.stack([example.joints for example in figures.examples])
    visible = np.stack([example.visible for example in figures.examples])
    assert (joints >= 0).all()
    assert (joints < 256).all()
    assert ((joints.max(axis=1) - joints.min(axis=1)) < 227).all()
    assert 0.7 < visible.mean() < 0.97
    assert visible.any(axis=1).all()


def test_the_right_ankle_is_warm_and_the_left_cool_wherever_they_are_seen() -> None:
    figures = synthetic.read(examples=60, seed=0)
    for i, example in enumerate(figures.examples):
        image = figures.image(i).astype(int)
        for joint, warm in ((0, True), (5, False)):
            x, y = example.joints[joint].astype(int)
            red, _, blue = image[y, x]
            assert not example.visible[joint] or (red > blue) == warm


def test_synthetic_refuses_a_path_and_impossible_sizes() -> None:
    with pytest.raises(SweepError, match="reads no files"):
        datasets.prepare("synthetic", "somewhere")
    with pytest.raises(SweepError, match="0 synthetic examples"):
        datasets.prepare("synthetic", examples=0)
    with pytest.raises(SweepError, match="seed -1"):
        datasets.prepare("synthetic", seed=-1)


# MPII and FLIC


def structures(records: list[dict[str, Any]]) -> np.ndarray:
    """A structure array as MATLAB writes one: every record has every field, empty where it says nothing."""
    fields = list(dict.fromkeys(field for record in records for field in record))
    array = np.empty((1, len(records)), [(field, object) for field in fields])
    for i, record in enumerate(records):
        for field in fields:
            array[0, i][field] = record.get(field, np.empty((0, 0)))
    return array


def write_mpii(folder: Path, points: list[dict[str, Any]], scale: float = 1.5) -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (1280, 720), (10, 90, 200)).save(folder / "images" / "a.jpg")
    people = [{"scale": scale, "annopoints": {"point": structures(points)}}, {"x1": 4.0}]
    annotated = {"image": {"name": "a.jpg"}, "annorect": structures(people)}
    withheld = {"image": {"name": "b.jpg"}, "annorect": structures([{"scale": 1.0}])}
    release = {"annolist": structures([annotated, withheld]), "img_train": np.array([1, 0])}
    scipy.io.savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    return folder


def test_mpii_people_are_read_in_our_joints_and_size(tmp_path: Path) -> None:
    points = [
        {"id": i, "x": 500.0 + 10 * i, "y": 300.0 + 5 * i, "is_visible": "1"}
        for i in range(16)
        if i != 4
    ]
    points[0]["is_visible"] = 0
    del points[9]["is_visible"]
    prepared = datasets.prepare("mpii", write_mpii(tmp_path / "mpii", points))
    found = arrays(prepared)
    assert prepared.examples == 1
    assert list(np.flatnonzero(found.visible[0] == 0)) == [0, 4]  # hidden, and not annotated
    np.testing.assert_allclose(
        found.joints[0, 13] - found.joints[0, 1], np.array([80, 40]) / 2, atol=0.1
    )
    np.testing.assert_allclose(
        found.joints[0, 6] - found.joints[0, 1], np.array([90, 45]) / 2, atol=0.1
    )


def test_mpii_without_its_layout_or_images_is_an_error(tmp_path: Path) -> None:
    folder = write_mpii(tmp_path / "mpii", [{"id": 0, "x": 600.0, "y": 300.0, "is_visible": 1.0}])
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(SweepError, match=r"images/a\.jpg is missing"):
        datasets.prepare("mpii", folder)
    scipy.io.savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": {"other": 1}})
    with pytest.raises(SweepError, match="is not laid out as MPII's"):
        datasets.prepare("mpii", folder)


@pytest.mark.parametrize(
    "annotation",
    [
        "mpii_human_pose_v1_u12_2",
        "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_2",
        "annotations",
    ],
)
@pytest.mark.parametrize("images", ["images", "mpii_human_pose_v1/images"])
def test_mpii_is_found_where_its_two_archives_unpack(
    tmp_path: Path, annotation: str, images: str
) -> None:
    points = [{"id": 0, "x": 600.0, "y": 300.0, "is_visible": 1.0}]
    folder = write_mpii(tmp_path / "flat", points)
    expected = datasets.prepare("mpii", folder)
    unpacked = tmp_path / "unpacked"
    for place, name in (
        (annotation, "mpii_human_pose_v1_u12_1.mat"),
        (Path(images).parent, "images"),
    ):
        (unpacked / place).mkdir(parents=True, exist_ok=True)
        (folder / name).rename(unpacked / place / name)
    (unpacked / annotation / "images").mkdir()  # pages of its documentation, say
    (unpacked / annotation / "images" / "logo.jpg").write_bytes(b"")

    assert datasets.prepare("mpii", unpacked).id == expected.id


def test_leeds_images_are_found_away_from_their_joints(tmp_path: Path, leeds: Path) -> None:
    expected = datasets.prepare("lspet", leeds)
    (leeds / "annotations").mkdir()
    (leeds / "joints.mat").rename(leeds / "annotations" / "joints.mat")

    assert datasets.prepare("lspet", leeds).id == expected.id


def test_images_that_are_nowhere_are_missed_beside_the_annotation(leeds: Path) -> None:
    (leeds / "images").rename(leeds / "pictures")

    with pytest.raises(
        SweepError, match=r"/images/im00001\.jpg is missing, with 4 of 4 images"
    ) as raised:
        datasets.prepare("lspet", leeds)
    assert "give the folder that holds both" in raised.value.hint


def test_frames_of_flic_full_in_neither_split_are_no_test_examples(tmp_path: Path) -> None:
    flags = {
        "train": {"istrain": 1, "istest": 0},
        "test": {"istrain": 0, "istest": 1},
        "neither": {"istrain": 0, "istest": 0},
        "bad": {"istrain": 1, "istest": 0, "isbad": 1, "torsobox": [1.0, 1.0, 1.0, 1.0]},
        "unchecked": {"istrain": 0, "istest": 1, "isunchecked": 1},
    }
    frames = {name: {"isbad": 0, "isunchecked": 0} | each for name, each in flags.items()}

    prepared = datasets.prepare("flic", write_flic(tmp_path / "FLIC-full", frames))

    assert (prepared.folder / "names.txt").read_text().split() == ["train.jpg", "test.jpg"]
    np.testing.assert_array_equal(arrays(prepared).split, [0, 1])
    meta = prepared.meta()
    assert meta["dropped"] == {}
    assert meta["left_out"] == {
        "in neither of the published splits": 1,
        "marked as bad by its annotators": 1,
        "not checked by its annotators": 1,
    }
    assert prepared.warning() == ""  # its publishers did it


def test_what_an_older_reader_prepared_is_not_used_any_more(tmp_path: Path) -> None:
    folder = write_flic(tmp_path / "flic", {"a": {"istrain": 1}})
    prepared = datasets.prepare("flic", folder)
    assert datasets.prepare("flic").id == prepared.id
    meta = prepared.folder / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": 1}))

    with pytest.raises(SweepError, match="data set flic is not prepared"):
        datasets.prepare("flic")


@pytest.mark.parametrize(("large", "is_warned"), [(0, False), (2, False), (3, True), (19, True)])
def test_more_than_a_tenth_dropped_is_said_with_the_reasons(
    tmp_path: Path, large: int, is_warned: bool
) -> None:
    joints = np.stack([person() * (3 if i < large else 1) for i in range(20)])
    folder = write_leeds(tmp_path / "lsp", joints, np.ones((20, 14)), [(400, 600)] * 20)

    warning = datasets.prepare("lspet", folder).warning()

    assert bool(warning) is is_warned
    if is_warned:
        assert (
            f"{large} of 20 examples are dropped ({large}: visible joints extend over 227 pixels or more)"
            in warning
        )


def write_flic(folder: Path, frames: dict[str, dict[str, Any]]) -> Path:
    """FLIC with frames of these flags."""
    (folder / "images").mkdir(parents=True)
    coords = np.full((2, 29), np.nan)
    for number, column in enumerate((0, 1, 2, 3, 4, 5, 6, 9)):
        coords[:, column] = 300 + 10 * number, 150 + 12 * number
    entries = []
    for name, flags in frames.items():
        Image.new("RGB", (720, 480), (200, 90, 10)).save(folder / "images" / f"{name}.jpg")
        entries.append(
            {"filepath": f"{name}.jpg", "coords": coords, "torsobox": [280.0, 140.0, 400.0, 290.0]}
            | flags
        )
    scipy.io.savemat(folder / "examples.mat", {"examples": structures(entries)})
    return folder


def test_flic_frames_are_read_with_their_split(tmp_path: Path) -> None:
    folder = write_flic(tmp_path / "flic", {"0": {"istrain": 1}, "1": {"istrain": 0}})
    prepared = datasets.prepare("flic", folder)
    found = arrays(prepared)
    np.testing.assert_array_equal(found.split, [0, 1])
    assert list(np.flatnonzero(found.visible[0])) == [2, 3, 6, 7, 8, 9, 10, 11]
    np.testing.assert_allclose(
        found.joints[0, 6] - found.joints[0, 9], np.array([50, 60]) / 2, atol=0.1
    )


# the contact sheet


def test_a_stick_figure_is_drawn_where_the_joints_are() -> None:
    joints = person(60, 60)
    joints[0], joints[5] = [30, 200], [200, 200]
    grey = np.full((256, 256, 3), 128, np.uint8)
    drawn = np.asarray(posed(Tile(grey, joints)))
    assert tuple(drawn[200, 30]) == RIGHT
    assert tuple(drawn[200, 200]) == LEFT
    hidden = np.asarray(posed(Tile(grey, joints, np.arange(14) != 0)))
    assert tuple(hidden[200, 30]) == (255, 255, 255)
    joints[0] = np.nan
    assert tuple(np.asarray(posed(Tile(grey, joints)))[200, 30]) == (128, 128, 128)


def test_a_sheet_has_room_for_every_tile() -> None:
    tile = Tile(
        np.zeros((256, 256, 3), np.uint8),
        person(),
        label="a name that is far too long to fit under one image",
    )
    assert sheet([tile] * 7, columns=3).size == (8 + 3 * 264, 8 + 20 + 3 * 284 + 20)
    assert sheet([tile], columns=6).width == 8 + 264


def test_meta_is_json_that_others_can_read(leeds: Path) -> None:
    prepared = datasets.prepare("lspet", leeds)
    meta = json.loads((prepared.folder / "meta.json").read_text())
    assert meta["examples"] == 4
    assert sys.getsizeof(meta["pixels_sha256"]) > 64


def large_persons(folder: Path, large: int, examples: int = 10) -> Path:
    """LSPET, some of its persons as large as in its high-resolution edition."""
    random = np.random.RandomState(0)
    joints = np.ones((14, 3, examples))
    joints[:, :2] = 20 + random.random_sample((14, 2, examples)) * 100
    joints[:, :2, :large] *= 4
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for i in range(1, examples + 1):
        Image.new("RGB", (600, 600), (10, 90, 200)).save(folder / "images" / f"im{i:05d}.jpg")
    return folder


def test_a_data_set_that_mostly_does_not_fit_ends_with_one_and_is_told_before_anything_runs(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "cache"))
    few, many = large_persons(tmp_path / "few", 1), large_persons(tmp_path / "many", 8)

    said = sweep("data", "prepare", "lspet", "--path", str(few))
    assert said.code == 0
    assert "dropped 1: visible joints" in said.err
    assert "warning" not in said.err

    said = sweep("data", "prepare", "lspet", "--path", str(many))
    told = "warning: data set lspet: 8 of 10 examples are dropped (8: visible joints extend over 227 pixels or more)"
    assert said.code == 1
    assert told in " ".join(said.err.split())
    assert Path(said.out.strip()).is_dir()

    Path("grid.yaml").write_text("axes: {framework: reference}\nparameters: {data: lspet}\n")
    planned = sweep("plan", "grid.yaml")
    assert planned.code == 0
    assert told in " ".join(planned.err.split())
    provided = provision.provide(
        provision.Needs((), {("lspet", str(many)): 1, ("lspet", str(few)): 1})
    )
    assert [f"warning: {warning}".startswith(told) for warning in provided.warnings] == [True]
