"""The source of a grid: its YAML text as plain values, with the line of each.

PyYAML reads YAML 1.1, in which `no` is false and `12:30` is 750. Here only its parser is used;
values follow the core schema of YAML 1.2. Size, depth and aliases are limited: a grid may come from
a stranger.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import SweepError
from sweep.texts import printable

Keys = Sequence[str | int]  # the path to a value of a grid: keys, and indices in lists

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 30
_MOST_NODES = 200_000  # with aliases expanded

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,16}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None} | {
    spelt: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelt in (word, word.capitalize(), word.upper())
}
_QUOTED = ("'", '"', "|", ">")
_KNOWN_TAGS = ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value")


_YAML_HINT = (
    "a grid is YAML: key: value, lists in [ ], texts with special signs in quotes; see docs/grid.md"
)


def read(path: str | Path) -> Source:
    """Return the source in a file; SweepError if there is none, or if it is not text."""
    name = printable(str(path))
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SweepError(
            f"the grid {name} cannot be read: {reason}", "name a YAML file, as grid.yaml"
        ) from None
    if len(data) > _MOST_BYTES:
        raise SweepError(
            f"the grid {name} is larger than {_MOST_BYTES:,} bytes",
            "use ranges and axes, not lists of cells",
        )
    try:
        return Source(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError:
        raise SweepError(f"the grid {name} is no text in UTF-8", _YAML_HINT) from None


def scalar(text: str) -> Any:
    """Return what a word without quotes means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 10 if text.lstrip("+-").isdigit() else 0)
    return float(text) if _FLOAT.fullmatch(text) else text


class Source:
    """The text and values of a grid file."""

    def __init__(self, text: str, path: str = "") -> None:
        self.text = text
        self.name = printable(path) or "the grid"
        self._root = self._composed()
        self.values = self._plain(self._root) if self._root else None
        # Keys whose values the command line replaced, with the option that did.
        self.replaced: dict[tuple[str | int, ...], str] = {}

    def error(self, keys: Keys, message: str, hint: str = "") -> SweepError:
        """Return a SweepError about a path of keys, with the file and the line.

        The line is that of the innermost key in the text. If an option of the command line replaced
        the value, the error names that option.
        """
        path = f"{dotted(keys)}: " if keys else ""
        for length in range(len(keys), 0, -1):
            if option := self.replaced.get(tuple(keys[:length])):
                return SweepError(f"{option}: {path}{message}", hint)
        line = self._line(keys)
        where = f"{self.name}, line {line}" if line else self.name
        return SweepError(f"{where}: {path}{message}", hint)

    @property
    def kind(self) -> str:
        """What the document as a whole is, in words."""
        if isinstance(self.values, list):
            return "a list"
        return "keys" if isinstance(self.values, dict) else "one value"

    def _line(self, keys: Keys) -> int | None:
        """Return the line of the innermost key that is in the file, or None."""
        node, line = self._root, None
        for step in keys:
            child = next((pair for pair in _children(node) if _is_key(pair[0], step)), None)
            if child is None:
                return line
            key, node = child
            # An item of a list has an index instead of a node as its key.
            marked = key if isinstance(key, yaml.Node) else node
            line = marked.start_mark.line + 1
        return line

    def _composed(self) -> yaml.Node | None:
        try:
            self._check_depth()
            loader = _Loader(self.text)
            try:
                root: yaml.Node | None = loader.get_single_node()
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            problem = error.problem
            if error.context and _continues_context(error):
                problem = f"{error.context} {error.problem}"
            raise SweepError(f"{self.name}{line} is not YAML: {problem}", _YAML_HINT) from None
        except yaml.YAMLError as error:
            raise SweepError(
                f"{self.name} is not YAML: {str(error).splitlines()[0]}", _YAML_HINT
            ) from None
        if root:
            self._check_size(root)
        return root

    def _check_depth(self) -> None:
        """Refuse deep nesting, by events: PyYAML's composer would exceed the recursion limit."""
        depth = 0
        for event in yaml.parse(self.text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise SweepError(
                    f"{self.name}, line {line}: lists within lists, {depth} deep",
                    "no grid needs that",
                )

    def _check_size(self, root: yaml.Node) -> None:
        """Refuse a document that is too large with its aliases expanded, without expanding them."""
        sizes: dict[int, int] = {}

        def size(node: yaml.Node, above: tuple[int, ...]) -> int:
            if id(node) in above:
                raise self._error_at(node, "an alias stands for itself", "write the values out")
            if id(node) not in sizes:
                nodes = (
                    child
                    for pair in _children(node)
                    for child in pair
                    if isinstance(child, yaml.Node)
                )
                sizes[id(node)] = 1 + sum(size(child, (*above, id(node))) for child in nodes)
            return sizes[id(node)]

        # A few nested aliases can stand for billions of values.
        if (total := size(root, ())) > _MOST_NODES:
            raise self._error_at(
                root,
                f"{total:,} values with its aliases written out,"
                f" more than the {_MOST_NODES:,} that can be",
                "use a range, or axes instead of lists of cells",
            )

    def _plain(self, node: yaml.Node) -> Any:
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _KNOWN_TAGS:
            raise self._error_at(
                node, f"the tag {node.tag!r} is not for grids", "leave the tag out"
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(child) for child in node.value]
        return self._mapping(node)

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        """Return a mapping; its own keys take precedence over those it merges."""
        mapping: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag.endswith(":merge"):
                merged = self._merged(value) | merged
                continue
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                raise self._error_at(key, "a key that is no word", "write key: value")
            if key.value in mapping:
                message = f"the key {key.value!r} is there twice, first in line {lines[key.value]}"
                raise self._error_at(key, message, "keep one of them")
            mapping[key.value] = self._plain(value)
            lines[key.value] = key.start_mark.line + 1
        return merged | mapping

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        """Return what `<<` merges: a mapping, or several, of which the first takes precedence."""
        merged: dict[str, Any] = {}
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(each, yaml.MappingNode):
                raise self._error_at(
                    each, "<< brings in what is no mapping", "write <<: *name of a mapping"
                )
            merged = self._mapping(each) | merged
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """Return a scalar by the core schema of YAML 1.2.

        `no` is a word, 1e-4 a number, and 12:30 a text, not a number in base 60.
        """
        # Quoted text is never a number: "2.10" stays a version.
        if node.style in _QUOTED:
            return node.value
        value = scalar(node.value)
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error_at(node, f"{node.value} is no finite number", "write one that is")
        return value

    def _error_at(self, node: yaml.Node, message: str, hint: str) -> SweepError:
        return SweepError(f"{self.name}, line {node.start_mark.line + 1}: {message}", hint)


def _continues_context(error: yaml.MarkedYAMLError) -> bool:
    """Return whether the problem is the second half of a sentence that the context begins.

    An example: "expected a single document", "but found another".
    """
    return str(error.problem).startswith("but ")


def _children(node: yaml.Node | None) -> list[tuple[Any, yaml.Node]]:
    """Return the children of a node, each with its key as a node or its index."""
    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    return list(enumerate(node.value)) if isinstance(node, yaml.SequenceNode) else []


def _is_key(key: Any, step: str | int) -> bool:
    return bool((key.value if isinstance(key, yaml.ScalarNode) else key) == step)


def dotted(keys: Keys) -> str:
    """Return a path of keys as text, with indices from 1: `claims[1].expect`."""
    text = "".join(
        f"[{step + 1}]" if isinstance(step, int) else f".{printable(step)}" for step in keys
    )
    return text.removeprefix(".")
