"""A worker: models loaded once, units generated two at a time. Every runner drives this same class."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.lease import under_lease
from dad_datasets.sources import WorkUnit, open_source
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
    lease: str
    """What shows a remote `out` that the worker may write there; empty where nothing asks."""


@dataclass(frozen=True, kw_only=True)
class UnitFailure:
    """A unit that could not be made, and why."""

    unit: str
    reason: str


class Worker:
    """Generates units. `generate` may be called from UNITS_IN_FLIGHT threads; model calls take turns.

    `models` are loaded here unless the caller has them already.
    """

    def __init__(self, settings: WorkerSettings, on_views: Callable[[int], None], models: Models | None = None) -> None:
        configure_torch(settings.recipe.compute)
        self._settings = settings
        source = open_source(settings.recipe.source)
        if source.identity() != settings.source_identity:
            raise UserError(f"the source {settings.recipe.source.path} has changed since the run was planned")
        if models is None:
            with told_of_memory(settings.recipe.compute):
                models = load_models(settings.recipe, settings.class_names)
            models.require(settings.weights)
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

    def generate(self, unit: WorkUnit) -> UnitReport | UnitFailure:
        """Make one unit. An error that is not the user's becomes a UnitFailure; nothing half-written stays."""
        try:
            with told_of_memory(self._settings.recipe.compute):
                return generate_unit(unit, self._context)
        except UserError:
            raise
        except OSError as error:
            if error.errno in NO_ROOM:
                raise UserError(f"{self._settings.out} cannot be written any more: {error.strerror}") from None
            return UnitFailure(unit=unit.name, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  # the one place where an error becomes a row: the unit's failure
            return UnitFailure(unit=unit.name, reason=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End the worker's threads."""
        self._pool.shutdown()
