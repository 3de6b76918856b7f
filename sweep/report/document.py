"""The report's document: the sections of a run, its figures and its scripts as one HTML page."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import importlib.resources
import json
import string
from collections.abc import Mapping
from typing import Any

from sweep.analysis.run import Run
from sweep.report import plots
from sweep.report.content import content
from sweep.report.measured import measure
from sweep.report.sections import Section, facts, sections


def report(run: Run, at: dt.datetime | None = None) -> str:
    """Return the report as HTML. Raises SweepError where the run has no records.

    `at` is the time that the page states, by default now.
    """
    measured = measure(run)
    parts = [section for section in sections(run, measured) if section.body]
    style, script = _template("report.css"), _template("report.js")
    # The text "</script" would end the element that holds the libraries.
    libraries = plots.javascript().replace("</script", r"<\/script")
    made = (at or dt.datetime.now(dt.UTC)).isoformat(sep=" ", timespec="minutes")
    return string.Template(_template("report.html")).substitute(
        name=html.escape(run.name),
        facts=facts(run, measured),
        contents=" ".join(f'<a href="#{section.id}">{section.title}</a>' for section in parts),
        sections="\n".join(map(_section, parts)),
        made=html.escape(f"Made {made} from {run.results}"),
        content=_embedded(content(run, measured)),
        style=style,
        script=script,
        libraries=libraries,
        trusted=f"{_script_hash(libraries)} {_script_hash(script)}",
    )


def _template(file: str) -> str:
    return (importlib.resources.files("sweep.report") / "templates" / file).read_text("utf-8")


def _section(section: Section) -> str:
    return f'<section id="{section.id}"><h2>{section.title}</h2>\n{section.body}\n</section>'


def _embedded(content: Mapping[str, Any]) -> str:
    """Return JSON for a script element, with escapes for the characters that could end it."""
    # Before 2019 these two characters ended a line in JavaScript, but not in JSON.
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _script_hash(script: str) -> str:
    """Return the hash by which the page's content security policy allows a script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
