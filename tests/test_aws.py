"""What `ray up cluster.yaml` asks AWS for: Ray's own provider against a stand-in for EC2 and IAM on loopback.

No test reaches a node: the stand-in invents public addresses, and nothing may be sent to them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws import utils as ray_aws_utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

pytestmark = pytest.mark.slow  # the stand-in loads every policy that AWS manages

HOUSE = Path(__file__).resolve().parent.parent
REGION = yaml.safe_load((HOUSE / "cluster.yaml").read_text())["provider"]["region"]


class Account(NamedTuple):
    """An AWS account with a group and a subnet as docs/cluster.md asks for, and `cluster.yaml` with their ids."""

    ec2: Any
    iam: Any
    group: str
    subnet: str
    config: dict[str, Any]


class Launched(NamedTuple):
    """A node, and the request that it came from."""

    request: dict[str, Any]
    instance: dict[str, Any]
    volumes: list[dict[str, Any]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """After Ray's bootstrap, which makes what cluster.yaml does not name."""
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv(
            "HOME", str(tmp_path_factory.mktemp("home"))
        )  # Ray writes the key pair to ~/.ssh
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setattr(ray_aws.time, "sleep", _shortly)
        _forget_clients()
        yield _bootstrapped()
        _forget_clients()
        server.stop()


def _shortly(_: float, sleep: Any = time.sleep) -> None:
    """Ray waits a quarter of a minute for a role to be known everywhere."""
    sleep(0.01)


def _forget_clients() -> None:
    """Ray keeps clients, with their endpoint, for the life of the process."""
    ray_aws_utils.resource_cache.cache_clear()
    ray_aws_utils.client_cache.cache_clear()


def _bootstrapped() -> Account:
    client = functools.partial(boto3.client, region_name=REGION)
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(
        SubnetId=subnet, MapPublicIpOnLaunch={"Value": True}
    )  # Ray asks for it
    group = ec2.create_security_group(GroupName="own", Description="own", VpcId=vpc)["GroupId"]
    text = (HOUSE / "cluster.yaml").read_text()
    own = text.replace("sg-REPLACE", group).replace("subnet-REPLACE", subnet)
    config = ray_aws.bootstrap_aws(prepare_config(yaml.safe_load(own)))
    return Account(ec2, client("iam"), group, subnet, config)


@pytest.fixture(scope="module")
def launched(account: Account) -> dict[str, Launched]:
    """One node of each type, started by Ray's provider as its autoscaler does."""
    return {name: _launch(account, name) for name in account.config["available_node_types"]}


def _launch(account: Account, name: str) -> Launched:
    config = account.config
    is_head = name == config["head_node_type"]
    node_config = dict(config["available_node_types"][name]["node_config"])
    if is_head:
        node_config |= config["head_node"]
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    requests: list[dict[str, Any]] = []
    events = provider.ec2_fail_fast.meta.client.meta.events
    note = functools.partial(_note, requests)
    events.register("provide-client-params.ec2.RunInstances", note)
    tags = {TAG_RAY_NODE_KIND: "head" if is_head else "worker", TAG_RAY_USER_NODE_TYPE: name}
    (node,) = provider.create_node(node_config, tags, 1)
    events.unregister("provide-client-params.ec2.RunInstances", note)
    (request,) = requests
    reservations = account.ec2.describe_instances(InstanceIds=[node])["Reservations"]
    (instance,) = reservations[0]["Instances"]
    own = [{"Name": "attachment.instance-id", "Values": [node]}]
    return Launched(request, instance, account.ec2.describe_volumes(Filters=own)["Volumes"])


def _note(requests: list[dict[str, Any]], params: dict[str, Any], **_: Any) -> None:
    requests.append(params)


def test_one_node_of_each_type_starts(account: Account, launched: dict[str, Launched]) -> None:
    types = account.config["available_node_types"]
    assert {name: node.instance["InstanceType"] for name, node in launched.items()} == {
        name: node_type["node_config"]["InstanceType"] for name, node_type in types.items()
    }
    assert {node.instance["State"]["Name"] for node in launched.values()} <= {"pending", "running"}


def test_the_volume_of_a_node_ends_with_it(account: Account, launched: dict[str, Launched]) -> None:
    for name, node in launched.items():
        (mapping,) = node.request["BlockDeviceMappings"]
        assert mapping["Ebs"]["DeleteOnTermination"] is True, name
        (attached,) = node.instance["BlockDeviceMappings"]
        assert attached["Ebs"]["DeleteOnTermination"] is True, name
        (volume,) = node.volumes
        assert volume["Size"] == mapping["Ebs"]["VolumeSize"], name
    spare = _launch(account, "cpu")
    account.ec2.terminate_instances(InstanceIds=[spare.instance["InstanceId"]])
    own = [{"Name": "volume-id", "Values": [spare.volumes[0]["VolumeId"]]}]
    assert account.ec2.describe_volumes(Filters=own)["Volumes"] == []


def test_nodes_are_in_the_group_and_subnet_given_and_no_group_is_made(
    account: Account, launched: dict[str, Launched]
) -> None:
    for name, node in launched.items():
        assert [each["GroupId"] for each in node.instance["SecurityGroups"]] == [account.group], (
            name
        )
        assert node.instance["SubnetId"] == account.subnet, name
    groups = account.ec2.describe_security_groups()["SecurityGroups"]
    assert {each["GroupName"] for each in groups} == {"default", "own"}


def test_all_nodes_have_one_key_pair_whose_private_half_only_the_user_can_read(
    account: Account, launched: dict[str, Launched]
) -> None:
    (pair,) = account.ec2.describe_key_pairs()["KeyPairs"]
    assert {node.instance["KeyName"] for node in launched.values()} == {pair["KeyName"]}
    key = Path(account.config["auth"]["ssh_private_key"]).expanduser()
    assert key.read_text().startswith("-----BEGIN")
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_head_alone_may_start_nodes(account: Account, launched: dict[str, Launched]) -> None:
    head = account.config["head_node_type"]
    profiles = {name: node.instance.get("IamInstanceProfile") for name, node in launched.items()}
    arn = profiles.pop(head)["Arn"]
    assert set(profiles.values()) == {None}
    (profile,) = account.iam.list_instance_profiles()["InstanceProfiles"]
    assert profile["Arn"] == arn
    (role,) = profile["Roles"]
    policies = account.iam.list_attached_role_policies(RoleName=role["RoleName"])[
        "AttachedPolicies"
    ]
    assert {each["PolicyName"] for each in policies} == {
        "AmazonEC2FullAccess",
        "AmazonS3FullAccess",
    }


def test_a_profile_of_ones_own_replaces_the_role_that_ray_makes(account: Account) -> None:
    """As the comment in cluster.yaml says."""
    config = prepare_config(yaml.safe_load((HOUSE / "cluster.yaml").read_text()))
    own = {"Arn": "arn:aws:iam::123456789012:instance-profile/own"}
    config["available_node_types"][config["head_node_type"]]["node_config"][
        "IamInstanceProfile"
    ] = own
    config["head_node"] = {}
    assert ray_aws._configure_iam_role(config)["head_node"] == {}


def test_workers_are_spot_nodes_that_are_terminated_and_the_head_is_not(
    account: Account, launched: dict[str, Launched]
) -> None:
    for name, node in launched.items():
        is_spot = node.instance.get("InstanceLifecycle") == "spot"
        assert is_spot == (name != account.config["head_node_type"]), name
        options = node.request.get("InstanceMarketOptions", {}).get("SpotOptions", {})
        assert options.get("InstanceInterruptionBehavior", "terminate") == "terminate", name


def test_nodes_have_the_tags_by_which_ray_finds_them_again(
    account: Account, launched: dict[str, Launched]
) -> None:
    for name, node in launched.items():
        tags = {tag["Key"]: tag["Value"] for tag in node.instance["Tags"]}
        assert tags["ray-cluster-name"] == account.config["cluster_name"], name
        assert tags["ray-user-node-type"] == name
    provider = AWSNodeProvider(account.config["provider"], account.config["cluster_name"])
    found = provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: "gpu-4"})
    assert found == [launched["gpu-4"].instance["InstanceId"]]


def test_the_metadata_service_of_a_node_asks_for_a_token(launched: dict[str, Launched]) -> None:
    """Else a program that fetches addresses for others can be made to fetch the head's credentials."""
    for name, node in launched.items():
        assert node.request["MetadataOptions"]["HttpTokens"] == "required", name
        assert node.instance["MetadataOptions"]["HttpTokens"] == "required", name


def test_declared_cores_and_gpus_are_those_of_the_instance(account: Account) -> None:
    """Ray believes what cluster.yaml says. EC2 counts threads, two a core; trials are placed on cores."""
    types = dict(account.config["available_node_types"])
    del types[account.config["head_node_type"]]
    names = [node_type["node_config"]["InstanceType"] for node_type in types.values()]
    found = account.ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    by_name = {each["InstanceType"]: each for each in found}
    for name, node_type in types.items():
        instance = by_name[node_type["node_config"]["InstanceType"]]
        cores = instance["VCpuInfo"]["DefaultCores"]
        gpus = [gpu["Count"] for gpu in instance.get("GpuInfo", {}).get("Gpus", [])]
        assert node_type["resources"]["CPU"] == cores, name
        assert node_type["node_config"]["CpuOptions"] == {"CoreCount": cores, "ThreadsPerCore": 1}
        assert node_type["resources"].get("GPU", 0) == sum(gpus), name
