"""The report in a real browser: what is drawn, what its reader can do, and that it asks nothing of a network."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from made_up import keep, keep_at_once, record, training
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from sweep.analysis import run as analysis
from sweep.grid import Exclusion
from sweep.report import figures, plots, report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium with its driver on this machine"
    ),
]
QUIET = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,1000",
    ),
)
TORCH, OLD, CHAINER = "torch==2.13.0", "torch==1.0.1", "chainer==7.8.1"
FACTORS = {TORCH: 1.0, OLD: 1.15, CHAINER: 2.3}
EVIL = "<script>document.title='pwned'</script>"
GRID = f"""\
name: core
axes: {{framework: [chainer==7.8.1, torch==1.0.1, torch==2.13.0]}}
claims:
  - {{name: "{EVIL}", compare: {{framework: [torch, chainer]}}, expect: {{faster: 0.05}}}}
"""


def core_time() -> list[dict[str, Any]]:
    cells = [(f, b, n) for f in FACTORS for b in ("autograd", "explicit") for n in range(5)]
    known = {"environment_id": "e1", "packages": [EVIL], "node": EVIL}
    return [
        record(
            s, framework=f, backward=b, batch_exponent=n, mean_s=0.02 * 2**n * FACTORS[f], **known
        )
        | {"position": 30 * s + i, "started_at": 1_700_000_000 + 60 * (30 * s + i)}
        for s in range(3)
        for i, (f, b, n) in enumerate(cells)
    ]


class Page:
    """A report, opened; waits until it is drawn."""

    def __init__(self, driver: webdriver.Chrome, file: Path, choices: str = "") -> None:
        self.driver = driver
        driver.get(f"{file.as_uri()}#{choices}")
        self.drawn()

    def drawn(self) -> None:
        busy = "return document.querySelector('main').getAttribute('aria-busy')"
        WebDriverWait(self.driver, 60, 0.05).until(lambda d: d.execute_script(busy) == "false")

    def choose(self, name: str, text: str) -> None:
        Select(self.driver.find_element(By.NAME, name)).select_by_visible_text(text)
        self.drawn()

    def filter(self, title: str, text: str) -> None:
        label = next(
            e
            for e in self.driver.find_elements(By.CSS_SELECTOR, "#filters label")
            if e.text.startswith(title)
        )
        Select(label.find_element(By.TAG_NAME, "select")).select_by_visible_text(text)
        self.drawn()

    def sort(self, table: str, title: str) -> None:
        buttons = self.driver.find_elements(By.CSS_SELECTOR, f"[data-table={table}] th button")
        button = next(button for button in buttons if button.text.startswith(title))
        self.driver.execute_script("arguments[0].click()", button)

    def marks(self, plot: str, mark: str = "symbol") -> int:
        marks = f"#plot-{plot} svg g.mark-{mark}.role-mark > path, #plot-{plot} svg g.mark-{mark}.role-mark > line"
        return len(self.driver.find_elements(By.CSS_SELECTOR, marks))

    def column(self, table: str, title: str) -> list[str]:
        script = """
            const table = document.querySelector(`[data-table=${arguments[0]}] table`);
            const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith(arguments[1]));
            return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);"""
        cells: list[str] = self.driver.execute_script(script, table, title)
        return cells

    def svg(self, plot: str) -> str:
        return (
            self.driver.find_element(By.CSS_SELECTOR, f"#plot-{plot} svg").get_attribute(
                "outerHTML"
            )
            or ""
        )

    def text(self, css: str) -> str:
        return " ".join(
            e.get_attribute("textContent") or ""
            for e in self.driver.find_elements(By.CSS_SELECTOR, css)
        )

    def complaints(self) -> list[Any]:
        return [
            line
            for line in self.driver.get_log("browser")
            if line["level"] in ("WARNING", "SEVERE")
        ]

    def requests(self) -> list[str]:
        """What was asked of a network, by this page and those before it."""
        events = [
            json.loads(line["message"])["message"] for line in self.driver.get_log("performance")
        ]
        sent = [
            e["params"]["request"]["url"]
            for e in events
            if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if url.startswith(("http", "ws", "ftp"))]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def core_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "core"
    keep(folder, core_time(), GRID, exclusions=[Exclusion(EVIL, EVIL)])
    file = folder / "report.html"
    file.write_text(report(analysis.Run(folder)), encoding="utf-8")
    return file


@pytest.fixture
def page(driver: webdriver.Chrome, core_file: Path) -> Iterator[Page]:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    driver.get("about:blank")  # so that the last test's choices, which are in the address, are gone
    opened = Page(driver, core_file)
    yield opened
    assert opened.complaints() == []
    assert opened.requests() == []


def test_every_plot_is_drawn_with_its_marks(page: Page) -> None:
    assert page.marks("time") == 30
    assert page.marks("time", "rule") == 30  # an interval for each
    assert page.marks("speedup") == 20
    assert page.marks("heatmap", "rect") == 20
    assert page.marks("split", "rect") == 60
    assert page.marks("processes") == 3 * 20  # of the first twenty cells
    assert page.marks("order") == 90
    assert "batch size (examples)" in page.text("#plot-time text")
    assert "step (ms)" in page.text("#plot-time text")


def test_a_filter_changes_marks_and_rows(page: Page) -> None:
    page.filter("framework", TORCH)
    assert page.marks("time") == 10
    assert set(page.column("cells", "framework")) == {TORCH}
    assert set(page.column("ratios", "framework")) == {TORCH}
    page.filter("batch size", "16")
    assert page.marks("time") == 2
    assert len(page.column("cells", "framework")) == 2
    page.filter("framework", "all")
    assert len(page.column("cells", "framework")) == 6


def test_a_click_on_a_column_sorts_and_another_turns_it_round(page: Page) -> None:
    page.sort("cells", "mean")
    upwards = [float(text) for text in page.column("cells", "mean")]
    assert upwards == sorted(upwards)
    page.sort("cells", "mean")
    assert [float(text) for text in page.column("cells", "mean")] == sorted(upwards, reverse=True)


def test_axes_and_metric_are_the_readers_choice(page: Page) -> None:
    page.choose("x", "framework")
    page.choose("colour", "batch size (examples)")
    assert {TORCH, OLD, CHAINER} <= set(
        page.text("#plot-time .role-axis-label").replace("torch", " torch").split()
    )
    assert page.marks("time") == 30
    page.choose("panels", "backward")
    assert "autograd" in page.text("#plot-time text")
    page.choose("metric", "backward (ms)")
    assert "backward (ms)" in page.text("#plot-time .role-axis-title")
    assert page.column("cells", "mean")[0] == f"{float(page.column('cells', 'mean')[0]):.2f}"


def test_speedups_follow_the_axis_that_is_compared_over(page: Page) -> None:
    page.choose("over", "backward")
    assert set(page.column("ratios", "baseline")) == {"autograd"}
    assert len(page.column("ratios", "baseline")) == 15
    assert page.marks("heatmap", "rect") == 15


def test_a_view_can_be_passed_on_by_its_address(page: Page, core_file: Path) -> None:
    page.filter("framework", CHAINER)
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    page.drawn()
    assert set(page.column("cells", "framework")) == {CHAINER}


def test_text_of_a_grid_is_never_run(page: Page) -> None:
    assert page.driver.title == "core – sweep report"
    for css in ("#answers", "[data-table=exclusions]", "#machines", "#environments"):
        assert EVIL in page.text(css)
    assert page.driver.execute_script("return document.scripts.length") == 3


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_readable_in_light_and_dark(page: Page, scheme: str, dark: bool) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    colours = """
        const of = (css, name) => getComputedStyle(document.querySelector(css))[name].match(/\\d+/g).map(Number);
        return [of("body", "backgroundColor"), of("body", "color"), of("#plot-time .role-axis-label text", "fill"),
                of(".faster", "color"), of(".facts", "color")];"""
    paper, *inks = page.driver.execute_script(colours)
    assert (luminance(paper) < 0.1) == dark
    for ink in inks:
        assert contrast(ink, paper) >= 4.5  # what WCAG asks of text


def luminance(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour, by WCAG 2."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[int], other: list[int]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_on_paper_controls_give_way_to_what_was_chosen(page: Page) -> None:
    page.filter("framework", TORCH)
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert not page.driver.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
    assert (
        page.driver.find_element(By.CSS_SELECTOR, ".chosen").text
        == f"Shown: step (ms), only framework {TORCH}."
    )
    paper = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    printed = base64.b64decode(page.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")


def test_learning_curves_are_drawn_over_a_logarithmic_time(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    of = [(f, b) for f in (TORCH, CHAINER) for b in ("autograd", "explicit")]
    keep(
        tmp_path / "train", [training(s, framework=f, backward=b) for s in range(3) for f, b in of]
    )
    (tmp_path / "report.html").write_text(
        report(analysis.Run(tmp_path / "train")), encoding="utf-8"
    )
    page = Page(driver, tmp_path / "report.html")
    assert page.marks("curve", "line") == 4
    assert page.marks("curve", "area") == 4
    assert page.marks("pck", "line") == 4
    lines = driver.find_elements(
        By.CSS_SELECTOR, "#plot-curve .mark-line path[role=graphics-symbol]"
    )
    styles = {
        (line.get_attribute("stroke"), line.get_attribute("stroke-dasharray")) for line in lines
    }
    assert len(styles) == 4
    assert "elapsed time (s)" in page.text("#plot-curve .role-axis-title")
    assert not driver.find_element(By.ID, "plot-split").is_displayed()
    assert page.complaints() == []


def marks_of(svg: str) -> Counter[tuple[str, ...]]:
    """What each mark of a drawing says of itself and how it is told apart, however large the drawing is."""
    names = ("aria-roledescription", "aria-label", "fill", "stroke", "stroke-dasharray")
    tags = re.findall(r'<(?:path|line|text) [^>]*role="graphics-symbol"[^>]*>', svg)
    found = [[re.search(rf' {name}="([^"]*)"', tag) for name in names] for tag in tags]
    return Counter(tuple(match[1] if match else "" for match in mark) for mark in found)


def without_x(roles: dict[str, str]) -> dict[str, str]:
    """What is left to be chosen of a map whose axes would be one: the page and the command choose another alike."""
    return {role: name for role, name in roles.items() if role != "x"}


CHOICES: list[dict[str, str]] = [
    {},
    {"x": "framework", "colour": "backward", "shape": "none", "panels": "none"},
    {"x": "framework", "colour": "none", "shape": "none", "panels": "none"},
    {"x": "backward", "colour": "none", "shape": "framework", "panels": "none"},
    {"x": "backward", "colour": "none", "shape": "none", "panels": "framework"},
    {"x": "framework", "colour": "none", "shape": "none", "panels": "none", "over": "backward"},
]


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("of", ["steps", "trainings"])
def test_the_page_and_single_pictures_draw_the_same_marks(
    driver: webdriver.Chrome, tmp_path: Path, of: str, choices: dict[str, str]
) -> None:
    both = itertools.product((TORCH, CHAINER), ("autograd", "explicit"))
    trainings = [training(s, framework=f, backward=b) for f, b in both for s in range(3)]
    steps = [
        row for row in core_time() if row["batch_exponent"] < 3
    ]  # few enough for the page to show all panels
    keep(tmp_path / "run", steps if of == "steps" else trainings, GRID)
    run = analysis.Run(tmp_path / "run")
    fields = {name: axis.field for name, axis in figures.Cells.of(run.summary()).axes.items()}
    address = {
        role: fields.get(name, name) if role != "over" else name for role, name in choices.items()
    }
    (tmp_path / "report.html").write_text(report(run), encoding="utf-8")
    driver.get("about:blank")
    page = Page(driver, tmp_path / "report.html", urlencode(address))
    roles = {role: name for role, name in choices.items() if role != "over"}
    for kind in (
        ("time", "speedup", "heatmap", "split", "order")
        if of == "steps"
        else ("curve", "validation", "pck")
    ):
        own = (
            without_x(roles)
            if kind == "heatmap" and roles.get("x") == choices.get("over", "framework")
            else roles
        )
        picture = figures.picture(run, kind, figures.Choice(roles=own, over=choices.get("over")))
        expected = marks_of(plots.image(picture, "svg").decode())
        assert expected, kind
        assert marks_of(page.svg(kind)) == expected, kind
    assert page.complaints() == []


def test_nanoseconds_and_hours_have_a_unit_each(driver: webdriver.Chrome, tmp_path: Path) -> None:
    means = {TORCH: 4e-9, CHAINER: 10800.0}
    keep(
        tmp_path / "run",
        [record(s, framework=f, mean_s=mean) for s in range(3) for f, mean in means.items()],
    )
    (tmp_path / "report.html").write_text(report(analysis.Run(tmp_path / "run")), encoding="utf-8")
    page = Page(driver, tmp_path / "report.html")
    assert [text[-2:] for text in page.column("cells", "mean")] == [" h", "ns"]
    assert [text[-2:] for text in page.column("cells", "variance")] == ["s²", "s²"]
    assert [text[-3:] for text in page.column("cells", "95 % interval")] == ["] h", " ns"]
    assert "e+" not in page.text("[data-table=cells]")
    assert page.complaints() == []


@pytest.mark.parametrize("what", ["one trial", "all failed", "no interval"])
def test_little_is_shown_without_complaint(
    driver: webdriver.Chrome, tmp_path: Path, what: str
) -> None:
    records = {
        "one trial": [record()],
        "all failed": [record(s, status="crashed") for s in range(3)],
        "no interval": [record(s, framework=f) for s in range(2) for f in (TORCH, CHAINER)],
    }[what]
    keep(tmp_path / "run", records)
    (tmp_path / "report.html").write_text(report(analysis.Run(tmp_path / "run")), encoding="utf-8")
    page = Page(driver, tmp_path / "report.html")
    assert "undefined" not in driver.page_source.partition("<footer")[0]
    assert (
        page.column("cells", "failed")
        == {"one trial": ["0"], "all failed": ["3"], "no interval": ["0", "0"]}[what]
    )
    assert page.complaints() == []


def test_a_thousand_cells_are_shown_in_part_and_all_when_asked_for(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    many = [
        record(s, framework=f"torch=={v}", batch_exponent=n)
        for s in range(3)
        for v in range(100)
        for n in range(10)
    ]
    keep_at_once(tmp_path / "run", many)
    file = tmp_path / "report.html"
    file.write_text(report(analysis.Run(tmp_path / "run")), encoding="utf-8")
    assert file.stat().st_size < 15e6
    started = time.perf_counter()
    page = Page(driver, file)
    print(f"drawn in {time.perf_counter() - started:.1f} s")
    assert len(page.column("cells", "framework")) == 200
    assert "Shown are 2,000 of 3,000 marks" in page.text("#plot-order .note")
    assert "Shown are 60 of 3,000 marks" in page.text("#plot-processes .note")
    driver.execute_script("document.querySelector('[data-table=cells] .more').click()")
    assert len(page.column("cells", "framework")) == 1000
    assert page.complaints() == []
