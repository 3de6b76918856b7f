"""The peak memory of the process that drives a sweep, after a few trials and after many.

The trials do nothing. While they run, a planned trial and the facts that are kept of an ended one
take 0.8 KiB together. Folding takes a few megabytes, however much it folds. The summary at the
end of a sweep reads the columns that it needs of every record, 0.2 KiB a trial, with each
distinct text once. The figures include all of that.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import OURS, Figure, target
from benchmarks.trials import by_sweep


def figures(quick: bool) -> Iterator[Figure]:
    few, many = (100, 300) if quick else (100, 20_000)
    run = by_sweep("reference", True)
    least, most = run(few), run(many)
    what = "memory of the driver"
    note = f"{many / most.seconds:.0f} trials a second, its start included"
    yield Figure(what, f"{OURS}, {many:,} trials", most.peak_rss_bytes, "B", note)
    yield Figure(what, f"{OURS}, {few:,} trials", least.peak_rss_bytes, "B")
    yield target(what, 1.1 * least.peak_rss_bytes, "B", "a tenth more than for few")
