"""Step files in a grid: workloads named by a path, and from then on by their file's name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sweep import steps
from sweep.errors import SweepError
from sweep.grid.source import Keys, Source
from sweep.steps import Step
from sweep.texts import printable

_TABLE = "tool.sweep"


def source(path: Path) -> Source:
    """Return the grid in the header of a step file, `[tool.sweep]`, as the text of a grid file."""
    return _Header(steps.read(path), printable(str(path)))


class _Header(Source):
    """A grid from a step's header. Errors name the lines of the step file."""

    def __init__(self, step: Step, shown: str) -> None:
        document = {"workload": step.name, **step.grid}
        super().__init__(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), shown)
        self._block = step.block

    def _line(self, keys: Keys) -> int | None:
        """Return the line of the innermost table or key that is written in the usual way."""
        names = [str(key) for key in keys if isinstance(key, str)]
        for length in range(len(names), 0, -1):
            table = ".".join([_TABLE, *names[: length - 1]])
            if self._block and (line := self._block.line_of(table, names[length - 1])):
                return line
        return None


class StepFiles:
    """Replaces the paths of step files in a grid's document by names; `found` maps names to paths.

    Names of trials cannot contain a path, and a trial's id must not depend on a file's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[str, Path] = {}

    def taken_out(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document with names in place of paths, wherever a workload is named."""
        renamed: dict[str, Any] = self._within(document)
        if isinstance(own := renamed.get("parameters"), dict):
            renamed["parameters"] = {self._named(key): value for key, value in own.items()}
        return renamed

    def _within(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._within(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self._workloads(each) if key == "workload" else self._within(each)
            for key, each in value.items()
        }

    def _workloads(self, value: Any) -> Any:
        """Return a value of a key `workload` with names: one, several, or a table by names."""
        if isinstance(value, list):
            return [self._named(each) for each in value]
        if isinstance(value, dict):
            return {self._named(key): each for key, each in value.items()}
        return self._named(value)

    def _named(self, value: Any) -> Any:
        if not steps.is_step(value):
            return value
        # Path.resolve() would follow links, and so leave the folder that the user named.
        path = Path(os.path.abspath(self._folder / Path(value).expanduser()))  # noqa: PTH100
        known = self.found.setdefault(path.name, path)
        if known != path and (Path(value).name != value):
            message = f"two step files are called {path.name}: {known} and {path}"
            raise SweepError(message, "give one of them another name: records are told apart by it")
        return path.name
