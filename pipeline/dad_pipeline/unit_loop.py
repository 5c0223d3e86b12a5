"""What `dad expand` and `dad label` share: the units that are missing in a folder, made one after another here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_summary
from dad_datasets.layout import index_name
from dad_datasets.lost_tars import lost_message, units_without_tar
from dad_datasets.stop_request import INTERRUPTED
from dad_datasets.summary import finished_units
from dad_pipeline.progress import RunProgress
from dad_pipeline.run_log import RunLog
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import NO_ROOM

MakeUnit = Callable[[ShardSummary, Callable[[int], None]], UnitReport]
"""(a unit of the set that is read, what to call with the number of views done) -> what came of it."""


def missing_units(
    folder: Folder, units: Sequence[ShardSummary], fingerprint: str, console: Console
) -> list[ShardSummary]:
    """The units that `folder` lacks. UserError where one that it has was made by another run."""
    own = {unit.unit for unit in units}
    done = finished_units(folder)
    for name in done:
        if name not in own or read_summary(folder, name).fingerprint != fingerprint:
            raise UserError(f"{folder.url}/{index_name(name)} was made by another run: choose another output")
    if lost := units_without_tar(folder, done):
        console.print(lost_message(folder, lost), highlight=False, markup=False, soft_wrap=True)
    there = set(done).difference(lost)
    return [unit for unit in units if unit.unit not in there]


def make_units(
    missing: Sequence[ShardSummary], make: MakeUnit, *, folder: Folder, runner_name: str, console: Console
) -> dict[str, float]:
    """Make every unit of `missing`; the seconds of each stage. UserError where the folder's disk is full."""
    log = RunLog(folder, runner_name)
    try:
        _make(missing, make, folder, log, console)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise UserError(f"{folder.url} cannot be written any more: {error.strerror}") from None
        raise
    except KeyboardInterrupt:
        console.print(INTERRUPTED, soft_wrap=True)
        raise
    return log.seconds


def _make(missing: Sequence[ShardSummary], make: MakeUnit, folder: Folder, log: RunLog, console: Console) -> None:
    views = sum(unit.rows for unit in missing)
    try:
        with RunProgress(console, units=len(missing), views=views) as progress:
            for unit in missing:
                report = make(unit, progress.views_done)
                log.add(report)
                progress.unit_done(report.failed)
    finally:
        folder.sweep()
        log.publish()
