"""`cluster.yaml` and `cluster-local.yaml`: what `ray up` would refuse, and what it would accept without a word."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

HOUSE = Path(__file__).resolve().parent.parent
OWN = {"SubnetIds"}  # Ray's word for several of EC2's SubnetId


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((HOUSE / name).read_text()))


def complete(name: str) -> dict[str, Any]:
    """With Ray's defaults, as `ray up` sees it."""
    return dict(prepare_config(copy.deepcopy(read(name))))


@pytest.fixture(params=["cluster.yaml", "cluster-local.yaml"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def node_types() -> dict[str, dict[str, Any]]:
    return dict(read("cluster.yaml")["available_node_types"])


def test_ray_up_accepts_it(name: str) -> None:
    validate_config(complete(name))


def test_every_key_of_the_provider_is_one_that_ray_reads(name: str) -> None:
    """Ray ignores others."""
    known = {
        "aws": {"type", "region", "cache_stopped_nodes"},
        "local": {"type", "head_ip", "worker_ips"},
    }
    provider = read(name)["provider"]
    assert set(provider) == known[provider["type"]]


def test_the_dashboard_and_the_cluster_are_open_to_nobody(name: str) -> None:
    config = complete(name)
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(
        "RAY_AUTH_MODE=token RAY_worker_niceness=0 ray start" in command for command in starts
    )
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in str(config)
    assert config["file_mounts"]["~/.ray/auth_token"].endswith(".ray/auth_token")


def test_no_trial_runs_on_the_head(name: str) -> None:
    assert any(
        "--head --num-cpus=0" in command for command in complete(name)["head_start_ray_commands"]
    )


def test_nodes_install_this_checkout_and_a_ray_that_it_allows(name: str) -> None:
    config = complete(name)
    install = next(command for command in config["setup_commands"] if "pip install" in command)
    assert "-e ~/sweep[gpu]" in install
    assert config["file_mounts"]["~/sweep"] in (".", str(HOUSE))
    ray = Requirement(install.split("'")[1])
    wanted = next(Requirement(line) for line in _dependencies() if Requirement(line).name == "ray")
    assert ray.extras == wanted.extras
    assert wanted.specifier.contains(next(iter(ray.specifier)).version)
    assert not any("wheels/latest" in command for command in config["setup_commands"])


def _dependencies() -> list[str]:
    import tomllib

    return list(tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["dependencies"])


def test_every_node_is_what_ec2_can_start() -> None:
    """Ray passes a misspelt key on to EC2, minutes later; here it is held against EC2's own description."""
    operation = (
        botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    )
    for type_name, node_type in node_types().items():
        wanted = {key: value for key, value in node_type["node_config"].items() if key not in OWN}
        report = botocore.validate.ParamValidator().validate(
            {**wanted, "MinCount": 1, "MaxCount": 1}, operation.input_shape
        )
        assert not report.has_errors(), (type_name, report.generate_report())
        assert set(wanted) <= set(operation.input_shape.members), type_name


def test_every_node_names_its_security_group_and_subnet() -> None:
    """Else Ray makes a group whose port 22 is open to the world."""
    for node_type in node_types().values():
        assert node_type["node_config"]["SecurityGroupIds"]
        assert node_type["node_config"]["SubnetIds"]
    assert "security_group" not in read("cluster.yaml")["provider"]


def test_workers_are_spot_nodes_with_bounds_and_go_when_they_idle() -> None:
    config = complete("cluster.yaml")
    head = config["head_node_type"]
    workers = {name: node_type for name, node_type in node_types().items() if name != head}
    for node_type in workers.values():
        assert node_type["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert 0 <= node_type["min_workers"] <= node_type["max_workers"] <= config["max_workers"]
    assert config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False


def test_there_are_nodes_for_cpu_trials_and_for_several_gpus() -> None:
    resources = {name: node_type["resources"] for name, node_type in node_types().items()}
    assert resources.pop("head") == {"CPU": 0}
    assert any("GPU" not in each for each in resources.values())
    assert {each["GPU"] for each in resources.values() if "GPU" in each} == {1, 4, 8}
    for each in resources.values():
        kinds = [amount for name, amount in each.items() if name.startswith("accelerator_type:")]
        assert kinds == ([each["GPU"]] if "GPU" in each else [])


def test_own_machines_are_all_used() -> None:
    config = read("cluster-local.yaml")
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])
