"""The commands of `sweep env`: list, build, probe, lock and remove environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep import versions
from sweep.cli import output, paths
from sweep.cli.tables import Column, Format, emit
from sweep.errors import UNAVAILABLE, SweepError, nearest
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.environments import Environment, EnvironmentFailed, Specification

app = typer.Typer(
    no_args_is_help=True, help="The isolated Pythons trials run in: one per framework version."
)


_Requirements = Annotated[
    list[str], typer.Argument(help="Framework versions, as torch==2.13.0.", show_default=False)
]
_Device = Annotated[str, typer.Option(help="cpu or gpu: a GPU environment holds the CUDA build.")]
_Backend = Annotated[str, typer.Option(help="A backend that needs packages of its own, as ideep.")]
_Format = Annotated[Format, typer.Option("--format", help="How to write the rows.")]
_Python = Annotated[
    list[str] | None, typer.Option(help="Python version instead of the recipe's; repeatable.")
]
_Requires = Annotated[
    list[str] | None, typer.Option(help="One more requirement, as 'numpy<2'; repeatable.")
]
_Wheel = Annotated[str, typer.Option(help="File or URL of the framework's wheel.")]
_Interpreter = Annotated[
    str, typer.Option(help="A Python of your own, used as it is and only looked at.")
]


@app.command("list", epilog="Example: `sweep env list --format json`")
def list_(form: _Format = Format.TABLE) -> None:
    """List the environments built on this machine, with their size on disk."""
    from sweep import environments as env

    built = env.environments()
    _show([_row(environment) for environment in built], form)
    total = sum(environment.size_bytes for environment in built)
    output.say(f"{counted(len(built), 'environment')}, {_mib(total)} in {env.root()}")
    for specification in env.unfinished():
        output.say(
            f"{specification} is unfinished: being built now,"
            f" or removed with sweep env rm {specification}"
        )


@app.command(epilog="Example: `sweep env build torch==2.13.0 chainer==7.8.1`")
def build(
    requirements: _Requirements,
    device: _Device = "cpu",
    backend: _Backend = "default",
    python: _Python = None,
    requires: _Requires = None,
    wheel: _Wheel = "",
    interpreter: _Interpreter = "",
    lock_file: Annotated[
        str, typer.Option("--lock", help="A file written by sweep env lock.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be installed.")
    ] = False,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Build, import, run one step; say what works and why not."),
    ] = False,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="With --probe: remove what was built, and its downloads."),
    ] = False,
    form: _Format = Format.TABLE,
) -> int:
    """Build environments now; otherwise a sweep builds what is missing."""
    override = _given(
        python=python, requires=requires, wheel=wheel, interpreter=interpreter, lock=lock_file
    )
    specs = [_specified(requirement, device, backend, override) for requirement in requirements]
    if dry_run:
        return _each(specs, _plan)
    if probe:
        return _probe(specs, backend, device, discard, form)
    rows: list[dict[str, Any]] = []
    code = _each(specs, lambda spec: rows.append(_row(_prepare(spec))))
    _show(rows, form)
    return code


@app.command(epilog="Example: `sweep env lock torch==2.13.0 -o torch.lock`")
def lock(
    requirement: Annotated[
        str, typer.Argument(help="A framework version, as torch==2.13.0.", show_default=False)
    ],
    device: _Device = "cpu",
    backend: _Backend = "default",
    python: _Python = None,
    requires: _Requires = None,
    wheel: _Wheel = "",
    interpreter: _Interpreter = "",
    to: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            parser=paths.path,
            metavar="FILE",
            help="Write here instead of to stdout.",
        ),
    ] = None,
) -> None:
    """Write an environment's exact versions to a file, building it first if it is missing.

    Use the file in a grid, as environments: {torch==2.13.0: {lock: torch.lock}}, or with sweep env
    build --lock.
    """
    from sweep import environments as env

    override = _given(python=python, requires=requires, wheel=wheel, interpreter=interpreter)
    text = env.lock(_prepare(_specified(requirement, device, backend, override)))
    if to is None:
        output.emit(text)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SweepError(
            f"{to} cannot be written: {error.strerror}", "name another file with -o"
        ) from None


@app.command(epilog="Example: `sweep env rm torch==2.13.0`")
def rm(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ids, their beginnings, or framework versions.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every environment.")] = False,
) -> None:
    """Remove environments from this machine; those in use are kept."""
    from sweep import environments as env

    chosen = [specification for name in names or [] for specification in _matching(name)]
    if everything:
        chosen += [environment.specification for environment in env.environments()]
        chosen += env.unfinished()
    if not chosen:
        raise SweepError(
            "nothing is named", "name environments as sweep env list shows them, or say --all"
        )
    for specification in dict.fromkeys(chosen):
        env.remove(specification)
        output.say(f"removed {specification}")


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, as an entry of a grid's `environments`."""
    return {name: value for name, value in options.items() if value}


def _specified(
    requirement: str, device: str, backend: str, override: Mapping[str, Any]
) -> Specification:
    from sweep import catalog
    from sweep.environments import check_there, specify

    name, equal, given = requirement.partition("==")
    framework, version = catalog.get_framework(name.strip()), versions.normal(given.strip()) or None
    if framework.package and not (equal and version):
        raise SweepError(f"{requirement!r} names no version", f"write {name}==VERSION")
    if reason := catalog.unsupported(framework, version, backend, device):
        raise SweepError(
            f"{requirement} with backend {backend} on {device}: {reason}",
            "see sweep env build --help",
        )
    check_there(requirement, override)
    return specify(framework, version, device, backend, override)


def _prepare(spec: Specification) -> Environment:
    from sweep.environments import prepare

    return prepare(spec, output.say)


def _each(specs: Iterable[Specification], act: Any) -> int:
    """Call `act` for every specification; a failure is shown, and the next one is tried."""
    from sweep.environments import EnvironmentFailed

    code = 0
    for spec in specs:
        try:
            act(spec)
        except EnvironmentFailed as error:
            _show_failure(error)
            code = UNAVAILABLE
    return code


def _show_failure(error: EnvironmentFailed) -> None:
    if error.log_tail:
        output.say(error.log_tail)
    output.show_error(error)


def _plan(spec: Specification) -> None:
    from sweep.environments import plan

    planned = plan(spec)
    for note in planned.notes:
        output.warn(note)
    output.emit("\n".join([f"# {spec.framework} on Python {planned.python}", *planned.packages]))


def _probe(
    specs: Sequence[Specification], backend: str, device: str, discard: bool, form: Format
) -> int:
    from sweep import catalog
    from sweep.environments.probing import probe, step

    def step_of(spec: Specification) -> Callable[[Environment], str]:
        framework = catalog.get_framework(spec.framework.partition("==")[0])
        return lambda environment: step(environment, framework, backend, device)

    probes = [probe(spec, step_of(spec), output.say, discard) for spec in specs]
    rows = [dataclasses.asdict(p) for p in probes]
    _show([row | {"works": "yes" if row["works"] else "no"} for row in rows], form)
    return 0


def _row(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "framework": environment.framework,
        "python": environment.python_version,
        "numpy": environment.numpy,
        "size_bytes": environment.size_bytes,
        "built_at": environment.built_at,
        "path": str(environment.python),
    }


def _matching(name: str) -> list[str]:
    """Return the specifications of the environments that `name` means.

    `name` is an id, the beginning of one, or a framework version.
    """
    from sweep import environments as env

    built = env.environments()
    requirement = versions.normal_requirement(name)
    of_framework = [e.specification for e in built if e.framework == requirement]
    if of_framework:
        return of_framework
    # An environment has an id and a specification; one that is unfinished has no id yet.
    ids = {e.specification: e.id for e in built} | {s: s for s in env.unfinished()}
    matching = [
        specification
        for specification, id_ in ids.items()
        if id_.startswith(name) or specification.startswith(name)
    ]
    if not matching:
        raise SweepError(
            f"there is no environment {name!r}", nearest(name, {e.framework for e in built})
        )
    if len({ids[specification] for specification in matching}) > 1:
        raise SweepError(
            f"{len(matching)} environments begin with {name!r}",
            "say more of the id, as sweep env list shows it",
        )
    return matching


def _show(rows: Sequence[Mapping[str, Any]], form: Format) -> None:
    keys = list(rows[0]) if rows else []
    columns = [_column(key, [row[key] for row in rows]) for key in keys]
    if rows or form is Format.JSON:
        emit(form, columns, rows)


def _column(key: str, values: Sequence[Any]) -> Column:
    """Return a column for people, with sizes in MiB."""
    if key.endswith("_bytes"):
        return Column(
            key.removesuffix("_bytes"), [_mib(value) if value else "" for value in values]
        )
    return Column(key, list(map(str, values)), is_text=True)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
