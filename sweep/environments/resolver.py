"""The resolver: calls of uv, one for each step."""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from sweep import process
from sweep.credentials import redacted
from sweep.environments.failure import EnvironmentFailed, tail
from sweep.environments.indexes import Indexes
from sweep.environments.specification import Specification

_PROBE_TIMEOUT_S = 60
_INSTALL_TIMEOUT_S = 3600
_WANTED = "requirements.txt"
_UNMET = "its requirements cannot be met"
# A CPU build is searched with a short time limit: without a network, uv would retry for a minute.
_BRIEFLY = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"}
# Built from source, NumPy gets whatever BLAS the machine has, or none, which decides its speed.
WHEELS_ALONE = ("numpy",)


@dataclass(frozen=True)
class Resolution:
    """What to install: requirements, the backend that uv takes torch for, and notes for the user.

    `exact` requirements name every package with its version. Otherwise uv chooses versions when it
    installs.
    """

    requirements: tuple[str, ...]
    torch_backend: str = ""
    notes: tuple[str, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Resolver:
    """uv for one specification, with the indexes of this machine.

    Methods raise EnvironmentFailed where a step fails.
    """

    spec: Specification
    indexes: Indexes

    def resolve(self, python: Path | str) -> Resolution:
        """Return what to install for the interpreter at `python`, or for a version that is absent.

        Where the specification prefers a CPU build, it is searched first: as the local version
        `+cpu` in the configured indexes and wheel folders, then with uv's `--torch-backend cpu`.
        Otherwise the index's own build is taken, with a note.
        """
        if self.spec.pins:
            return Resolution(self.spec.pins, self.spec.torch_backend)
        if self._prefers_cpu:
            ended = self._compile(_cpu_local(self.spec), "", python, _BRIEFLY, _PROBE_TIMEOUT_S)
            if ended.returncode == 0:
                return Resolution(_pins(ended.stdout), "")
        return self._resolve_elsewhere(python)

    def suits(self, python: Path | str, only_wheels: bool) -> bool | None:
        """Return whether a Python can meet the requirements; None where no Python changes that."""
        more = ["--only-binary", ":all:"] if only_wheels else []
        ended = self._compile(
            self.spec.requires, self.spec.torch_backend, python, {}, _PROBE_TIMEOUT_S, more
        )
        if ended.returncode == 0:
            return True
        is_nowhere = "not found in the package registry" in ended.stderr
        return None if is_nowhere or (only_wheels and not _unsolved(ended)) else False

    def _resolve_elsewhere(self, python: Path | str) -> Resolution:
        """Resolve without pins and without a version `+cpu`."""
        spec = self.spec
        if self._prefers_cpu:
            ended = self._compile(spec.requires, "cpu", python, _BRIEFLY, _PROBE_TIMEOUT_S)
            if ended.returncode == 0:
                return Resolution(_pins(ended.stdout), "cpu")
        ended = self._compile(spec.requires, spec.torch_backend, python, {}, _INSTALL_TIMEOUT_S)
        pins = _pins(self._checked(ended, _UNMET).stdout)
        return Resolution(pins, spec.torch_backend, _cuda_note(spec, pins))

    @property
    def _prefers_cpu(self) -> bool:
        return self.spec.cpu_build and sys.platform == "linux"

    def create(self, interpreter: Path, place: Path) -> str:
        """Create an empty virtual environment at `place`; return uv's output."""
        ended = self._uv(
            ["venv", "--no-project", "--allow-existing", "--python", str(interpreter), str(place)],
            {},
            120,
        )
        return redacted(
            self._checked(ended, f"no virtual environment of {interpreter} could be made").stderr
        )

    def fill(
        self, python: Path, keep_downloads: bool, say: Callable[[str], None]
    ) -> tuple[Resolution, str]:
        """Install what `resolve` would choose; return that, and uv's output.

        uv chooses versions while it installs, since a separate resolution would do the same work
        twice. Only a fallback from a CPU build is resolved first, so that its notes reach the user
        before a long download.
        """
        spec = self.spec
        if spec.pins or not self._prefers_cpu:
            chosen = Resolution(
                spec.pins or spec.requires, spec.torch_backend, exact=bool(spec.pins)
            )
            ended = self._install(chosen, python, keep_downloads)
        else:
            chosen = Resolution(_cpu_local(spec), exact=False)
            ended = self._install(chosen, python, keep_downloads)
            if _unsolved(ended):
                chosen = self._resolve_elsewhere(python)
                for note in chosen.notes:
                    say(note)
                ended = self._install(chosen, python, keep_downloads)
        what = _UNMET if _unsolved(ended) else "its packages cannot be installed"
        return chosen, redacted(self._checked(ended, what).stderr)

    def _install(
        self, resolution: Resolution, python: Path, keep_downloads: bool
    ) -> process.Completed:
        arguments = ["install", "--python", str(python), "--requirements", _WANTED]
        arguments += ["--no-deps"] if resolution.exact else []
        arguments += [] if keep_downloads else ["--no-cache"]
        wanted = _exact(resolution.requirements) if resolution.exact else resolution.requirements
        return self._with_files(arguments, wanted, resolution.torch_backend, {}, _INSTALL_TIMEOUT_S)

    def freeze(self, python: Path) -> tuple[str, ...]:
        """Return the packages of the environment of `python`, as `name==version`."""
        ended = self._uv(["pip", "freeze", "--python", str(python)], {}, 120)
        lines = self._checked(ended, "its packages cannot be listed").stdout.splitlines()
        return tuple(redacted(line) for line in lines if line.strip())

    def _compile(
        self,
        requires: tuple[str, ...],
        torch_backend: str,
        python: Path | str,
        variables: Mapping[str, str],
        timeout_s: float,
        more: Sequence[str] = (),
    ) -> process.Completed:
        which = ["--python", str(python)]
        if isinstance(python, str):
            # uv runs some Python in any case, and would download that version where it may.
            which = ["--python", sys.executable, "--python-version", python]
        arguments = ["compile", _WANTED, *which, "--no-header", "--no-annotate", *more]
        variables = {**variables, "UV_PYTHON_DOWNLOADS": "never"}
        return self._with_files(arguments, requires, torch_backend, variables, timeout_s)

    def _with_files(
        self,
        arguments: list[str],
        requirements: tuple[str, ...],
        torch_backend: str,
        variables: Mapping[str, str],
        timeout_s: float,
    ) -> process.Completed:
        """Run `uv pip …` in a folder with the requirements in the file `_WANTED`."""
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            wanted, build = Path(folder, _WANTED), Path(folder, "build.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            build.write_text("\n".join(self.spec.build), encoding="utf-8")
            options = ["--only-binary", ",".join(WHEELS_ALONE)]
            options += ["--build-constraints", str(build)] if self.spec.build else []
            options += ["--torch-backend", torch_backend] if torch_backend else []
            options += ["--no-index"] if self.indexes.no_index else []
            variables = {**variables, **dict(self.spec.environment)}
            return self._uv(["pip", *arguments, *options], variables, timeout_s, Path(folder))

    def _uv(
        self,
        arguments: list[str],
        variables: Mapping[str, str],
        timeout_s: float,
        cwd: Path | None = None,
    ) -> process.Completed:
        environment = {**self.indexes.variables, **variables}
        command = [*process.tether(), uv.find_uv_bin(), *arguments]
        return process.run(command, env=environment, timeout_s=timeout_s, cwd=cwd)

    def _checked(self, ended: process.Completed, what: str) -> process.Completed:
        if ended.returncode == 0:
            return ended
        log = redacted(ended.stderr or ended.stdout)
        why = "timed out" if ended.timed_out else _cause(log)
        message = f"no environment for {self.spec.framework}: {what}: {why}"
        raise EnvironmentFailed(message, self.spec.hint or _hint(log), tail(log))


def refusal(indexes: Indexes, package: str = "numpy") -> str:
    """Return why uv finds no `package` in the configured places, without its cache, or ""."""
    if places := indexes.unprotected:
        return f"{places[0]} is not asked: it could be changed by anyone on the way here"
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(package, encoding="utf-8")
        options = [
            "--no-deps",
            "--no-cache",
            "--quiet",
            *(["--no-index"] if indexes.no_index else []),
        ]
        command = [*process.tether(), uv.find_uv_bin(), "pip", "compile", *options, str(wanted)]
        ended = process.run(
            command, {**indexes.variables, **_BRIEFLY}, _PROBE_TIMEOUT_S, Path(folder)
        )
    if ended.timed_out:
        return f"no answer within {_PROBE_TIMEOUT_S} s"
    return "" if ended.returncode == 0 else _cause(redacted(ended.stderr))


def _cpu_local(spec: Specification) -> tuple[str, ...]:
    """Return the requirements with the framework's CPU build, as `torch==2.13.0+cpu`."""
    return tuple(f"{r}+cpu" if r == spec.framework and "+" not in r else r for r in spec.requires)


def _unsolved(ended: process.Completed) -> bool:
    return ended.returncode != 0 and "No solution found" in ended.stderr


def _pins(output: str) -> tuple[str, ...]:
    return tuple(
        line.strip()
        for line in output.splitlines()
        if line.strip() and not line.startswith(("#", "-"))
    )


def _exact(pins: tuple[str, ...]) -> tuple[str, ...]:
    """Return pins with `===`, since `==2.13.0` would admit `2.13.0+cpu` as well."""
    return tuple(re.sub(r"^([\w.-]+)==", r"\1===", pin) for pin in pins)


def _cuda_note(spec: Specification, pins: tuple[str, ...]) -> tuple[str, ...]:
    if spec.cpu_build and any(pin.startswith("nvidia-") for pin in pins):
        note = (
            f"no CPU build of {spec.framework} was to be had, "
            "so one with CUDA libraries is used: several GB"
        )
        return (note,)
    return ()


_NO_CAUSES = ("hint:", "For more information, try", "  [possible values:")


def _cause(log: str) -> str:
    """Return the cause of a failure on one line.

    That is the end of a failed build's output, or uv's innermost cause.
    """
    relevant = [
        line for line in log.splitlines() if line.strip() and not line.startswith(_NO_CAUSES)
    ]
    lines = [" ".join(line.split()) for line in relevant]
    matches = [re.match(r"(?:cause: |Caused by: )(.+)", line) for line in lines]
    causes = [match[1] for match in matches if match]
    innermost = (causes or lines or ["nothing was said"])[-1].removeprefix("error: ")
    cause = lines[-1] if "[stderr]" in lines else innermost
    short = re.match(r"Because (.+?)(?: and you require [^,]+)?, we can conclude", cause)
    return textwrap.shorten(short[1] if short else cause, 240, placeholder=" …")


def _hint(log: str) -> str:
    if "No space left" in log:
        return (
            "free some disk: sweep env list shows what environments take, sweep env rm removes them"
        )
    if "no usable wheels" in log or "no wheels with a matching Python" in log:
        return (
            "there is no wheel for this Python: "
            "choose another with python: in the grid's environments"
        )
    if "no version of" in log or "not found in the package registry" in log:
        return (
            "check the version, "
            "or name its index with index_url: or find_links: in the grid's environments"
        )
    return (
        "the end of the log says more; "
        "requires: and build: in the grid's environments change the recipe"
    )
