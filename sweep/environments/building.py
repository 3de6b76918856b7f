"""Building: make an environment from a specification, complete, checked and never changed."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import __version__, homes, process
from sweep.credentials import redacted
from sweep.dependencies import WORKLOADS
from sweep.environments import indexes, interpreters, store
from sweep.environments.failure import EnvironmentFailed, tail
from sweep.environments.resolver import Resolution, Resolver
from sweep.environments.specification import Specification
from sweep.environments.store import Environment

MODULES = WORKLOADS / "runtime" / "modules.py"  # finds the module of a package

_IMPORT_SCRIPT = """
import gc, json, sys
from importlib import import_module
gc.disable()  # the objects of an import stay, so collecting them is a waste of time
if len(sys.argv) > 3:
    from runpy import run_path
    sys.argv[1] = run_path(sys.argv[3])["module_of"](sys.argv[1])
module = import_module(sys.argv[1])
facts = {"python": "%d.%d.%d" % sys.version_info[:3]}
facts["version"] = str(getattr(module, "__version__", ""))
print("\\n" + sys.argv[2] + json.dumps(facts))
"""
_MARK = "sweep-facts: "  # start-up and exit hooks may print other lines
_IMPORT_HINT = "requires: in the grid's environments adds or bounds packages"


@dataclass(frozen=True)
class Plan:
    """What a build would install here: the version of Python and the exact packages."""

    python: str
    packages: tuple[str, ...]
    notes: tuple[str, ...]


def _silent(_: str) -> None:
    pass


def prepare(
    spec: Specification,
    progress: Callable[[str], None] = _silent,
    run_id: str = "",
    keep_downloads: bool = True,
) -> Environment:
    """Return the environment of a specification; build it where it does not exist.

    It is built once, however many processes ask for it. Raises EnvironmentFailed. A failure is
    remembered for `run_id`: the next call with the same one fails at once. `keep_downloads=False`
    leaves nothing in uv's cache, for environments that are used only once.
    """
    if spec.interpreter:
        return _users_own(spec)
    if existing := store.load(spec.id):
        return existing
    progress(f"preparing {spec.framework}")
    if note := indexes.ignored():
        progress(note)
    with _disk_errors_explained(spec), store.locked(spec.id, spec.framework, progress):
        # Another process may have built it while this one waited for the lock.
        if existing := store.load(spec.id):
            return existing
        _raise_remembered_failure(spec, run_id)
        return _remember_failure(spec, run_id, lambda: _build(spec, progress, keep_downloads))


def plan(spec: Specification) -> Plan:
    """Return what `prepare` would install, without installing packages or a Python."""
    if spec.interpreter:
        own = _users_own(spec)
        return Plan(own.python_version, own.packages, ())
    resolver = _resolver(spec)
    variables = resolver.indexes.variables
    pythons = _pythons(spec, resolver)
    if here := interpreters.present(pythons, variables):
        resolution = resolver.resolve(here.path)
        return Plan(here.version, resolution.requirements, resolution.notes)
    version = interpreters.installable(pythons, variables)
    resolution = resolver.resolve(version)
    note = f"Python {version} is not on this machine and would be installed"
    return Plan(version, resolution.requirements, (note, *resolution.notes))


def lock(environment: Environment) -> str:
    """Return the text of a lock file.

    `lock: FILE` in the grid's environments installs exactly these versions again.
    """
    head = [
        f"# {environment.framework}, locked by sweep {__version__}",
        "# use it with lock: in the grid's environments, or sweep env build --lock",
        f"# python: {environment.python_version}",
        f"# environment: {environment.id}",
    ]
    return "\n".join([*head, *environment.packages]) + "\n"


def _build(
    spec: Specification, progress: Callable[[str], None], keep_downloads: bool
) -> Environment:
    """Build an environment in its final folder, since a virtual environment cannot be moved.

    The marker that completes it is written last.
    """
    resolver = _resolver(spec)
    interpreter = interpreters.find(_pythons(spec, resolver), resolver.indexes.variables, progress)
    folder = store.folder(spec.id)
    store.wipe(spec.id)
    try:
        creation_log = resolver.create(interpreter.path, folder)
        progress(f"installing {spec.framework} on Python {interpreter.version}")
        python = folder / "bin" / "python"
        resolution, install_log = resolver.fill(python, keep_downloads, progress)
        # Listing the packages and importing the framework take seconds each, so both run at once.
        with ThreadPoolExecutor(1) as executor:
            packages = executor.submit(resolver.freeze, python)
            size = executor.submit(store.size_bytes, folder)
            facts = _import(spec, python)
            environment = _described(spec, facts, resolution, packages.result(), size.result())
        (folder / "build.log").write_text(creation_log + install_log, encoding="utf-8")
        store.complete(environment)
    except BaseException:  # also an interrupt: no incomplete environment stays
        store.wipe(spec.id)
        raise
    return environment


def _pythons(spec: Specification, resolver: Resolver) -> tuple[str, ...]:
    """Return the Pythons to try, in order.

    A package without a recipe takes the newest Python for which all requirements have wheels, or
    else the newest one for which it can be built. Pythons on this machine come first.
    """
    if not spec.any_python or spec.pins:
        return spec.python
    present = {version: _present(version, resolver) for version in spec.python}
    here = {version: python for version, python in present.items() if python}
    ordered = [*here, *(version for version in spec.python if version not in here)]
    for only_wheels in (True, False):
        for version in ordered:
            answer = resolver.suits(here[version].path if version in here else version, only_wheels)
            if answer is None:
                # No Python changes that. The build fails with the reason.
                return tuple(ordered)
            if answer:
                return (version,)
    return tuple(ordered)


def _present(version: str, resolver: Resolver) -> interpreters.Interpreter | None:
    return interpreters.present((version,), resolver.indexes.variables)


def _described(
    spec: Specification,
    facts: Mapping[str, Any],
    resolution: Resolution,
    packages: tuple[str, ...],
    size_bytes: int,
) -> Environment:
    return Environment(
        id=store.identify(facts["python"], packages),
        framework=spec.framework,
        python=store.folder(spec.id) / "bin" / "python",
        python_version=facts["python"],
        packages=packages,
        specification=spec.id,
        notes=resolution.notes,
        built_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        size_bytes=size_bytes,
    )


def _resolver(spec: Specification) -> Resolver:
    return Resolver(spec, _protected(indexes.configured(spec.index_url, spec.find_links)))


def _protected(configured: indexes.Indexes) -> indexes.Indexes:
    """Return the indexes; raise EnvironmentFailed where one is not protected."""
    if places := configured.unprotected:
        hint = "name it with https://, or its host as trusted-host in pip's configuration"
        raise EnvironmentFailed(f"{places[0]} could be changed by anyone on the way here", hint)
    return configured


def _plain_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _import(spec: Specification, python: Path) -> dict[str, Any]:
    """Import the framework and return facts about it; raise EnvironmentFailed where that fails.

    This import also writes bytecode for what it loads. Compiling everything that is installed
    would take several times as long as the installation, and most of it is never imported. The
    process dies with this one, which holds the environment's lock.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-") as empty:
        # Nothing is written into the user's own environment.
        flags = ["-I", "-B"] if spec.interpreter else ["-I"]
        what = [spec.module, _MARK] if spec.module else [spec.package, _MARK, str(MODULES)]
        command = [*process.tether(), str(python), *flags, "-c", _IMPORT_SCRIPT, *what]
        ended = process.run(command, env=_plain_environment(), timeout_s=300, cwd=Path(empty))
    if ended.returncode:
        last = (tail(ended.stderr).splitlines() or [f"Python ended with {ended.returncode}"])[-1]
        message = f"{spec.framework} cannot be imported in its environment: {last}"
        raise EnvironmentFailed(message, spec.hint or _IMPORT_HINT, tail(ended.stderr))
    return _facts(spec, ended.stdout)


def _facts(spec: Specification, output: str) -> dict[str, Any]:
    """Return the facts in the marked line; raise EnvironmentFailed where there is none."""
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            if line.startswith(_MARK):
                return dict(json.loads(line.removeprefix(_MARK)))
    last = (tail(output).splitlines() or ["nothing"])[-1]
    what = spec.module or spec.package
    message = (
        f"the interpreter of {spec.framework} does not answer when it imports {what}: "
        f"it printed {last!r}"
    )
    raise EnvironmentFailed(
        message, "see what its sitecustomize does, and leave out what ends it early", tail(output)
    )


def _users_own(spec: Specification) -> Environment:
    """Return the user's own environment, which is inspected and never changed."""
    python = interpreters.program(spec.interpreter)
    if not interpreters.inspect(python):
        hint = "interpreter: names a Python, or the folder of a virtual environment"
        raise EnvironmentFailed(
            f"the interpreter of {spec.framework}, {python}, is no Python that runs", hint
        )
    facts = _import(spec, python)
    packages = Resolver(spec, indexes.configured()).freeze(python)  # asks no index
    return Environment(
        id=store.identify(facts["python"], (str(python), *packages)),
        framework=spec.framework,
        python=python,
        python_version=facts["python"],
        packages=packages,
    )


@contextlib.contextmanager
def _disk_errors_explained(spec: Specification) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"no environment for {spec.framework} in {store.root()}: {error}"
        raise EnvironmentFailed(message, homes.hint("SWEEP_ENV_DIR", error), str(error)) from None


def _raise_remembered_failure(spec: Specification, run_id: str) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        failure = json.loads(_failure(spec).read_text(encoding="utf-8"))
        if run_id and failure["run_id"] == run_id:
            raise EnvironmentFailed(failure["message"], failure["hint"], failure["log_tail"])


def _remember_failure(
    spec: Specification, run_id: str, build: Callable[[], Environment]
) -> Environment:
    try:
        environment = build()
    except EnvironmentFailed as error:
        texts = {"message": error.message, "hint": error.hint, "log_tail": error.log_tail}
        facts = {"run_id": run_id} | {name: redacted(text) for name, text in texts.items()}
        _failure(spec).write_text(json.dumps(facts), encoding="utf-8")
        raise
    _failure(spec).unlink(missing_ok=True)
    return environment


def _failure(spec: Specification) -> Path:
    return store.root() / f".{spec.id}.failure.json"
