"""The pages: the files, commands, options, variables, marks and objects of the code that they name are there."""

from __future__ import annotations

import ast
import functools
import os
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from made_up import keep, record

from sweep import catalog, cli, errors, signals
from sweep.axes import AXES
from sweep.datasets import datasets
from sweep.node import hosts
from sweep.status import Status

HOUSE = Path(__file__).resolve().parent.parent
PAGES = sorted([*HOUSE.glob("*.md"), *(HOUSE / "docs").glob("*.md")])
NAMES = [str(page.relative_to(HOUSE)) for page in PAGES]

# folders of the user's cache and of Ray's, which are no files of the project
ELSEWHERE = {"sweep/data", "sweep/reference", "sweep/environments", "sweep/weights"}
# options of pip, uv, Ray and a project's own scripts, which pages speak of too
OF_OTHERS = {
    "--autoscaler",
    "--cpu-manager-policy",
    "--cpu-manager-policy-options",
    "--cpus",
    "--every",
    "--exclusive",
    "--few",
    "--index-url",
    "--node-name",
    "--quick",
    "--torch-backend",
    "--working-dir",
    "--xla_gpu_deterministic_ops",
}
COMMANDS = typer.main.get_command(cli.app)


def text_of(name: str) -> str:
    return (HOUSE / name).read_text(encoding="utf-8")


def shell_lines(text: str) -> Iterator[str]:
    """The lines of blocks that a reader types: fenced as `sh`, or indented; without comments and continuations."""
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    without = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"((?:^    \S.*\n)+)", without, re.MULTILINE)
    for block in [*fenced, *indented]:
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition(" #")[0].strip()


def quoted(text: str) -> list[str]:
    """What stands between backticks in running text."""
    without = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", without)]


def sweeps(line: str) -> Iterator[list[str]]:
    """The words of each call of sweep in a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not re.fullmatch(r"[;&|]+", word):
            words.append(word)
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words[:1] == ["sweep"]:
            yield [each for each in words[1:] if each != "…"]
        words = []


def refused(words: list[str], complete: bool) -> str:
    """Why the command line does not take these words; a mention in a sentence need not be `complete`."""
    command: Any = COMMANDS
    context = command.make_context("sweep", [], resilient_parsing=True)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands"):
        return "" if not complete or words else "it lacks a command"
    if not complete and words and takes_a_value(command, words[-1]):
        words = [*words, "1"]
    try:
        command.make_context(command.name, list(words), parent=context)
    except cli._UsageError as error:
        lacks_an_argument = type(error).__name__ == "MissingParameter"
        return "" if lacks_an_argument and not complete else f"{type(error).__name__}: {error}"
    return ""


def takes_a_value(command: Any, word: str) -> bool:
    return any(
        word in each.opts and not each.is_flag
        for each in command.params
        if hasattr(each, "is_flag")
    )


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from [*parameter.opts, *parameter.secondary_opts]
    for child in getattr(command, "commands", {}).values():
        yield from options(child)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sweep sumarize smoke", "no command"),
        ("SWEEP_LSPET_DIR=x sweep run grid.yaml --retri failed", "--retri"),
        ("cd x && sweep run grid.yaml --retry faild", "faild"),
        ("sweep env biuld torch==2.13.0; ls", "no command"),
        ("sweep env build --backend", "--backend"),
    ],
)
def test_a_command_that_sweep_does_not_take_is_found(line: str, why: str) -> None:
    [words] = sweeps(line)
    assert why in refused(words, complete=True)


def test_blocks_of_both_kinds_are_read() -> None:
    text = "## Head\n    sweep plan x   # why\n\n```sh\nsweep run \\\n  x\n```\nwords\n"
    assert [words for line in shell_lines(text) for words in sweeps(line)] == [
        ["run", "x"],
        ["plan", "x"],
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_a_page_shows_is_one_that_sweep_takes(name: str) -> None:
    shown = [
        words for line in shell_lines(text_of(name)) if "sweep" in line for words in sweeps(line)
    ]
    wrong = {" ".join(words): why for words in shown if (why := refused(words, complete=True))}
    assert wrong == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_that_a_sentence_names_is_there(name: str) -> None:
    named = [each for each in quoted(text_of(name)) if each.startswith(("sweep ", "-"))]
    calls = [words for each in named if each.startswith("sweep ") for words in sweeps(each)]
    wrong = {" ".join(words): why for words in calls if (why := refused(words, complete=False))}
    known = {*options(COMMANDS), *OF_OTHERS}
    unknown = [
        each
        for each in named
        if re.match(r"--\w", each) and each.split()[0].split("=")[0] not in known
    ]
    assert wrong == {}
    assert unknown == [], "an option of another program goes into OF_OTHERS"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    tops = {path.name for path in HOUSE.iterdir() if path.is_dir()} - {"results"}
    paths = [
        each for each in quoted(text_of(name)) if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)+/?", each)
    ]
    ours = [each for each in paths if each.partition("/")[0] in tops and each not in ELSEWHERE]
    assert [each for each in ours if not any(HOUSE.glob(each))] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_script_that_a_page_runs_is_there(name: str) -> None:
    lines = [*shell_lines(text_of(name)), *quoted(text_of(name))]
    modules = {
        found for line in lines for found in re.findall(r"\bpython -m benchmarks (\w+)", line)
    }
    scripts = {
        found
        for line in lines
        for found in re.findall(r"\b(?:python|bash) ([\w./]+\.(?:py|sh))", line)
    }
    assert [each for each in modules if not (HOUSE / "benchmarks" / f"{each}.py").is_file()] == []
    assert [each for each in scripts if not (HOUSE / each).is_file()] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_of_a_page_leads_to_a_page_and_a_heading(name: str) -> None:
    page = HOUSE / name
    dead = []
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text_of(name)):
        path = page.parent / target if target else page
        if not path.exists() or (
            anchor and anchor not in anchors(path.read_text(encoding="utf-8"))
        ):
            dead.append(f"{target}#{anchor}")
    assert dead == []


def anchors(text: str) -> set[str]:
    """The headings of a page as a link writes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_test_and_variable_that_a_page_names_is_there(name: str) -> None:
    text = text_of(name)
    tests = set(re.findall(r"`(test_\w+)`", text))
    files = (HOUSE / "tests").glob("test_*.py") if tests else ()
    assert tests - {found for path in files for found in names_of_tests(path)} == set()
    variables = set(re.findall(r"\bSWEEP_[A-Z_]+[A-Z]\b(?!_<)", text)) - {"SWEEP_LSPET_DIR"}
    assert [each for each in variables if each not in all_code()] == []


@functools.cache
def all_code() -> str:
    files = [path for top in ("sweep", "workloads") for path in (HOUSE / top).rglob("*.py")]
    return "".join(path.read_text(encoding="utf-8") for path in files)


def names_of_tests(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name


@pytest.mark.parametrize("name", NAMES)
def test_every_mark_of_tests_that_a_page_names_is_there(name: str) -> None:
    marks = tomllib.loads(text_of("pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    known = {each.partition(":")[0] for each in marks}
    assert set(re.findall(r"pytest -m (\w+)", text_of(name))) - known == set()


def test_every_object_of_the_architecture_stands_in_the_file_that_is_named() -> None:
    missing = []
    for row in re.findall(
        r"^\| (.+?) \| (.+?) \| .+ \|$", text_of("docs/architecture.md"), re.MULTILINE
    ):
        files = [path for each in re.findall(r"`([^`]+)`", row[1]) for path in code_of(each)]
        code = "\n".join(path.read_text(encoding="utf-8") for path in files)
        for word in re.findall(r"`([A-Z]\w+)`", row[0]):
            if not re.search(rf"^\s*(class {word}\b|{word}\b.*=)", code, re.MULTILINE):
                missing.append((word, row[1]))
    assert missing == []


def test_the_walls_are_those_that_are_checked() -> None:
    [told] = re.findall(
        r"^- imports only go down .+? from (.+?);", text_of("docs/architecture.md"), re.M | re.S
    )
    checked = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    layer = {name: depth for depth, names in enumerate(checked) for name in names.split(" : ")}
    depths = [layer[name] for name in re.findall(r"`(\w+)`", told)]
    assert len(depths) > 5
    assert depths == sorted(set(depths))


def code_of(name: str) -> list[Path]:
    path = HOUSE / name
    return sorted(path.rglob("*.py")) if path.is_dir() else sorted(HOUSE.glob(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_object_of_the_code_that_a_page_names_can_be_imported(name: str) -> None:
    dotted = [
        each
        for each in quoted(text_of(name))
        if re.fullmatch(r"(sweep|workloads)(\.(?!py\b)\w+)+(\(\))?", each)
    ]
    points = {"sweep.frameworks", "sweep.workloads", "sweep.networks", "sweep.datasets"}
    assert [each for each in set(dotted) - points if not importable(each.removesuffix("()"))] == []


def importable(dotted: str) -> bool:
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


# what a page lists is what the code has


def first_cells(name: str, heading: str) -> list[str]:
    """What stands between backticks in the first column of the table that comes next after a heading of that text."""
    after = text_of(name).partition(heading)[2]
    [table] = re.findall(r"(?:\A|.*?\n)(\|.+?\n)(?:\n|\Z)", after, re.DOTALL)[:1]
    return [
        found
        for row in table.splitlines()
        for found in re.findall(r"`([^`]+)`", row.split(" | ")[0])
    ]


def test_the_statuses_are_those_there_are() -> None:
    assert set(first_cells("docs/workloads.md", "and tells how it ended.\n")) == {
        str(each) for each in Status
    }


def test_the_axes_are_those_there_are() -> None:
    assert first_cells("docs/grid.md", "## Axes\n") == list(AXES)


def test_the_data_sets_are_those_there_are() -> None:
    ours = {name for name, each in datasets().items() if type(each).__module__.startswith("sweep.")}
    assert set(first_cells("docs/data.md", "look at what the network sees")) == ours


def test_the_exit_codes_are_those_there_are() -> None:
    codes = re.findall(
        r"^\| (\d+) \|", text_of("docs/results.md").partition("## Exit codes")[2], re.MULTILINE
    )
    given = [
        value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)
    ]
    assert [int(code) for code in codes] == [0, *sorted(given), 128 + signal.SIGINT]


def test_the_signals_that_end_a_command_are_those_there_are() -> None:
    told = {
        (int(code), name)
        for code, name in re.findall(r"\b(1\d\d) (SIG\w+)", text_of("docs/results.md"))
    }
    assert told == {(128 + each, each.name) for each in signals.ENDING}


def test_the_variables_that_reach_a_trial_are_those_there_are() -> None:
    [listed] = re.findall(
        r"only these get through.+?\n\n((?:    .+\n)+)", text_of("docs/workloads.md")
    )
    assert set(listed.split()) == set(hosts.ALLOWED)


@pytest.mark.parametrize(
    ("workload", "page", "heading"),
    [
        ("core", "docs/workloads.md", "step_s` and not in `forward_s`."),
        ("train", "docs/training.md", "of `train`"),
    ],
)
def test_the_parameters_of_a_workload_are_those_there_are(
    workload: str, page: str, heading: str
) -> None:
    known = set(catalog.workloads()[workload].parameters)
    shared = set(catalog.workloads()["core"].parameters) if workload == "train" else set()
    listed = set(first_cells(page, heading))
    assert listed <= known
    assert known - shared <= listed


def test_the_defaults_of_a_training_are_those_there_are() -> None:
    parameters = catalog.workloads()["train"].parameters
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text_of("docs/training.md"), re.MULTILINE)
    assert len(rows) > 5
    assert {name: float(default) for name, default in rows} == {
        name: parameters[name] for name, _ in rows
    }


def test_the_sections_of_the_report_are_those_there_are() -> None:
    rows = re.findall(r"^\| ([A-Z].+?) \|", text_of("docs/report.md"), re.MULTILINE)
    written = re.findall(r'Section\(\s*"\w+",\s*"(.+?)"', text_of("sweep/report/sections.py"))
    assert ", ".join(rows).split(", ") == written


@pytest.mark.parametrize(
    "line", [each for each in shell_lines(text_of("docs/results.md")) if " -c " in each]
)
def test_the_records_can_be_read_as_the_page_of_results_reads_them(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    monkeypatch.chdir(tmp_path)
    keep("results/core-time", [record(seed=seed) for seed in range(3)])
    tool, _, code = shlex.split(line)
    if tool == "duckdb":
        assert len(duckdb.sql(code).fetchall()) == 1
        return
    environment = os.environ | {"PYTHONPATH": str(HOUSE)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
