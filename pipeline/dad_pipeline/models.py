"""The networks of a run, loaded once in each worker, and the arithmetic they run in."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from dad_datasets.errors import UserError
from dad_datasets.torch_devices import choose_device, exact_float32, full_memory_as_sentence
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import load_quantizer
from dad_pipeline.recipe import ComputeSettings, Recipe
from dad_pipeline.teachers import Teacher, load_teacher


@dataclass(frozen=True, kw_only=True)
class Models:
    """What an attack needs. `attacked` is `teacher` itself unless the recipe names another model."""

    teacher: Teacher
    attacked: Teacher
    quantizer: Quantizer
    device: torch.device

    def networks(self) -> tuple[Teacher | Quantizer, ...]:
        """Each network once."""
        return (self.teacher, self.quantizer) + (() if self.attacked is self.teacher else (self.attacked,))

    def weights(self) -> dict[str, str]:
        """SHA-256 of each network's weights, for the manifest."""
        hashes = {"teacher": weights_sha256(self.teacher), "quantizer": weights_sha256(self.quantizer)}
        if self.attacked is not self.teacher:
            hashes["attack_model"] = weights_sha256(self.attacked)
        return hashes

    def architectures(self) -> dict[str, str]:
        """SHA-256 of each network's printed structure: an activation, say, stands in no weight."""
        networks = {"teacher": self.teacher, "quantizer": self.quantizer, "attack_model": self.attacked}
        return {name: hashlib.sha256(repr(network).encode()).hexdigest() for name, network in networks.items()}

    def require(self, weights: Mapping[str, str]) -> None:
        """UserError where this process loaded other weights than the run was planned with."""
        own = self.weights()
        for name in sorted(own.keys() | weights.keys()):
            if own.get(name) != weights.get(name):
                raise UserError(f"the {name}'s checkpoint is not the one that the run was planned with: it has changed")


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_models(recipe: Recipe, class_names: Sequence[str] | None) -> Models:
    """Load and freeze every network. UserError where a checkpoint is missing or does not fit."""
    device = choose_device(recipe.compute.device, field="compute.device")
    teacher = load_teacher(recipe.teacher, class_names=class_names, device=device)
    attacked = teacher
    if recipe.attack.model is not None:
        attacked = load_teacher(recipe.attack.model, class_names=class_names, device=device)
        if attacked.num_classes != teacher.num_classes:
            raise UserError(
                f"attack.model has {attacked.num_classes} classes, the teacher {teacher.num_classes}: they must agree"
            )
    quantizer = load_quantizer(recipe.quantizer, device=device)
    size = recipe.views.size
    if size % quantizer.factor:
        raise UserError(f"views.size = {size}: not a multiple of the quantizer's factor {quantizer.factor}")
    if recipe.store.codes and quantizer.num_codes > 65536:
        raise UserError(f"quantizer: {quantizer.num_codes} codes do not fit uint16; at most 65536 are allowed")
    return Models(teacher=teacher, attacked=attacked, quantizer=quantizer, device=device)


def configure_torch(compute: ComputeSettings) -> None:
    """Fix this process's thread count and kernels as the recipe says. Call it once, before the first model call."""
    assert compute.threads != "auto", "threads are resolved before a worker starts"
    torch.set_num_threads(compute.threads)
    exact_float32()
    if compute.deterministic and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def told_of_memory(
    batch_size: int | Literal["auto"], *, option: str | None = "--set compute.batch_size="
) -> AbstractContextManager[None]:
    """A context in which full memory is a sentence with a way out: `option` and a smaller batch, if any."""
    if batch_size == "auto" or batch_size == 1:
        return full_memory_as_sentence("the models do", "")
    return full_memory_as_sentence(
        f"a batch of {batch_size} views does", f"{option}{batch_size // 2}" if option else ""
    )


def release_device_memory() -> None:
    """Give the device's memory of networks that are no more back to other processes; torch would keep it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def require_size(models: Models, recipe: Recipe) -> None:
    """UserError where the networks cannot process one view of the recipe's size."""
    size = recipe.views.size
    try:
        blank = torch.zeros(1, 3, size, size, device=models.device)
        with torch.no_grad(), precision(recipe.compute, models.device):
            for network in {models.teacher, models.attacked}:
                network(blank)
        with torch.no_grad(), quantizer_precision(recipe.compute, models.device):
            models.quantizer.encode(blank)
    except torch.OutOfMemoryError:
        raise  # a RuntimeError too, but one that the caller knows how to tell
    except (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"views.size = {size}: the models cannot process such images: {reason}") from None


def precision(compute: ComputeSettings, device: torch.device) -> torch.autocast:
    """The arithmetic of the classifiers, a context; inside another one it takes that one's place."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bfloat16")


def quantizer_precision(compute: ComputeSettings, device: torch.device) -> torch.autocast:
    """The arithmetic of the VQGAN, a context."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute.decoder_precision == "bfloat16")
