"""The JSON Schema of grid files: editors complete every key, axis and parameter from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sweep.axes import AXES, BATCH_SIZE, NOT_AXES, Axis
from sweep.grid.language import GridFile, Until
from sweep.grid.quantities import ANY_SCALAR, VERSIONS_SCHEMA, values_schema
from sweep.grid.words import Framework, Workload

_STEP = r"\.py$"  # a path of a step file


def schema(
    frameworks: Mapping[str, Framework], workloads: Mapping[str, Workload]
) -> dict[str, Any]:
    """Return the schema of a grid for these frameworks and workloads.

    `expand` checks what JSON Schema cannot express.
    """
    document = GridFile.model_json_schema()
    parameters = {
        name: value for each in workloads.values() for name, value in each.parameters.items()
    }
    axes = _built_in_axes(frameworks, workloads)
    choices = {
        name: {"enum": list(values)}
        for each in workloads.values()
        for name, values in each.choices.items()
    }
    axes[BATCH_SIZE] = values_schema({"type": "integer", "minimum": 1})
    axes |= {
        name: values_schema(choices.get(name, ANY_SCALAR))
        for name in parameters
        if name not in NOT_AXES
    }
    settings: dict[str, Any] = {
        name: _like(value) | choices.get(name, {}) for name, value in parameters.items()
    }
    settings |= {name: {"type": "object", "description": f"For {name} alone"} for name in workloads}
    settings["until"] = Until.model_json_schema()
    document["properties"]["workload"] |= axes["workload"]
    of_any_package = {"framework": _without_pattern(axes["framework"])}
    document["properties"]["axes"] |= {"properties": axes | of_any_package}
    document["properties"]["parameters"] |= {"properties": settings}
    document |= _unless_of_a_step(
        {
            "axes": dict.fromkeys(axes, True) | {"framework": axes["framework"]},
            "parameters": dict.fromkeys(settings, True),
        }
    )
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A grid of sweep"}
    return titled | {
        key: _without_titles(value) for key, value in document.items() if key != "title"
    }


def _unless_of_a_step(closed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the condition under which these tables have no other keys.

    A step file has parameters of its own, and takes any package for a framework.
    """
    names_a_step = {"workload": {"type": "string", "pattern": _STEP}}
    tables = {
        name: {"properties": dict(known), "additionalProperties": False}
        for name, known in closed.items()
    }
    return {
        "if": {"properties": names_a_step, "required": ["workload"]},
        "then": True,
        "else": {"properties": tables},
    }


def _without_pattern(value: Any) -> Any:
    """Return a schema without the patterns of its texts."""
    if isinstance(value, list):
        return [_without_pattern(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_pattern(each) for key, each in value.items() if key != "pattern"}


def _built_in_axes(
    frameworks: Mapping[str, Framework], workloads: Mapping[str, Workload]
) -> dict[str, Any]:
    named = "|".join(re.escape(name) for name in frameworks)
    known: dict[str, Iterable[str]] = {
        "backend": {backend for framework in frameworks.values() for backend in framework.backends},
        "device": {device for framework in frameworks.values() for device in framework.devices},
    }
    values: dict[str, dict[str, Any]] = {
        "workload": {"anyOf": [{"enum": sorted(workloads)}, {"type": "string", "pattern": _STEP}]},
        "framework": {"type": "string", "pattern": rf"^\s*({named})\s*([<>=!~]=?.+)?$"},
    }
    return {
        axis.name: _axis_schema(
            axis, values.get(axis.name) or _values_of(axis, known.get(axis.name, axis.values))
        )
        for axis in AXES.values()
    }


def _axis_schema(axis: Axis, values: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one value or several, with the axis's meaning and default."""
    about = {"description": axis.meaning, "default": list(axis.default) or None}
    ranges = (VERSIONS_SCHEMA,) if axis.name == "framework" else ()
    return values_schema(values | {"description": axis.meaning}, *ranges) | about


def _values_of(axis: Axis, known: Iterable[str]) -> dict[str, Any]:
    return {"type": "integer", "minimum": axis.least} if axis.is_whole else {"enum": sorted(known)}


def _like(default: Any) -> dict[str, Any]:
    """Return the schema of a parameter from its default; any type is allowed if that is None."""
    # bool is a subclass of int: it comes first.
    kinds: dict[type, Any] = {
        bool: "boolean",
        int: "number",
        float: "number",
        str: ["string", "null"],
    }
    kind = next((name for kind, name in kinds.items() if isinstance(default, kind)), None)
    return {"default": default} | ({"type": kind} if kind else {})


def _without_titles(value: Any) -> Any:
    """Return the schema without titles: pydantic gives every key its own name as title."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    # A property may be called "title"; its value is then a schema and not text.
    return {
        key: _without_titles(each)
        for key, each in value.items()
        if key != "title" or not isinstance(each, str)
    }
