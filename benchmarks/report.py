"""How large a report is, how long it takes to write, and how soon a browser has opened and drawn it.

    python benchmarks/report.py [--cells 1000] [--seeds 5] [--samples 100]

The run is made up: framework versions × backward × batch sizes. Opening is timed in headless Chromium, where there is
one: until the page's tables are filled and can be sorted, and until the last plot is drawn.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import sweep
from sweep.report import report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from made_up import keep_at_once, record, samples

BATCHES = 10


def write(folder: Path, cells: int, seeds: int, count: int) -> None:
    versions = cells // (2 * BATCHES)
    records = [
        record(
            s, framework=f"torch=={v}", backward=b, batch_exponent=n, step_s=samples(s, 0.01 * 2**n, f"{v}{b}", count)
        )
        for s in range(seeds)
        for v in range(versions)
        for b in ("autograd", "explicit")
        for n in range(BATCHES)
    ]
    keep_at_once(folder, records)


def opened(file: Path) -> tuple[float, float]:
    """Seconds until the page's tables are there, and until all plots are."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,1000"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        start = time.perf_counter()
        browser.get(file.as_uri())
        readable = until(browser, "return !!document.querySelector('[data-table=cells] tbody tr')", start)
        drawn = until(browser, "return document.querySelector('main').getAttribute('aria-busy') === 'false'", start)
    return readable, drawn


def until(browser: object, script: str, start: float) -> float:
    while not browser.execute_script(script):  # type: ignore[attr-defined]
        time.sleep(0.01)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "run", given.cells, given.seeds, given.samples)
        start = time.perf_counter()
        page = report(sweep.load(Path(folder) / "run"))
        print(f"{given.cells} cells × {given.seeds} seeds × {given.samples} samples")
        print(f"written in {time.perf_counter() - start:.1f} s, {len(page.encode()) / 1e6:.1f} MB")
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        if shutil.which("chromedriver") is None:
            print("not opened: there is no chromium here")
            return
        best = min(opened(file) for _ in range(3))
        print(f"readable after {best[0]:.1f} s, all drawn after {best[1]:.1f} s (the best of 3)")


if __name__ == "__main__":
    main()
