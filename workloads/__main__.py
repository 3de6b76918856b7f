"""The launcher: starts a host, with `--child` a single trial, with `--step` a single step.

It registers the package `workloads` by the folder of this file and keeps that folder's parent off
`sys.path`. So a trial cannot import what is installed beside it: the orchestrator's packages, or
another NumPy.
"""

import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _register() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    spec = importlib.util.spec_from_file_location(
        "workloads", os.path.join(_HERE, "__init__.py"), submodule_search_locations=[_HERE]
    )
    if spec is None or spec.loader is None:
        raise ImportError("the workloads cannot be imported from {}".format(_HERE))
    package = importlib.util.module_from_spec(spec)
    sys.modules["workloads"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _register()
    if sys.argv[1:2] == ["--step"]:
        from workloads.runtime import step

        step.main(sys.argv[2:])
    else:
        from workloads.runtime import host

        host.main(sys.argv[1:])
