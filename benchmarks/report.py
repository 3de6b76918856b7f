"""The size of a report, the time to write it, and the time until a browser has drawn it.

The run is generated: framework versions × backward × batch sizes. Opening is timed in headless
Chromium, if it is installed: until the page's tables are filled and can be sorted, and until the
last plot is drawn, the best of three. No other tool makes such a page of such a run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sweep
from benchmarks.figures import OURS, Figure, target
from sweep.report import report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from made_up import keep_at_once, record, samples

BATCHES, SEEDS, SAMPLES = 10, 5, 100


def figures(quick: bool) -> Iterator[Figure]:
    cells = 100 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        run, file = Path(folder, "run"), Path(folder, "report.html")
        write(run, cells, SEEDS, SAMPLES)
        start = time.perf_counter()
        page = report(sweep.load(run))
        written_s = time.perf_counter() - start
        file.write_text(page, encoding="utf-8")
        told = f"a report of {cells:,} cells"
        yield from (Figure(f"writing {told}", OURS, written_s), target(f"writing {told}", 10.0))
        size = f"the size of {told}"
        yield from (Figure(size, OURS, len(page.encode()), "B"), target(size, 15e6, "B"))
        if shutil.which("chromedriver") is None:
            print("the report is not opened: there is no Chromium here", file=sys.stderr)
            return
        readable_s, drawn_s = min(opened(file) for _ in range(3))
    for what, seconds in (
        (f"opening {told}, to read", readable_s),
        (f"opening {told}, all plots drawn", drawn_s),
    ):
        yield from (Figure(what, OURS, seconds), target(what, 3.0))


def write(folder: Path, cells: int, seeds: int, count: int) -> None:
    versions = cells // (2 * BATCHES)
    records = [
        record(
            s,
            framework=f"torch=={v}",
            backward=b,
            batch_exponent=n,
            step_s=samples(s, 0.01 * 2**n, f"{v}{b}", count),
        )
        for s in range(seeds)
        for v in range(versions)
        for b in ("autograd", "explicit")
        for n in range(BATCHES)
    ]
    keep_at_once(folder, records)


def opened(file: Path) -> tuple[float, float]:
    """Return the seconds until the page's tables are filled, and until all plots are drawn."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--window-size=1280,1000",
    ):
        options.add_argument(flag)
    with webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    ) as browser:
        start = time.perf_counter()
        browser.get(file.as_uri())
        readable = until(
            browser, "return !!document.querySelector('[data-table=cells] tbody tr')", start
        )
        drawn = until(
            browser,
            "return document.querySelector('main').getAttribute('aria-busy') === 'false'",
            start,
        )
    return readable, drawn


def until(browser: object, script: str, start: float) -> float:
    while not browser.execute_script(script):  # type: ignore[attr-defined]
        time.sleep(0.01)
    return time.perf_counter() - start
