"""What changes the result of a run: settled before it starts, hashed, and compared when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from PIL import features

from dad_datasets.errors import UserError
from dad_datasets.layout import FORMAT_VERSION
from dad_datasets.manifest import Manifest
from dad_datasets.settings import build_settings
from dad_datasets.torch_devices import choose_device
from dad_pipeline.models import Models, num_cores
from dad_pipeline.recipe import ComputeSettings, Recipe

PATH_FIELDS = frozenset({"path", "checkpoint", "pretrained", "config", "head"})
"""Where a file lies changes nothing; what is in it stands in the hashes of weights and source."""

NOT_RESULT_FIELDS = frozenset({"card", "check", "max_failure_rate", "max_retries", "stall_timeout_s"})

LIBRARIES = (
    "discrete-adversarial-distillation",
    "numpy",
    "open_clip_torch",
    "pillow",
    "pyarrow",
    "taming-transformers-rom1504",
    "timm",
    "torch",
)


def resolve(recipe: Recipe, existing: Manifest | None) -> Recipe:
    """The recipe without `auto`: what a run in the same directory settled on before, or what this machine offers."""
    settled: Mapping[str, Any] = existing.fingerprinted.get("recipe", {}).get("compute", {}) if existing else {}
    return recipe.model_copy(update={"compute": settle(recipe.compute, settled)})


def settle(compute: ComputeSettings, settled: Mapping[str, Any]) -> ComputeSettings:
    """`compute` without `auto`: what stands in `settled`, or what this machine offers; but for the batch size.

    UserError where it stands there that the run had a GPU, and this machine has none; and for values out of range.
    """
    device: str = compute.device
    if device == "auto":
        device = settled.get("device") or choose_device("auto", field="compute.device").type
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "compute.device: the run was begun on a GPU, and none was found here; go on where there is one, "
                "or begin anew in another directory"
            )
    threads = compute.threads
    if threads == "auto":
        threads = settled.get("threads") or num_cores()
    batch_size = compute.batch_size
    if batch_size == "auto":
        batch_size = settled.get("batch_size") or "auto"  # a trial with the models finds it
    # Validated again: a manifest may have been edited.
    fields = compute.model_dump() | {"device": device, "threads": threads, "batch_size": batch_size}
    return build_settings(type(compute), fields, origin="compute")


def fingerprinted_fields(
    recipe: Recipe, models: Models, *, class_names: tuple[str, ...] | None, source_identity: str
) -> dict[str, Any]:
    """Everything that changes the result, as plain JSON values."""
    dumped = {k: v for k, v in recipe.model_dump(mode="json").items() if k not in NOT_RESULT_FIELDS}
    return {
        "format_version": FORMAT_VERSION,
        "recipe": without_paths(dumped),
        "weights": models.weights(),
        "architectures": models.architectures(),
        "preprocessing": models.teacher.preprocessing,  # the filter and size that a model's own config gave
        "source": source_identity,
        "class_names": None if class_names is None else list(class_names),  # they may come from the source
        "libraries": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Versions of what takes part in the result; libwebp's is Pillow's own copy."""
    versions = {"libwebp": str(features.version("webp"))}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "absent"
    return versions


def _is_path(key: str, value: object) -> bool:
    return key in PATH_FIELDS or (key == "architecture" and isinstance(value, str) and value.endswith(".json"))


def without_paths(value: Any) -> Any:
    """A recipe's JSON without its fields that say where files lie."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items() if not _is_path(key, item)}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value
