"""KubeRay's RayJob, as far as docker/kuberay-rayjob.yaml uses it: no package brings its schema.

Field names and types as in ray-operator/apis/ray/v1 of KubeRay 1.4. Pods are Kubernetes's own models.
"""

from __future__ import annotations

from typing import Literal

from cloudcoil.models.kubernetes.core.v1 import PodTemplateSpec
from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class HeadGroup(_Strict):
    """The pod of Ray's head; the start parameters are texts, even where they are numbers."""

    rayStartParams: dict[str, str]  # noqa: N815
    template: PodTemplateSpec


class WorkerGroup(_Strict):
    """Pods that are alike."""

    groupName: str  # noqa: N815
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)  # noqa: N815
    maxReplicas: int = Field(ge=0)  # noqa: N815
    rayStartParams: dict[str, str]  # noqa: N815
    template: PodTemplateSpec


class RayCluster(_Strict):
    """The cluster that is made for the job."""

    rayVersion: str  # noqa: N815
    headGroupSpec: HeadGroup  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815


class RayJobSpec(_Strict):
    """A command, and the cluster that it runs on."""

    entrypoint: str
    backoffLimit: int = Field(ge=0)  # noqa: N815
    shutdownAfterJobFinishes: bool  # noqa: N815
    ttlSecondsAfterFinished: int = Field(ge=0)  # noqa: N815
    rayClusterSpec: RayCluster  # noqa: N815


class RayJob(_Strict):
    """The whole document."""

    apiVersion: Literal["ray.io/v1"]  # noqa: N815
    kind: Literal["RayJob"]
    metadata: dict[str, str]
    spec: RayJobSpec
