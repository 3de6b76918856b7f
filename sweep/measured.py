"""Measured: what a trial measures beside its settings, so that records of different things never share an id.

A content is a few words, each there only where it says something:

- `workload` and `framework`: a digest of the file of a plug-in with all that it imports from its own package
  (`sweep.dependencies`), or of the files of a step (`sweep.steps`), and the MEASURES above 1 of the files of sweep that
  the trial runs.
- `network`: a digest of the file of a plug-in's network with all that it imports; the MEASURES above 1 of one of sweep's.
- `data`: a digest of a plug-in's data set, of its file with all that it imports; the version above 1 of one of sweep's.
- `environment`: what is really in an environment that the grid changes (`sweep.environments.contents`).

A trial of sweep's own files in a recipe's environment has none: it is known by its settings alone, in every version of
sweep. When a change to a file under `workloads/` changes what trials measure, its MEASURES is raised, and everything
that runs the file gets new ids. A test holds a digest of the code of each of these files, so that none changes without
somebody deciding that.
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
_EVERY_TRIAL = (
    dependencies.WORKLOADS / "runtime" / "host.py"
)  # the host, which makes its process and waits for it


def contents_of(
    workloads: Mapping[str, Workload], overrides: Overrides
) -> Callable[[str, str, str | None, str | None], Content]:
    """The contents of a grid with these `environments`, by workload, framework, data set and network.

    Calls raise SweepError where an environment names something that is not there or does not go together.
    """

    @functools.cache
    def environment(framework: str) -> str:
        return _environment(framework, overrides.get(framework, {}))

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
            workloads[workload],
            framework,
            environment(framework),
            of_data(data),
            of_network(network),
        )

    return content


def check(
    content: Content, workload: Workload, settings: Settings, overrides: Overrides, run_id: str
) -> None:
    """SweepError where this machine now holds something else than was planned: a trial would not be what it says.

    Files are looked at each time, an environment once in a run.
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
    now = _content(workload, framework, environment, data, network)
    if changed := differences(content, now, settings):
        hint = "if it was edited meanwhile, start sweep run again; if nodes differ, install the same on all of them"
        raise SweepError(f"{' and '.join(changed)} is not what was planned", hint)


def differences(one: Content, other: Content, settings: Settings) -> list[str]:
    """What has changed between two contents of a trial with these settings, in words."""
    framework = settings["framework"]
    words = {
        WORKLOAD: f"workload {settings['workload']}",
        FRAMEWORK: f"framework {framework.partition('==')[0]}",
        ENVIRONMENT: f"the environment of {framework}",
        DATA: f"data set {settings.get('data')}",
        NETWORK: f"network {settings.get('network')}",
    }
    return [said for name, said in words.items() if one.get(name) != other.get(name)]


def _content(
    workload: Workload, framework: str, environment: str, data: str, network: str
) -> Content:
    # the reference, which a parity check compares with, decides whether a trial is timed and not how long it takes
    of_trial = dependencies.found(_EVERY_TRIAL) | dependencies.found(
        workload.path, without=_FRAMEWORKS
    )
    of_trial |= workload.step.files if workload.step else {}
    of_framework = dependencies.found(_framework(framework.partition("==")[0]).path)
    words = {
        WORKLOAD: _word(of_trial.items()),
        FRAMEWORK: _word(
            (name, path) for name, path in of_framework.items() if _is_of_a_framework(path)
        ),
        ENVIRONMENT: environment,
        DATA: data,
        NETWORK: network,
    }
    return {name: word for name, word in words.items() if word}


def _is_of_a_framework(path: Path) -> bool:
    """Whether a file counts for the framework: layers count for the workload, which builds its network of them."""
    return path.is_relative_to(_FRAMEWORKS) or not dependencies.is_of_sweep(path)


def _word(files: Iterable[tuple[str, Path]]) -> str:
    """The digest of a user's own files, and the files of sweep that measure something else than at first."""
    listed = list(files)
    own = {name: path for name, path in listed if not dependencies.is_of_sweep(path)}
    versions = {name: dependencies.measures(path) for name, path in listed if name not in own}
    raised = [f"{name} {version}" for name, version in versions.items() if version != _FIRST]
    return ", ".join([*([digests.of_files(own)] if own else []), *raised])


def _data(name: str | None) -> str:
    return ", ".join(map(str, datasets.get(name).made_by)) if name else ""


def _network(name: str | None) -> str:
    """Layers count for the workload, as they do for a framework."""
    if not name:
        return ""
    files = dependencies.found(catalog.known_network(name).path)
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
def _environment_in(run_id: str, framework: str, override: str) -> str:  # noqa: ARG001  it is looked at anew in each run
    return _environment(framework, json.loads(override))


@functools.lru_cache(maxsize=256)
def _framework(name: str) -> catalog.Framework:
    return catalog.known_or_any(name)
