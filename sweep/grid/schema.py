"""The JSON Schema of grid files, in which editors find every key, axis and parameter with what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sweep.grid.axes import BACKWARDS, HOUSE, NOT_AXES, SEED, SEEDS
from sweep.grid.language import GridFile, Until
from sweep.grid.quantities import ANY_SCALAR, values_schema
from sweep.grid.words import Framework, Workload


def schema(frameworks: Mapping[str, Framework], workloads: Mapping[str, Workload]) -> dict[str, Any]:
    """The schema of a grid for these frameworks and workloads. What JSON Schema cannot say is left to `expand`."""
    document = GridFile.model_json_schema()
    parameters = {name: value for each in workloads.values() for name, value in each.parameters.items()}
    axes = _axes_of_the_house(frameworks, workloads)
    choices = {name: {"enum": list(values)} for each in workloads.values() for name, values in each.choices.items()}
    axes |= {name: values_schema(choices.get(name, ANY_SCALAR)) for name in parameters if name not in NOT_AXES}
    settings: dict[str, Any] = {name: _like(value) | choices.get(name, {}) for name, value in parameters.items()}
    settings |= {name: {"type": "object", "description": f"For {name} alone"} for name in workloads}
    settings["until"] = Until.model_json_schema()
    document["properties"]["workload"] |= axes["workload"]
    document["properties"]["axes"] |= {"properties": axes, "additionalProperties": False}
    document["properties"]["parameters"] |= {"properties": settings, "additionalProperties": False}
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A grid of sweep"}
    return titled | {key: _without_titles(value) for key, value in document.items() if key != "title"}


def _axes_of_the_house(frameworks: Mapping[str, Framework], workloads: Mapping[str, Workload]) -> dict[str, Any]:
    named = "|".join(re.escape(name) for name in frameworks)
    one = {
        "workload": _among(workloads, "What a trial does"),
        "framework": {
            "type": "string",
            "pattern": rf"^\s*({named})\s*(==.+)?$",
            "description": "Framework and exact version, as torch==2.13.0",
        },
        "backend": _among({b for f in frameworks.values() for b in f.backends}, "Which implementation computes"),
        "backward": _among(BACKWARDS, "How the loss is differentiated"),
        "device": _among({d for f in frameworks.values() for d in f.devices}, "Where it computes"),
        "batch_exponent": {"type": "integer", "minimum": 0, "description": "n of the batch size 2**n"},
        SEED: {"type": "integer", "minimum": 0, "description": "Replicates: a fresh process for each"},
    }
    defaults: dict[str, Any] = {name: list(values) for name, values in (HOUSE | {SEED: SEEDS}).items() if values}
    return {
        name: values_schema(each) | {"description": each["description"], "default": defaults.get(name)}
        for name, each in one.items()
    }


def _like(default: Any) -> dict[str, Any]:
    """A parameter, of the type of its default; that of one without is not known."""
    kinds: dict[type, Any] = {bool: "boolean", int: "number", float: "number", str: ["string", "null"]}
    kind = next((name for kind, name in kinds.items() if isinstance(default, kind)), None)
    return {"default": default} | ({"type": kind} if kind else {})


def _among(words: Any, description: str) -> dict[str, Any]:
    return {"enum": sorted(words), "description": description}


def _without_titles(value: Any) -> Any:
    """Pydantic titles every key with the key itself."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_titles(each) for key, each in value.items() if key != "title" or not isinstance(each, str)}
