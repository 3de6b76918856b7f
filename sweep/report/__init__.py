"""The report: a run as one interactive HTML file, which needs no network.

`measured` selects the figures of the run, `sections` describes them in HTML, and `content` passes
them as JSON to `templates/report.js`, which fills plots and tables. `document` joins the parts.
"""

from sweep.report.document import report

__all__ = ["report"]
