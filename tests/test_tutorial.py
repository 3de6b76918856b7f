"""The tutorial: its grid and its commands do what it says, and the site that it is a page of can be built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from documents import HOUSE, blocks, commands, path_with_sweep, typed

TUTORIAL = "docs/tutorial.md"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    (grid,) = blocks(TUTORIAL, "yaml")
    (tmp_path / "first.yaml").write_text(grid)
    path = path_with_sweep(tmp_path / "bin")
    outputs = {}
    shown = commands(TUTORIAL)
    assert len(shown) == 7
    for command in shown:
        ended = typed(command, tmp_path, PATH=path)
        # a machine that others use may leave the question open, or answer it either way
        accepted = (0, 1, 3) if "compare" in command or "verify" in command else (0,)
        assert ended.returncode in accepted, f"{command}: {ended.stdout}{ended.stderr}"
        outputs[command] = ended.stdout
    assert "reference==1.26.4" in outputs["sweep run first.yaml"]
    compared = outputs["sweep compare first --over framework"].splitlines()
    for batch in (1, 2):
        assert any(
            "reference 1.26.4" in line and f"at batch {batch} on" in line for line in compared
        )
    assert "NumPy 2 is no slower" in outputs["sweep verify first"]
    assert (tmp_path / "time.svg").read_text().startswith("<svg")
    assert (tmp_path / "results/first/report.html").exists()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "tutorial" / "index.html").exists()


def test_every_page_has_its_place_in_the_site() -> None:
    site = (HOUSE / "mkdocs.yml").read_text(encoding="utf-8")
    overview = (HOUSE / "docs/index.md").read_text(encoding="utf-8")
    for page in (HOUSE / "docs").glob("*.md"):
        assert f": {page.name}\n" in site, page.name
        assert page.name == "index.md" or f"({page.name})" in overview, page.name
