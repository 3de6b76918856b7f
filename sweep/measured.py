"""Measured: what a trial measures besides its settings.

Records of different things must never share an id. So the id of a trial includes its content, a few
words, each present only if it differs from the default:

- `workload` and `framework`: a digest of a plug-in's file and of all that it imports from its own
  package (`sweep.dependencies`), or of the files of a step (`sweep.steps`); of sweep's files that
  the trial runs, every MEASURES above 1.
- `network`: a digest of a plug-in's network file and of all that it imports; the MEASURES above 1
  of a network of sweep.
- `data`: a digest of the file of a plug-in's data set and of all that it imports; the version above
  1 of a data set of sweep.
- `environment`: what is installed in an environment that the grid changes
  (`sweep.environments.contents`).

A trial of sweep's own files in a recipe's environment has no content: its settings identify it, in
every version of sweep. If a change to a file under `workloads/` changes what trials measure, its
MEASURES is raised, and everything that runs the file gets new ids. A test has a digest of the code
of each of these files, so that none changes without that decision.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sweep import catalog, datasets, dependencies, digests
from sweep.catalog import Workload
from sweep.environments import contents
from sweep.errors import SweepError

WORKLOAD, FRAMEWORK, ENVIRONMENT, DATA = "workload", "framework", "environment", "data"
NETWORK = "network"

Content = Mapping[str, str]
Settings = Mapping[str, Any]
Overrides = Mapping[str, Mapping[str, Any]]

_FRAMEWORKS = dependencies.WORKLOADS / "frameworks"
_NETWORKS = dependencies.WORKLOADS / "networks"
_FIRST = 1
# The host starts the process of every trial and waits for it.
_EVERY_TRIAL = dependencies.WORKLOADS / "runtime" / "host.py"


def contents_of(
    workloads: Mapping[str, Workload], overrides: Overrides
) -> Callable[[str, str, str | None, str | None], Content]:
    """Return a function from workload, framework, data set and network to a content.

    `overrides` are the grid's `environments`. The function raises SweepError if an environment
    names something that does not exist or does not fit.
    """

    # A grid of a million trials has few frameworks and data sets: each is looked at once.
    @functools.cache
    def environment(framework: str) -> str:
        return _environment(framework, overrides.get(framework, {}))

    @functools.cache
    def of_workload(name: str) -> str:
        return _workload_word(workloads[name])

    @functools.cache
    def of_framework(name: str) -> str:
        return _framework_word(name)

    @functools.cache
    def of_data(name: str | None) -> str:
        return _data(name)

    @functools.cache
    def of_network(name: str | None) -> str:
        return _network(name)

    def content(
        workload: str, framework: str, data: str | None, network: str | None = None
    ) -> Content:
        return _content(
            of_workload(workload),
            of_framework(framework.partition("==")[0]),
            environment(framework),
            of_data(data),
            of_network(network),
        )

    return content


def check(
    content: Content, workload: Workload, settings: Settings, overrides: Overrides, run_id: str
) -> None:
    """Raise SweepError if this machine now has other contents than were planned.

    The trial would then not be what its id says. Files are checked for each trial, an environment
    once per run.
    """
    if not content:
        return
    framework, environment = settings["framework"], ""
    if ENVIRONMENT in content:
        environment = _environment_in(
            run_id, framework, json.dumps(dict(overrides.get(framework, {})))
        )
    data = _data(settings.get("data")) if DATA in content else ""
    network = _network(settings.get("network")) if NETWORK in content else ""
    now = _content(
        _workload_word(workload),
        _framework_word(framework.partition("==")[0]),
        environment,
        data,
        network,
    )
    if changed := differences(content, now, settings):
        hint = (
            "if it was edited meanwhile, start sweep run again;"
            " if nodes differ, install the same on all of them"
        )
        raise SweepError(f"{' and '.join(changed)} is not what was planned", hint)


def differences(one: Content, other: Content, settings: Settings) -> list[str]:
    """Return what differs between two contents of a trial with these settings, in words."""
    framework = settings["framework"]
    words = {
        WORKLOAD: f"workload {settings['workload']}",
        FRAMEWORK: f"framework {framework.partition('==')[0]}",
        ENVIRONMENT: f"the environment of {framework}",
        DATA: f"data set {settings.get('data')}",
        NETWORK: f"network {settings.get('network')}",
    }
    return [phrase for name, phrase in words.items() if one.get(name) != other.get(name)]


def _content(workload: str, framework: str, environment: str, data: str, network: str) -> Content:
    words = {
        WORKLOAD: workload,
        FRAMEWORK: framework,
        ENVIRONMENT: environment,
        DATA: data,
        NETWORK: network,
    }
    return {name: word for name, word in words.items() if word}


def _workload_word(workload: Workload) -> str:
    # The reference is left out: a parity check compares with it and decides whether a trial is
    # timed, not how long it takes.
    files = dependencies.files_of(_EVERY_TRIAL)
    files |= dependencies.files_of(workload.path, without=_FRAMEWORKS)
    files |= workload.step.files if workload.step else {}
    return _word(files.items())


def _framework_word(name: str) -> str:
    files = dependencies.files_of(_framework(name).path)
    return _word((name, path) for name, path in files.items() if _is_of_a_framework(path))


def _is_of_a_framework(path: Path) -> bool:
    """Return whether a file counts for the framework.

    Layers count for the workload, which builds its network from them.
    """
    return path.is_relative_to(_FRAMEWORKS) or not dependencies.is_of_sweep(path)


def _word(files: Iterable[tuple[str, Path]]) -> str:
    """Return a digest of a user's own files, and each of sweep's files with a raised MEASURES."""
    listed = list(files)
    # Files of sweep count by their MEASURES, so that a refactoring does not change any id.
    own = {name: path for name, path in listed if not dependencies.is_of_sweep(path)}
    versions = {name: dependencies.measures(path) for name, path in listed if name not in own}
    raised = [f"{name} {version}" for name, version in versions.items() if version != _FIRST]
    digest = [digests.of_files(own)] if own else []
    return ", ".join([*digest, *raised])


def _data(name: str | None) -> str:
    return ", ".join(map(str, datasets.get(name).made_by)) if name else ""


def _network(name: str | None) -> str:
    """Return the content of a network; its layers count for the workload."""
    if not name:
        return ""
    files = dependencies.files_of(catalog.get_network(name).path)
    return _word(
        (name, path)
        for name, path in files.items()
        if path.is_relative_to(_NETWORKS) or not dependencies.is_of_sweep(path)
    )


def _environment(framework: str, override: Mapping[str, Any]) -> str:
    if not override:
        return ""
    name, _, version = framework.partition("==")
    return contents.content(_framework(name), version or None, override)


@functools.lru_cache(maxsize=256)
def _environment_in(run_id: str, framework: str, override: str) -> str:  # noqa: ARG001
    """Return the content of an environment; `run_id` makes the cache forget it between runs."""
    return _environment(framework, json.loads(override))


@functools.lru_cache(maxsize=256)
def _framework(name: str) -> catalog.Framework:
    return catalog.framework_or_package(name)
