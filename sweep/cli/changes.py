"""Changes: the output of what a bisection has found."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.cli import output
from sweep.cli.tables import Column, Format, emit
from sweep.errors import FAILED, INCONCLUSIVE
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.additions import Bisection
    from sweep.analysis.summary import Summary
    from sweep.bisection import Found, Pair
    from sweep.records.results import Results

_MOST_SHOWN = 8  # of what else changed


@dataclass(frozen=True)
class Changes:
    """What a search has found, with the results of its run."""

    search: Bisection
    results: Results
    found: Found
    over: str

    @property
    def code(self) -> int:
        """The exit code of the command."""
        if self.found.ends.ratio is None:
            return FAILED
        return INCONCLUSIVE if self.found.ends.finding == "open" or self.found.open else 0

    @functools.cached_property
    def _summaries(self) -> list[Summary | None]:
        return self.search.summaries(self.results)

    def write(self, form: Format | None) -> None:
        """Write sentences, or a row per finding, to stdout."""
        if form is None:
            output.emit("\n".join(self._sentences()))
            return
        rows = list(self._rows())
        emit(form, _columns(rows), rows)

    def _sentences(self) -> Iterator[str]:
        found = self.found
        is_open = found.ends.ratio is not None and found.ends.finding == "open"
        fix = "; not decided: try a greater --max-seeds or --margin" if is_open else ""
        yield f"{self._sentence(found.ends)}{fix}"
        for change in found.changes:
            yield f"change: {self._sentence(change)}"
            if changed := self._changed(change):
                yield f"  with it: {_few(changed)}"
            yield f"  compare: {self._comparison(change)}"
        for pair in found.same:
            yield f"no change: {self._sentence(pair)}"
        for pair, reason in found.open:
            yield f"open: {self._sentence(pair)}: {reason}"
        for value in found.fruitless:
            yield f"not measured: {self._name(value)}: {self._failures(value)}"
        if found.ends.finding == "differs" and not found.changes and not found.open:
            yield "no change was found between neighbours"

    def _sentence(self, pair: Pair) -> str:
        """Return how the later value compares with the earlier one."""
        from sweep.analysis.quantities import factors
        from sweep.analysis.wording import inverse, percent, phrases

        before, after = self._name(pair.before), self._name(pair.after)
        summary = self._summaries[pair.after] or self._summaries[pair.before]
        if pair.ratio is None or summary is None:
            return f"{after} cannot be compared with {before}: one of them gives no figures"
        blocks = f"({counted(pair.ratio.pairs, 'block')})"
        say = phrases(summary.metric, summary.metadata)
        better = pair.ratio.speedup(summary.metadata.direction).interval()
        if better is None:
            return f"{after} against {before}: too few blocks {blocks}"
        ratio = pair.ratio.interval()
        seen = f"{factors(ratio)} {say.what}" if ratio else ""
        if pair.finding == "open":
            return f"{after} against {before}: {seen} {blocks}"
        if pair.finding == "same":
            within = percent(self.search.margin)
            return f"{after} {say.same} as {before} to within {within}: {seen} {blocks}"
        if better.estimate >= 1:
            return f"{after} {say.better.format(factors(better))} than {before} {blocks}"
        return f"{after} {say.worse.format(factors(inverse(better)))} than {before} {blocks}"

    def _rows(self) -> Iterator[dict[str, Any]]:
        from sweep.bisection import Pair

        yield self._row("ends", self.found.ends)
        for pair in self.found.changes:
            yield self._row("change", pair, changed=self._changed(pair))
        for pair in self.found.same:
            yield self._row("no change", pair)
        for pair, reason in self.found.open:
            yield self._row("open", pair, reason)
        for value in self.found.fruitless:
            unmeasured = Pair(value, value, None, "open")
            yield self._row("not measured", unmeasured, self._failures(value))

    def _row(
        self, what: str, pair: Pair, reason: str = "", changed: Sequence[str] = ()
    ) -> dict[str, Any]:
        interval = pair.ratio.interval() if pair.ratio else None
        return {
            "what": what,
            "before": self._value(pair.before),
            "after": self._value(pair.after),
            "finding": pair.finding,
            "ratio": interval.estimate if interval else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "blocks": pair.ratio.pairs if pair.ratio else 0,
            "margin": self.search.margin,
            "reason": reason,
            "changed": "; ".join(changed),
        }

    def _changed(self, pair: Pair) -> list[str]:
        """Return what else differs between two neighbours: packages, builds and settings."""
        from sweep.analysis import packages
        from sweep.analysis.verdict_warnings import environment_differences

        before, after = self._summaries[pair.before], self._summaries[pair.after]
        if before is None or after is None:
            return []
        lists = [
            self.results.environment(_last(each, "environment_id")) for each in (before, after)
        ]
        changed = packages.changed(*lists)
        for own in self._frameworks:
            changed.pop(own, None)
        return [
            *environment_differences(before, after),
            *(packages.change_text(name, *both) for name, both in changed.items()),
        ]

    def _comparison(self, pair: Pair) -> str:
        before, after = self._value(pair.before), self._value(pair.after)
        where = f"--where '{self.over}={before},{after}'"
        return f"sweep compare {self.results} --over {self.over} --baseline {before} {where}"

    @functools.cached_property
    def _frameworks(self) -> set[str]:
        """The packages that are compared: their difference is not worth a note."""
        from packaging.utils import canonicalize_name

        from sweep import catalog

        frameworks = catalog.frameworks()
        names = {str(cell.axes["framework"]).partition("==")[0] for cell in self.search.cells}
        packages = {frameworks[name].package if name in frameworks else name for name in names}
        return {canonicalize_name(package or "numpy") for package in packages}

    def _failures(self, value: int) -> str:
        """Return how the trials of a value ended, with the last line of the last error."""
        rows = self.results.records(["cell_id", "status", "error"]).to_pylist()
        mine = [row for row in rows if row["cell_id"] == self.search.cells[value].id]
        counts = Counter(row["status"] for row in mine)
        lines = [line for row in mine for line in (row["error"] or "").splitlines() if line.strip()]
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        return f"{statuses}: {lines[-1]}" if lines else statuses

    def _value(self, value: int) -> str:
        from sweep.selection import shown

        return shown(self.search.models[value].cell.axes[self.over])

    def _name(self, value: int) -> str:
        from sweep.axes import phrase

        return phrase(self.over, self.search.models[value].cell.axes[self.over])


def _last(summary: Summary, column: str) -> str:
    """Return the value of the newest trial that counts."""
    return next((str(value) for value in reversed(summary.column(column)) if value), "")


def _few(changed: Sequence[str]) -> str:
    more = len(changed) - _MOST_SHOWN
    rest = f" and {more} more: --format json has them all" if more > 0 else ""
    return "; ".join(changed[:_MOST_SHOWN]) + rest


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    from sweep.analysis.quantities import factors
    from sweep.analysis.statistics import Interval

    def ratio(row: Mapping[str, Any]) -> str:
        if row["ratio"] is None:
            return ""
        return factors(Interval(row["ratio"], row["low"], row["high"]))

    return [
        Column("", [row["what"] for row in rows], is_text=True),
        Column("before", [row["before"] for row in rows], is_text=True),
        Column("after", [row["after"] for row in rows], is_text=True),
        Column("ratio", [ratio(row) for row in rows]),
        Column("blocks", [str(row["blocks"]) for row in rows], 1),
        Column("with it", [row["changed"] for row in rows], 2, is_text=True),
        Column("why", [row["reason"] for row in rows], 3, is_text=True),
    ]
