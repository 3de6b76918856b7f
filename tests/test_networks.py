"""Networks: an axis like any other, whose default is what trials computed before there were several."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Sweep
from test_deeppose import prepared

from sweep import catalog, grid, measured
from sweep.analysis.run import Run
from sweep.errors import SweepError
from sweep.node import hosts, reference_values
from workloads import networks
from workloads.runtime import layers, protocol

HOUSE = Path(__file__).resolve().parent.parent
NAMES = sorted(catalog.networks())
PLUGGED = """
'''A line: one dense layer.'''
from workloads.runtime.layers import Dense, Flatten, Network
from . import sizes

NETWORK = Network("line", (3, 227, 227), (14, 2), (Flatten(), Dense("fc", sizes.PIXELS, 28)))
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a user's network, as installed."""
    package, info = tmp_path / "site" / "plain_line", tmp_path / "site" / "plain_line-1.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "line.py").write_text(PLUGGED)
    (package / "sizes.py").write_text("PIXELS = 3 * 227 * 227\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-line\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sweep.networks]\nline = plain_line.line\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    reference_values._network_file.cache_clear()
    return package


def trials(axes: str) -> list[Any]:
    parsed = grid.parse(f"axes: {{framework: [reference], {axes}, seed: [0]}}")
    workloads = catalog.workloads()
    return list(
        grid.expand(
            parsed,
            catalog.frameworks(),
            workloads,
            networks=catalog.networks(),
            content=measured.contents_of(workloads, {}),
        ).trials
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_network_fits_together_and_ends_in_the_pose(name: str) -> None:
    network = networks.get(name)
    layers.shapes(network)
    assert network.name == name
    assert (network.input, network.output) == ((3, 227, 227), (14, 2))
    assert catalog.networks()[name].summary


@pytest.mark.parametrize(
    ("workload", "known"),
    [("core", "73204810ca6d"), ("train", "f5ce0e1a911a"), ("infer", "922841982cde")],
)
def test_trials_of_the_default_network_have_the_ids_that_they_had_before_there_were_others(
    workload: str, known: str
) -> None:
    """With torch 2.13.0 and every default; the network may be unsaid, a parameter or an axis."""
    base = f"workload: {workload}\naxes: {{framework: [torch==2.13.0], seed: [0]"
    texts = [base + "}", base + "}\nparameters: {network: alexnet}"]
    texts.append(base + ", network: [mlp, alexnet]}")
    catalogs = catalog.frameworks(), catalog.workloads()
    ids = [[each.id for each in grid.expand(grid.parse(text), *catalogs).trials] for text in texts]
    assert ids[0] == ids[1] == [known]
    assert len({*ids[2]}) == 2
    assert ids[2][1] == known


def test_an_id_can_be_computed_from_a_record_s_settings() -> None:
    for each in trials("network: [alexnet, mlp], workload: [core, infer]"):
        assert grid.identify(each.settings, each.cell.content) == each.id


def test_records_of_before_are_of_the_default_network(tmp_path: Path) -> None:
    shutil.copytree(HOUSE / "tests" / "runs" / "before", tmp_path / "before")
    texts = Run(str(tmp_path / "before")).results.records()["settings"].to_pylist()
    found = {(told["workload"], told.get("network")) for told in map(json.loads, texts)}
    assert found == {("core", "alexnet"), ("trouble", None)}


@pytest.mark.parametrize("value", ["alexnt", "null", "'3'"])
def test_a_network_that_is_not_there_is_an_error_with_the_nearest_name(value: str) -> None:
    with pytest.raises(SweepError, match="there is no network") as caught:
        trials(f"network: [{value}]")
    if value == "alexnt":
        assert "alexnet" in caught.value.hint


@pytest.mark.parametrize(
    ("axis", "count"),
    [("network: [vit, resnet18]", 1), ("network: [alexnet, vgg16]", 2), ("network: [vit]", 0)],
)
def test_a_network_is_excluded_where_a_version_lacks_a_layer_of_it(
    axis: str, count: int, sweep: Sweep
) -> None:
    text = f"name: mine\naxes: {{framework: [torch==0.3.1, torch==0.4.0], {axis}, seed: [0]}}\n"
    Path("grid.yaml").write_text(text)
    planned = sweep("plan", "grid.yaml", "--format", "json")
    names = [row["name"] for row in json.loads(planned.out)]
    assert sum(name.startswith("torch==0.3.1") for name in names) == count
    assert sum(name.startswith("torch==0.4.0") for name in names) == axis.count(",") + 1
    if count < axis.count(",") + 1:
        assert "vit needs" in planned.err


def test_a_network_of_a_package_is_one_that_a_grid_can_name(plugged: Path, sweep: Sweep) -> None:
    Path("grid.yaml").write_text(
        "name: mine\naxes: {framework: [reference], network: [line, mlp], seed: [0]}\n"
    )
    planned = sweep("plan", "grid.yaml", "--format", "json")
    assert planned.code == 0, planned.err
    names = {row["name"] for row in json.loads(planned.out)}
    assert names == {f"reference/core/cpu/autograd/b5/network={n}/s0" for n in ("line", "mlp")}


def test_an_edited_network_of_a_package_runs_anew_and_no_other(plugged: Path) -> None:
    axes = "network: [line, mlp], batch_exponent: [0]"
    before = {each.settings["network"]: each for each in trials(axes)}
    (plugged / "sizes.py").write_text("PIXELS = 227 * 227 * 3\n")
    after = {each.settings["network"]: each for each in trials(axes)}
    assert before["line"].id != after["line"].id
    assert before["mlp"].id == after["mlp"].id
    one, other = (each["line"].cell.content for each in (before, after))
    assert measured.differences(one, other, after["line"].settings) == ["network line"]


@pytest.mark.parametrize(
    "part", [("core.py", "core"), ("networks/mlp.py", "core"), ("networks/mlp.py", "train")]
)
def test_a_network_that_measures_something_else_gives_new_ids(
    part: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, workload = part
    axes = f"workload: [{workload}], network: [mlp, alexnet]"
    before = [each.id for each in trials(axes)]
    real, raised = catalog.dependencies.measures, catalog.WORKLOADS / file
    monkeypatch.setattr(
        catalog.dependencies, "measures", lambda path: 2 if path == raised else real(path)
    )
    changed = [one != each.id for one, each in zip(before, trials(axes), strict=True)]
    assert changed == [True, file == "core.py"]


def test_reference_values_depend_on_the_file_of_the_network(plugged: Path) -> None:
    workload, settings = catalog.get_workload("core").path, {"network": "line"}
    network = reference_values.network_file(settings)
    assert network == str(plugged / "line.py")
    before = reference_values._cache_file(workload, network, settings, None, "1")
    (plugged / "sizes.py").write_text("PIXELS = 227 * 227 * 3\n")
    assert reference_values._cache_file(workload, network, settings, None, "2") != before


def test_a_trial_computes_the_network_of_the_file_that_it_was_told_of(
    plugged: Path, tmp_path: Path
) -> None:
    (plugged / "sizes.py").unlink()
    (plugged / "line.py").write_text(
        PLUGGED.replace("from . import sizes\n", "").replace("sizes.PIXELS", "3 * 227 * 227")
    )
    (tmp_path / "poses").mkdir()
    data = prepared(tmp_path / "poses")
    settings = catalog.workloads()["core"].parameters | {"network": "line", "seed": 0}
    settings |= {"batch_exponent": 0, "samples": 1, "warmup": 0, "parity_examples": 1}
    request = protocol.Request(
        "line",
        protocol.REFERENCE_VALUES,
        str(catalog.workloads()["core"].path),
        settings,
        cores=[],
        data=str(data),
        network_file=str(plugged / "line.py"),
    )
    variables = tuple(sorted(hosts.variables(1).items()))
    key = hosts.Key(sys.executable, True, str(catalog.get_framework("reference").path), variables)
    try:
        outcome = hosts.run(key, request, 100)
    finally:
        hosts.close_all()
    assert outcome.verdict(None) == ("ok", "")
    assert outcome.columns["parameter_count"] == (3 * 227 * 227 + 1) * 28


@pytest.mark.parametrize("text", ["", "NETWORKS = 1\n"])
def test_a_file_without_a_network_is_named(text: str, plugged: Path) -> None:
    (plugged / "line.py").write_text(text)
    with pytest.raises(SweepError, match="assigns no NETWORK"):
        trials("network: [line]")


def test_the_page_lists_what_is_there() -> None:
    """Run `python docs/networks_table.py` where this fails."""
    script = runpy.run_path(str(HOUSE / "docs" / "networks_table.py"))
    assert script["page"]() == (HOUSE / "docs" / "networks.md").read_text(encoding="utf-8")


def test_a_network_file_tells_the_layers_that_it_is_made_of(plugged: Path) -> None:
    assert catalog.networks()["mlp"].layers == {"Dense", "Flatten", "Network", "Relu"}
    assert catalog.networks()["line"].layers == {"Dense", "Flatten", "Network"}
    (plugged / "line.py").write_text(
        "from workloads.runtime import layers\nNETWORK = layers.Network(0, layers.Relu())\n"
    )
    assert catalog.networks()["line"].layers == {"Network", "Relu"}
