"""What the files under `workloads/` measure: a digest of the code of each, without comments and docstrings.

python tests/measures.py    # writes measures.json, once it has been decided whether MEASURES is to be raised
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from sweep import catalog, dependencies

KEPT = Path(__file__).with_name("measures.json")


def found() -> dict[str, Any]:
    """For each file the version of what it measures, and the digest of its code."""
    files = sorted(catalog.WORKLOADS.rglob("*.py"))
    return {
        str(path.relative_to(catalog.WORKLOADS.parent)): [
            dependencies.measures(path),
            digest(path.read_text()),
        ]
        for path in files
    }


def digest(source: str) -> str:
    """The same for the same code, whatever is said about it and whichever Python reads it."""
    return hashlib.sha256(json.dumps(_plain(ast.parse(source))).encode()).hexdigest()[:12]


def _plain(node: Any) -> Any:
    """A syntax tree as lists; without what only newer Pythons put there, and without texts that stand alone."""
    if isinstance(node, list):
        return [_plain(each) for each in node if not _says_something(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (
        (name, value)
        for name, value in ast.iter_fields(node)
        if value not in (None, []) and name != "kind"
    )
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields)]


def _says_something(node: Any) -> bool:
    if isinstance(node, ast.Assign):  # MEASURES itself is kept beside the digest
        return any(
            isinstance(target, ast.Name) and target.id == "MEASURES" for target in node.targets
        )
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


if __name__ == "__main__":
    KEPT.write_text(json.dumps(found(), indent=1) + "\n")
