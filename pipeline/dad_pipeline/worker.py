"""A worker: models loaded once, units generated two at a time. Every runner drives this same class."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from dad_datasets.decoding_trial import DECODING_LIMIT_S
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.lease import under_lease
from dad_datasets.sources import WorkUnit, open_source
from dad_datasets.sources.sparing_reader import SparingReader, UnitReader
from dad_pipeline.compilation import compile_networks
from dad_pipeline.device_failure import is_device_failure, reason_of
from dad_pipeline.fingerprint import library_versions
from dad_pipeline.models import Models, configure_torch, load_models, num_cores, told_of_memory
from dad_pipeline.recipe import Recipe
from dad_pipeline.shard_generation import GenerationContext, UnitReport, generate_unit

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of the output that trying again cannot mend."""

UNITS_IN_FLIGHT = 2
"""Units that a worker holds at once: while one is at the models, the other decodes, encodes or writes."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """All that a worker needs to know; it travels to other processes. The recipe is resolved: no `auto` in it."""

    recipe: Recipe
    class_names: tuple[str, ...] | None
    out: str
    fingerprint: str
    source_identity: str
    weights: dict[str, str]
    libraries: dict[str, str]
    """Versions of what takes part in the result, where the run was planned."""
    lease: str
    """What shows a remote `out` that the worker may write there; empty where nothing asks."""


@dataclass(frozen=True, kw_only=True)
class UnitFailure:
    """A unit that could not be made, and why."""

    unit: str
    reason: str


class WorkerLostError(Exception):
    """This worker can make nothing more, but another may: the process should end. The message is the reason."""


class Worker:
    """Generates units. `generate` may be called from UNITS_IN_FLIGHT threads; model calls take turns.

    `models` are loaded here unless the caller has them already. Building one raises UserError where this machine lacks
    something, WorkerLostError where it may be better next time.
    """

    def __init__(self, settings: WorkerSettings, on_views: Callable[[int], None], models: Models | None = None) -> None:
        try:
            self._build(settings, on_views, models)
        except UserError:
            raise
        except (OSError, RuntimeError) as error:
            raise WorkerLostError(reason_of(error)) from error

    def _build(self, settings: WorkerSettings, on_views: Callable[[int], None], models: Models | None) -> None:
        _require_libraries(settings.libraries)
        configure_torch(settings.recipe.compute)
        self._settings = settings
        source = open_source(settings.recipe.source)
        if source.identity() != settings.source_identity:
            raise UserError(f"the source {settings.recipe.source.path} has changed since the run was planned")
        if models is None:
            with told_of_memory(settings.recipe.compute.batch_size):
                models = load_models(settings.recipe, settings.class_names)
            models.require(settings.weights)
            compile_networks(models.networks(), settings.recipe.compute, models.device)
        self._pool = ThreadPoolExecutor(max_workers=max(2, num_cores()), thread_name_prefix="codec")
        self._context = GenerationContext(
            recipe=settings.recipe,
            source=source,
            models=models,
            folder=under_lease(open_folder(settings.out), settings.lease),
            fingerprint=settings.fingerprint,
            pool=self._pool,
            model_lock=threading.Lock(),
            on_views=on_views,
        )

    def generate(self, unit: WorkUnit, *, careful: bool = False) -> UnitReport | UnitFailure:
        """Make one unit. An error that is not the user's becomes a UnitFailure; nothing half-written stays.

        `careful`: a worker died over this unit; each image is decoded in a child process first, and one that the child
        does not outlive becomes a failed row. WorkerLostError where the device is lost to this process.
        """
        context = self._context
        if careful:
            context = replace(context, source=self._sparing(context.source))
        try:
            with told_of_memory(self._settings.recipe.compute.batch_size):
                return generate_unit(unit, context)
        except UserError:
            raise
        except OSError as error:
            if error.errno in NO_ROOM:
                raise UserError(f"{self._settings.out} cannot be written any more: {error.strerror}") from None
            return UnitFailure(unit=unit.name, reason=reason_of(error))
        except Exception as error:  # the one place where an error becomes a row: the unit's failure
            if is_device_failure(error):
                raise WorkerLostError(reason_of(error)) from error
            return UnitFailure(unit=unit.name, reason=reason_of(error))

    def _sparing(self, source: UnitReader) -> UnitReader:
        recipe = self._settings.recipe
        # Less than what the driver waits for a batch, or it would take this worker for hung once more.
        limit_s = min(DECODING_LIMIT_S, (recipe.stall_timeout_s or DECODING_LIMIT_S) / 2)
        return SparingReader(source, max_pixels=recipe.max_image_pixels, limit_s=limit_s)

    def close(self) -> None:
        """End the worker's threads."""
        self._pool.shutdown()


def _require_libraries(planned: Mapping[str, str]) -> None:
    """UserError where this process has other versions than those that stand in the manifest."""
    own = library_versions()
    for name in sorted(planned.keys() & own.keys()):
        if own[name] != planned[name]:
            raise UserError(
                f"{name} {own[name]} is installed here, {planned[name]} where the run was planned: they must agree"
            )
