"""deploy/kuberay and deploy/docker: what Kubernetes would refuse, and what it would drop without a word.

The operator's own schema has a megabyte. FIELDS holds the part that the manifests use, from the API
references of KubeRay 1.6 and Kubernetes: a key that is misspelt, or in the wrong place, is not in
it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

HOUSE = Path(__file__).resolve().parent.parent
DEPLOY = HOUSE / "deploy"

TEXTS = {"*": str}
AMOUNTS = {"cpu": str, "memory": str, "storage": str, "nvidia.com/gpu": str}
RESOURCES = {"requests": AMOUNTS, "limits": AMOUNTS}
METADATA = {"name": str, "generateName": str}
CONTAINER = {
    "name": str,
    "image": str,
    "env": [{"name": str, "value": str}],
    "securityContext": {"allowPrivilegeEscalation": bool, "capabilities": {"drop": [str]}},
    "ports": [{"name": str, "containerPort": int}],
    "resources": RESOURCES,
    "volumeMounts": [{"name": str, "mountPath": str}],
}
VOLUME = {
    "name": str,
    "emptyDir": {"medium": str, "sizeLimit": str},
    "persistentVolumeClaim": {"claimName": str},
    "configMap": {"name": str},
}
POD = {
    "automountServiceAccountToken": bool,
    "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "fsGroup": int},
    "tolerations": [{"key": str, "operator": str, "effect": str}],
    "containers": [CONTAINER],
    "volumes": [VOLUME],
}
GROUP = {"rayStartParams": TEXTS, "template": {"spec": POD}}
WORKERS = {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, **GROUP}
FIELDS: dict[str, Any] = {
    "PersistentVolumeClaim": {"accessModes": [str], "resources": RESOURCES},
    "RayCluster": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": {"version": str, "idleTimeoutSeconds": int, "resources": RESOURCES},
        "authOptions": {"mode": str},
        "headGroupSpec": {"serviceType": str, **GROUP},
        "workerGroupSpecs": [WORKERS],
    },
    "RayJob": {"clusterSelector": TEXTS, "submissionMode": str, "entrypoint": str},
}
NEEDED = {
    "RayCluster": {"headGroupSpec"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "containers": {"name", "image"},
    "ports": {"containerPort"},
    "volumeMounts": {"name", "mountPath"},
}


def complaints(value: Any, fields: Any, where: str) -> list[str]:
    """What differs from the fields: unknown keys, values of another type, required keys that are not there."""
    if isinstance(fields, list):
        if not isinstance(value, list) or not value:
            return [f"{where} is no list"]
        return [line for each in value for line in complaints(each, fields[0], where)]
    if isinstance(fields, dict):
        return _complaints_of_mapping(value, fields, where)
    return [] if type(value) is fields else [f"{where} is {value!r}, no {fields.__name__}"]


def _complaints_of_mapping(value: Any, fields: dict[str, Any], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is no mapping"]
    name = where.rpartition(".")[2]
    found = [f"{where}.{key} is missing" for key in sorted(NEEDED.get(name, set()) - set(value))]
    for key, each in value.items():
        if key in fields or "*" in fields:
            found += complaints(each, fields.get(key, fields.get("*")), f"{where}.{key}")
        else:
            found.append(f"{where}.{key} is unknown")
    return found


def manifests(name: str) -> dict[str, dict[str, Any]]:
    """The manifests of a file by their kind."""
    return {
        each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kuberay" / name).read_text())
    }


def cluster() -> dict[str, Any]:
    return dict(manifests("raycluster.yaml")["RayCluster"]["spec"])


def pods() -> dict[str, dict[str, Any]]:
    """The pod specs by group."""
    spec = cluster()
    workers = {each["groupName"]: each["template"]["spec"] for each in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"]["spec"], **workers}


def dockerfile() -> list[str]:
    """Its instructions, each on one line."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", "").splitlines()


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_every_key_is_a_field_of_its_kind_and_every_required_one_is_there(name: str) -> None:
    for kind, manifest in manifests(name).items():
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        assert manifest["apiVersion"] == ("ray.io/v1" if kind.startswith("Ray") else "v1")
        assert complaints(manifest["metadata"], METADATA, "metadata") == []
        assert complaints(manifest["spec"], FIELDS[kind], kind) == []


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"headGroupSpecs": {}}, "RayCluster.headGroupSpecs is unknown"),
        (
            {"enableInTreeAutoscaling": "yes"},
            "RayCluster.enableInTreeAutoscaling is 'yes', no bool",
        ),
        ({"workerGroupSpecs": [{}]}, "RayCluster.workerGroupSpecs.template is missing"),
        (
            {"headGroupSpec": {"rayStartParams": {"num-cpus": 0}}},
            "RayCluster.headGroupSpec.rayStartParams.num-cpus is 0",
        ),
    ],
)
def test_a_key_or_type_that_the_operator_would_refuse_is_seen(
    wrong: dict[str, Any], complaint: str
) -> None:
    assert complaint in "\n".join(complaints(cluster() | wrong, FIELDS["RayCluster"], "RayCluster"))


def test_values_are_those_that_the_operator_knows() -> None:
    spec = cluster()
    assert spec["autoscalerOptions"]["version"] in {"v1", "v2"}
    assert spec["authOptions"]["mode"] == "token"
    job = manifests("rayjob.yaml")["RayJob"]["spec"]
    assert job["submissionMode"] in {"K8sJobMode", "HTTPMode"}


def test_no_worker_is_there_until_trials_want_one() -> None:
    spec = cluster()
    assert spec["enableInTreeAutoscaling"] is True
    assert {(each["replicas"], each["minReplicas"]) for each in spec["workerGroupSpecs"]} == {
        (0, 0)
    }
    assert all(each["maxReplicas"] >= 1 for each in spec["workerGroupSpecs"])


def test_no_trial_runs_on_the_head() -> None:
    assert cluster()["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}


def test_workers_get_whole_cpus_of_their_own() -> None:
    """Kubernetes gives CPUs for good to pods alone that ask for as much as their limit, in whole CPUs."""
    for group, pod in pods().items():
        for container in pod["containers"]:
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], group
            assert re.fullmatch(r"[1-9]\d*", resources["limits"]["cpu"]), group
            assert "memory" in resources["limits"], group


def test_shared_memory_is_more_than_the_64_mib_of_a_container_and_less_than_the_pod_may_take() -> (
    None
):
    for group, pod in pods().items():
        (container,) = pod["containers"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert set(volumes) == set(mounts.values()), group
        memory = volumes[mounts["/dev/shm"]]["emptyDir"]
        assert memory["medium"] == "Memory"
        limit = container["resources"]["limits"]["memory"]
        assert 2 <= int(memory["sizeLimit"].removesuffix("Gi")) < int(limit.removesuffix("Gi")), (
            group
        )


def test_trials_run_at_the_niceness_of_everything_else_as_on_other_clusters() -> None:
    for group, pod in pods().items():
        (container,) = pod["containers"]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"], group


def test_no_pod_runs_as_root_and_workers_have_no_credentials_of_kubernetes() -> None:
    user = next(line for line in dockerfile() if line.startswith("USER")).split()[1]
    for group, pod in pods().items():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        assert pod.get("automountServiceAccountToken", group == "head") == (group == "head")


def test_the_job_runs_on_that_cluster_and_keeps_records_where_they_outlive_it() -> None:
    files = manifests("raycluster.yaml")
    job = manifests("rayjob.yaml")["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": files["RayCluster"]["metadata"]["name"]}
    words = shlex.split(job["entrypoint"])
    head = pods()["head"]
    mounts = {each["mountPath"]: each["name"] for each in head["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each for each in head["volumes"]}
    claim = volumes[mounts[words[words.index("--out") + 1]]]["persistentVolumeClaim"]["claimName"]
    assert claim == files["PersistentVolumeClaim"]["metadata"]["name"]
    assert "configMap" in volumes[mounts[str(Path(words[2]).parent)]]


def test_the_image_has_the_python_and_ray_that_the_other_clusters_have() -> None:
    lines = dockerfile()
    assert lines[0].startswith("FROM python:3.11-")
    install = next(line for line in lines if "pip install" in line)
    ray = Requirement(next(word for word in shlex.split(install) if word.startswith("ray[")))
    version = next(iter(ray.specifier)).version
    assert cluster()["rayVersion"] == version
    setup = yaml.safe_load((HOUSE / "cluster.yaml").read_text())["setup_commands"]
    assert any(f"{ray}" in command for command in setup)
    images = {pod["containers"][0]["image"] for pod in pods().values()}
    assert len(images) == 1


def test_the_image_holds_what_it_is_built_from_and_nothing_else() -> None:
    lines = (HOUSE / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert {"pyproject.toml", "README.md", "LICENSE", "sweep", "workloads", "grids"} == kept
    assert all((HOUSE / name).exists() for name in kept)


def test_the_image_keeps_environments_data_and_results_in_its_volume() -> None:
    text = "\n".join(dockerfile())
    assert "VOLUME /data" in text
    assert "SWEEP_ENV_DIR=/data/" in text
    assert "SWEEP_DATA_DIR=/data/" in text
    command = yaml.safe_load(dockerfile()[-1].removeprefix("CMD "))
    assert command[:3] == ["sweep", "run", "grids/smoke.yaml"]
    assert command[3:] == ["--out", "/data/results"]
