"""The commands of `sweep data`: list, fetch, prepare and show data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli import output, paths
from sweep.cli.tables import Column, Format, emit
from sweep.errors import FAILED, SweepError

if TYPE_CHECKING:
    from sweep.datasets import DataSet, Prepared
    from sweep.datasets.sheet import Tile

app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, prepare and show them.")

Name = Annotated[
    str, typer.Argument(help="Which data set; `sweep data list` names them.", show_default=False)
]
From = Annotated[
    Path | None,
    typer.Option(
        "--path",
        parser=paths.path,
        metavar="PATH",
        help="The folder or zip archive with the original files.",
        show_default=False,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="OPTION=VALUE",
        help="An option of the data set, as examples=2048.",
        show_default=False,
    ),
]


@app.command("list")
def list_(
    form: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.TABLE,
) -> None:
    """List data sets, and which of them are prepared on this machine.

    A row for each that is prepared, and one for each data set that is not.

    Example: `sweep data list --format json`
    """
    from sweep import datasets
    from sweep.datasets import store

    rows = [
        row
        for dataset in datasets.datasets().values()
        for row in _rows(dataset, store.everything(dataset.name))
    ]
    emit(form, _columns(rows), rows)
    output.say(f"prepared data sets lie in {store.root()}")


def _rows(dataset: DataSet, found: Sequence[Prepared]) -> list[dict[str, Any]]:
    return [_row(dataset, prepared) for prepared in found] or [_row(dataset, None)]


def _row(dataset: DataSet, prepared: Prepared | None) -> dict[str, Any]:
    """Return what is known of a data set, and of one of its prepared forms."""
    meta = prepared.meta() if prepared else {}
    return {
        "data_set": dataset.name,
        "prepared": prepared.id if prepared else None,
        "generated": dataset.generated,
        **{name: meta.get(name) for name in ("examples", "train", "test")},
        "bytes": sum(meta["bytes"].values()) if prepared else None,
        "summary": dataset.summary,
    }


def _columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    sizes = ["" if row["bytes"] is None else f"{row['bytes'] / 1e9:.2f}" for row in rows]
    counts = ("examples", "train", "test")
    return [
        Column("data set", [row["data_set"] for row in rows], is_text=True),
        Column("prepared", [_prepared_or_not(row) for row in rows], is_text=True),
        *(
            Column(name, ["" if row[name] is None else str(row[name]) for row in rows])
            for name in counts
        ),
        Column("GB", sizes),
        Column("what it is", [row["summary"] for row in rows], is_text=True),
    ]


def _prepared_or_not(row: dict[str, Any]) -> str:
    return row["prepared"] or ("when needed" if row["generated"] else "no")


@app.command()
def fetch(
    name: Name,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", help="Fetch from here and not from the known mirrors.", show_default=False
        ),
    ] = None,
    sha256: Annotated[
        str, typer.Option(help="Accept only an archive with this SHA-256.", show_default=False)
    ] = "",
) -> None:
    """Download a published archive; resume where an earlier download broke off.

    Example: `sweep data fetch lsp && sweep data prepare lsp`
    """
    from sweep import datasets
    from sweep.datasets import fetch as fetching

    dataset = datasets.get(name)
    path = datasets.archive_path(dataset)
    if dataset.archive is None or path is None:
        raise SweepError(f"data set {name} has no archive to fetch", _by_hand(dataset))
    try:
        with _downloading() as progress:
            path = fetching.fetch(
                dataset.archive, path.parent, progress, url or (), sha256, output.say
            )
    except SweepError as error:
        hint = f"{error.hint.replace('NAME', name)}; see {dataset.homepage}"
        raise type(error)(error.message, hint) from None
    output.emit(str(path))


@app.command()
def prepare(name: Name, path: From = None, options: Options = None) -> int:
    """Decode, pad, crop and check a data set into arrays that workers map into memory.

    Ends with 1 if more than a tenth of the examples do not fit: the arrays exist, with fewer
    examples.

    Examples: `sweep data prepare lspet --path lspet_dataset.zip`

              `sweep data prepare synthetic --set examples=2048`
    """
    prepared = _prepared(name, path, options)
    meta = prepared.meta()
    for reason, count in meta["dropped"].items():
        output.say(f"dropped {count}: {reason}")
    for reason, count in meta.get("left_out", {}).items():
        output.say(f"left out {count}: {reason}")
    output.say(f"{prepared.id}: {meta['train']} examples to train on, {meta['test']} to test on")
    output.emit(str(prepared.folder))
    if warning := prepared.warning():
        output.warn(warning)
        return FAILED
    return 0


@app.command()
def show(
    name: Name,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=paths.path,
            metavar="FILE",
            help="The picture to write: .png, .jpg or .webp.",
        ),
    ] = Path("sheet.png"),
    path: From = None,
    options: Options = None,
    count: Annotated[
        int, typer.Option(help="How many examples, spread evenly over the set.", min=1, max=400)
    ] = 24,
    columns: Annotated[int, typer.Option(help="Examples in a row.", min=1, max=40)] = 6,
    split: Annotated[str, typer.Option(help="train, test or all.")] = "all",
) -> None:
    """Draw a contact sheet: images with their joints as stick figures.

    Example: `sweep data show synthetic -o sheet.png`
    """
    from sweep.datasets.sheet import sheet

    if split not in ("train", "test", "all"):
        raise SweepError(f"--split {split} is none of train, test, all", "leave it out for all")
    prepared = _prepared(name, path, options)
    tiles = _tiles(prepared, count, split)
    page = sheet(tiles, columns, f"{prepared.id}, {len(tiles)} of {prepared.examples} examples")
    try:
        page.save(out)
    except (OSError, ValueError) as error:
        raise SweepError(
            f"{out} cannot be written: {error}",
            "give a .png, .jpg or .webp in a folder that exists",
        ) from None
    output.emit(str(out))


def _tiles(prepared: Prepared, count: int, split: str) -> list[Tile]:
    """Return `count` examples spread evenly over the split.

    Invisible joints are left out unless their coordinates are annotated.
    """
    import numpy as np

    from sweep.datasets.sheet import Tile

    images = np.load(prepared.folder / "images.npy", mmap_mode="r")
    joints, visible, is_test = (
        np.load(prepared.folder / f"{array}.npy") for array in ("joints", "visible", "split")
    )
    names = (prepared.folder / "names.txt").read_text(encoding="utf-8").splitlines()
    in_split = {"train": is_test == 0, "test": is_test == 1, "all": is_test >= 0}[split]
    among = np.flatnonzero(in_split)
    if not len(among):
        raise SweepError(f"{prepared.id} has no {split} examples", "leave --split out")
    # Their coordinates are placeholders, which a stick figure must not show.
    if not prepared.meta()["locates_invisible"]:
        joints[visible == 0] = np.nan
    chosen = among[np.linspace(0, len(among) - 1, min(count, len(among))).astype(int)]
    return [Tile(images[i], joints[i], visible[i] != 0, names[i]) for i in chosen]


def _prepared(name: str, path: Path | None, options: Sequence[str] | None) -> Prepared:
    from sweep import datasets

    dataset = datasets.get(name)
    with _preparing(name) as progress:
        return datasets.prepare(
            name, path, progress=progress, say=output.say, **_parsed(dataset, options or ())
        )


def _parsed(dataset: DataSet, given: Sequence[str]) -> dict[str, Any]:
    """Return `option=value` words as values of the options' types."""
    from sweep.errors import nearest

    values: dict[str, Any] = {}
    for word in given:
        option, sign, text = word.partition("=")
        if not sign:
            raise SweepError(f"--set {word} has no value", "write it as --set examples=2048")
        if option not in dataset.options:
            raise SweepError(
                f"data set {dataset.name} has no option {option!r}",
                nearest(option, dataset.options),
            )
        kind = type(dataset.options[option])
        try:
            values[option] = _BOOLEANS[text] if kind is bool else kind(text)
        except (ValueError, KeyError):
            default = dataset.options[option]
            raise SweepError(
                f"--set {word} does not fit", f"it is {default!r} by default"
            ) from None
    return values


_BOOLEANS = {"true": True, "false": False}


def _by_hand(dataset: DataSet) -> str:
    if dataset.generated:
        return f"it is generated: sweep data prepare {dataset.name}"
    return f"get it from {dataset.homepage}, then: sweep data prepare {dataset.name} --path DIR"


@contextmanager
def _preparing(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar per stage of preparation on stderr, if that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=output.stderr, transient=True, disable=not output.is_terminal()
    ) as bar:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, of: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(f"{stage} {name}", total=of)
            bar.update(tasks[stage], completed=done)

        yield progress


@contextmanager
def _downloading() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar per mirror on stderr, if that is a terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.stderr, disable=not output.is_terminal()) as bar:
        tasks: dict[str, Any] = {}

        def progress(url: str, done: int, of: int | None) -> None:
            if url not in tasks:
                tasks[url] = bar.add_task(url, total=of)
            bar.update(tasks[url], completed=done, total=of)

        yield progress
