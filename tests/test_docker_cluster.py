"""docker/*.yaml: what Compose, Ray's launcher, Kubernetes and KubeRay accept."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from cloudcoil.models.kubernetes.batch.v1 import Job
from kuberay import RayJob
from pydantic import BaseModel, ValidationError

DOCKER = Path(__file__).parent.parent / "docker"
COMPOSE_FILES = ("compose.yaml", "compose.gpus.yaml")

Document = dict[str, Any]


def document(name: str) -> Document:
    """A YAML file of docker/."""
    content: Document = yaml.safe_load((DOCKER / name).read_text())
    return content


def compose_schema() -> Document:
    """The Compose specification's own, as check-jsonschema carries it."""
    schema: Document = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    return schema


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_files_follow_the_specification(name: str) -> None:
    jsonschema.validate(document(name), compose_schema())


def test_the_compose_schema_can_refuse() -> None:
    content = document("compose.yaml")
    content["services"]["head"]["helthcheck"] = {}
    with pytest.raises(jsonschema.ValidationError, match="helthcheck"):
        jsonschema.validate(content, compose_schema())


def test_compose_names_images_that_are_built_and_services_that_exist() -> None:
    services = document("compose.yaml")["services"]
    assert set(services) == {"head", "worker", "trainer"}
    for service in services.values():
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")
        assert service["image"].startswith(f"dad-{service['build']['target']}:")
        assert service["build"]["target"] in {"trainer", "pipeline"}
        assert {volume.split(":/")[1].split(":")[0] for volume in service["volumes"]} == {
            "dad/data",
            "dad/weights",
            "dad/runs",
        }
    assert services["worker"]["depends_on"] == {"head": {"condition": "service_healthy"}}
    assert "ports" not in services["worker"], "workers scale: a port on the host would be taken by the first"
    assert services.keys() >= document("compose.gpus.yaml")["services"].keys()


def launcher_problem(config: Document) -> str | None:
    """What Ray's own check of a cluster file finds."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(config))
    except (jsonschema.ValidationError, ValueError) as error:
        return str(error)
    return None


def test_the_launcher_file_is_what_ray_accepts() -> None:
    config = document("ray-cluster.yaml")
    assert launcher_problem(config) is None
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_ray_s_check_can_refuse() -> None:
    config = document("ray-cluster.yaml")
    config["rsync_exclude"] = "*.tmp"
    assert "'*.tmp' is not of type 'array'" in (launcher_problem(config) or "")


KUBERNETES: dict[str, type[BaseModel]] = {"train-job.yaml": Job, "kuberay-rayjob.yaml": RayJob}


def kubernetes_problem(name: str, content: Document) -> str | None:
    """What the models refuse, and, as they pass over unknown names, what they drop."""
    try:
        kept = KUBERNETES[name].model_validate(content).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValidationError as error:
        return str(error)
    return None if kept == content else f"dropped or changed: {json.dumps(kept)}"


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_files_are_what_their_models_accept(name: str) -> None:
    assert kubernetes_problem(name, document(name)) is None


def test_the_kubernetes_models_can_refuse() -> None:
    job = document("train-job.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    assert "dropped" in (kubernetes_problem("train-job.yaml", job) or "")
    job = document("train-job.yaml")
    job["spec"]["backoffLimit"] = "often"
    assert "backoffLimit" in (kubernetes_problem("train-job.yaml", job) or "")
    ray_job = document("kuberay-rayjob.yaml")
    ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] = {"num-cpus": 0}
    assert "num-cpus" in (kubernetes_problem("kuberay-rayjob.yaml", ray_job) or "")
    ray_job = document("kuberay-rayjob.yaml")
    ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["volums"] = []
    assert "dropped" in (kubernetes_problem("kuberay-rayjob.yaml", ray_job) or "")


def pods(content: object) -> list[Document]:
    """Every pod's specification inside."""
    if isinstance(content, list):
        return [pod for item in content for pod in pods(item)]
    if not isinstance(content, dict):
        return []
    return [content] if "containers" in content else pods(list(content.values()))


@pytest.mark.parametrize("name", KUBERNETES)
def test_pods_are_not_root_and_mount_what_they_have(name: str) -> None:
    found = pods(document(name))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
