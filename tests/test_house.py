"""The house itself: what the repository may not hold, and what its documents promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (HOUSE / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to it")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    return [HOUSE / name for name in listed.stdout.split("\0") if name and (HOUSE / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_no_file_names_a_registry_or_carries_a_lock() -> None:
    hosts = re.compile(r"py" + r"pi\.org|python" + r"hosted\.org|registry\.npm" + r"js")
    assert [p for p in tracked_files() if hosts.search(text_of(p))] == []
    assert [p for p in tracked_files() if p.name in {"uv.lock", "poetry.lock"}] == []


def test_every_document_is_linked_from_the_readme_or_another_document() -> None:
    documents = [p for p in tracked_files() if p.parent == HOUSE / "docs" and p.suffix == ".md"]
    texts = {p: text_of(p) for p in [*documents, HOUSE / "README.md", HOUSE / "CONTRIBUTING.md"]}
    unlinked = [
        p.name for p in documents if not any(p.name in text for q, text in texts.items() if q != p)
    ]
    assert unlinked == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    path = HOUSE / document
    links = re.findall(r"\]\(([^)#:]+)\)", text_of(path))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_file_of_the_workloads_can_be_read_by_python_3_6() -> None:
    """A syntax check by the grammar of 3.6; `vermin` and the real interpreters look deeper."""
    import ast

    for path in (HOUSE / "workloads").rglob("*.py"):
        ast.parse(text_of(path), filename=str(path), feature_version=(3, 6))
