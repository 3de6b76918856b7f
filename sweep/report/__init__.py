"""The report: a run as one HTML file, which asks nothing of any network and lets its reader choose what to look along.

`measured` takes out of the run what is shown, `sections` says it in HTML, `content` gives the numbers to
`templates/report.js`, which puts them into plots and tables.
"""

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
    """The report as HTML. Raises SweepError where the run has no records."""
    measured = measure(run)
    parts = [section for section in sections(run, measured) if section.body]
    style, script = (_template(f"report.{kind}") for kind in ("css", "js"))
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
        trusted=f"{_trusted(libraries)} {_trusted(script)}",
    )


def _template(file: str) -> str:
    return (importlib.resources.files("sweep.report") / "templates" / file).read_text("utf-8")


def _section(section: Section) -> str:
    return f'<section id="{section.id}"><h2>{section.title}</h2>\n{section.body}\n</section>'


def _embedded(content: Mapping[str, Any]) -> str:
    """JSON that no text in it can end: in a script element only `<` could."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _trusted(script: str) -> str:
    """The only scripts that the page may run are these; so says its content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
