"""Reference values: computed once for what they depend on, however many ask, and kept."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugged import OVERRIDES, PLUGINS, runner, trial
from test_slots import holding

from sweep import catalog, dependencies
from sweep.node import hosts, machine, reference_values

HOUSE = Path(__file__).resolve().parent.parent
HERE = OVERRIDES | {"reference": {"interpreter": sys.executable}}
ASK = f"""
import sys
sys.path[:0] = [{str(PLUGINS)!r}, {str(HOUSE / "tests")!r}]
from plugged import runner, trial
record = runner(overrides={HERE!r})(trial(workload="compared", note=sys.argv[1]))
print(record["status"], record["error"], record.get("expected"))
"""


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    hosts.close_all()


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


def run(note: Path, seed: int = 0, **settings: Any) -> dict[str, Any]:
    each = trial(workload="compared", note=str(note), **settings)
    return runner(overrides=HERE)(dataclasses.replace(each, seed=seed))


def computed(note: Path) -> list[str]:
    return note.read_text().splitlines() if note.exists() else []


def test_a_workload_is_given_the_reference_s_values(note: Path) -> None:
    record = run(note)

    assert (record["status"], record["error"]) == ("ok", "")
    assert record["expected"] == 2.0
    assert record["given"] == ["gradient_norm", "loss", "parameter_count"]


def test_values_are_computed_once_for_each_setting_that_they_depend_on(note: Path) -> None:
    assert [run(note, seed)["expected"] for seed in (0, 1, 0, 1)] == [2.0, 3.0, 2.0, 3.0]
    assert len(computed(note)) == 2


def test_values_do_not_depend_on_the_batch_size_nor_see_it(note: Path) -> None:
    for exponent in (0, 3, 5):
        assert run(note, batch_exponent=exponent, process="fork")["status"] == "ok"

    (line,) = computed(note)
    assert line.endswith("['note', 'seed', 'trouble']")


WITH_A_PART = """
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import part
PARAMETERS = {}
REFERENCE = ("seed",)
def run(framework, settings, data, reference, report):
    return {}
def reference_values(settings, data):
    return part.values()
"""


def asked(folder: Path, run_id: str = "1") -> dict[str, Any] | None:
    workload = catalog.read_workload(folder / "partly.py", "partly")
    spec = reference_values.specification(HERE)
    return reference_values.values(workload, {"seed": 0}, None, 1, spec, run_id)


def test_values_are_computed_anew_when_a_file_changes_that_the_workload_imports(
    tmp_path: Path,
) -> None:
    (tmp_path / "partly.py").write_text(WITH_A_PART)
    (tmp_path / "part.py").write_text("def values():\n    return {'loss': 1.0}\n")
    first = asked(tmp_path)
    (tmp_path / "part.py").write_text("def values():\n    return {'loss': 22.0}\n")

    assert (first, asked(tmp_path, run_id="2")) == ({"loss": 1.0}, {"loss": 22.0})


def test_all_that_a_workload_gives_to_be_compared_with_reaches_its_trials(tmp_path: Path) -> None:
    (tmp_path / "partly.py").write_text(WITH_A_PART)
    given = {"loss": 1.0, "norms": {"conv1": 2.0}, "note": "mine", "nothing": None}
    (tmp_path / "part.py").write_text(f"def values():\n    return {given!r}\n")

    assert asked(tmp_path) == given


@pytest.mark.parametrize("name", ["core", "train", "infer"])
def test_values_depend_on_every_file_that_computes_them(name: str) -> None:
    files = dependencies.files_of(catalog.WORKLOADS / f"{name}.py")

    assert {"deeppose.py", "runtime/layers.py", "frameworks/reference.py"} <= {
        file.removeprefix("workloads/") for file in files
    }
    assert (
        name == "core"
    ) or "workloads/core.py" in files  # whose values they are, or whose batches


def test_values_are_kept_for_the_next_process(note: Path) -> None:
    run(note)
    hosts.close_all()

    told = subprocess.run(
        [sys.executable, "-c", ASK, str(note)], cwd=HOUSE, capture_output=True, text=True
    )

    assert told.stdout == "ok  2.0\n", told.stderr
    assert len(computed(note)) == 1


def test_processes_that_ask_at_once_have_them_computed_once(note: Path, tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", ASK, str(note)]
    asking = [
        subprocess.Popen(command, cwd=HOUSE, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    assert [each.communicate(timeout=120)[0] for each in asking] == ["ok  2.0\n"] * 4
    assert len(computed(note)) == 1


def test_a_trial_whose_reference_values_cannot_be_computed_fails_and_the_next_tries_again(
    note: Path,
) -> None:
    for _ in range(2):
        record = run(note, trouble="raises")
        assert record["status"] == "failed"
        assert "the reference values could not be computed" in record["error"]
        assert "ValueError: no such joint" in record["error"]
    assert len(computed(note)) == 2


def test_values_are_not_computed_beside_an_exclusive_trial(note: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, str(note)]
    slots = tmp_path / f"sweep-slots-{os.getuid()}"
    slots.mkdir(mode=0o700)
    with holding(slots, len(machine.usable_cores()), exclusive=True) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with subprocess.Popen(
            command, cwd=HOUSE, env=os.environ | {"TMPDIR": str(tmp_path)}
        ) as asking:
            with pytest.raises(subprocess.TimeoutExpired):
                asking.wait(3.0)
            assert computed(note) == []
            assert holder.stdin
            holder.stdin.close()
            assert asking.wait(120) == 0
    assert len(computed(note)) == 1
