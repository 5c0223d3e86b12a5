"""Any clean source turned into clean shards with an index; the images' bytes are kept as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dad_datasets.clean_shard import write_clean_shard
from dad_datasets.errors import UserError
from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import Folder, require_writable
from dad_datasets.index import ShardSummary, read_summary
from dad_datasets.keys import check_member_name, encode_key
from dad_datasets.layout import FORMAT_VERSION, MANIFEST, index_name
from dad_datasets.lease import only_writer
from dad_datasets.lost_tars import lost_message, units_without_tar
from dad_datasets.manifest import Manifest, fingerprint_of, read_manifest, require_same_run, write_manifest
from dad_datasets.prepared_totals import PreparedTotals, count_prepared
from dad_datasets.sources import CleanSource, SourceSettings, WorkUnit, open_source
from dad_datasets.summary import finished_units


@dataclass(frozen=True, kw_only=True)
class PreparationProgress:
    """Told once with what is finished already, then after each unit that is written; in samples."""

    done: int
    total: int
    failed: int


def prepare_shards(
    settings: SourceSettings,
    folder: Folder,
    *,
    samples_per_shard: int,
    report: Callable[[PreparationProgress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
) -> PreparedTotals:
    """Write what is missing of the clean shards of a source in `folder`; units that are finished stay as they are.

    UserError before any work where the source is damaged or empty, its labels leave the class names, its keys are too
    long, or the folder cannot be written, is another run's or is being written; after it where not one sample turned
    out usable.
    """
    source = open_source(settings)
    units = list(source.plan(samples_per_shard))
    _check_labels(source)
    if (longest := source.longest_key()) is not None:
        check_member_name(encode_key(longest))
    require_writable(folder)
    with only_writer(folder):
        running = _begin(source, settings, folder, samples_per_shard)
        found = _finished_summaries(folder, units, running.fingerprint, note)
        if len(found) < len(units) and read_manifest(folder).state == "finished":
            write_manifest(folder, running)
        summaries = list(_write_missing(source, folder, units, found, running.fingerprint, report))
        totals = count_prepared(folder, summaries, source.class_names)
        finish_dataset(
            folder,
            running.model_copy(update={"num_classes": totals.num_classes}),
            [unit.name for unit in units],
        )
    return totals


def _check_labels(source: CleanSource) -> None:
    known = source.label_range()
    if known is None:
        return
    low, high = known
    if high < 0:
        raise UserError(f"the source's labels go from {low} to {high}: it has no labels")
    if source.class_names is not None and high >= len(source.class_names):
        raise UserError(
            f"the source's largest label is {high}, but it names {len(source.class_names)} classes: "
            "labels must be below that"
        )


def _begin(source: CleanSource, settings: SourceSettings, folder: Folder, samples_per_shard: int) -> Manifest:
    """The manifest of a running preparation, published unless the folder has one, which must be of the same run."""
    class_names = source.class_names
    fingerprinted = {
        "format_version": FORMAT_VERSION,
        "kind": "clean",
        "samples_per_shard": samples_per_shard,
        "class_names": None if class_names is None else list(class_names),
        "source": {
            "identity": source.identity(),
            "image_column": settings.image_column,
            "label_column": settings.label_column,
        },
    }
    running = Manifest(
        kind="clean",
        state="running",
        fingerprint=fingerprint_of(fingerprinted),
        fingerprinted=fingerprinted,
        recipe={"source": settings.model_dump(mode="json"), "samples_per_shard": samples_per_shard},
        class_names=class_names,
        num_classes=len(class_names or ()),
        shards=0,
        samples=0,
        clean_sha256="",
    )
    folder.sweep()
    if folder.exists(MANIFEST):
        require_same_run(read_manifest(folder), fingerprinted, where=f"the output directory {folder.url}")
    else:
        write_manifest(folder, running)
    return running


def _write_missing(
    source: CleanSource,
    folder: Folder,
    units: Sequence[WorkUnit],
    found: Mapping[str, ShardSummary],
    fingerprint: str,
    report: Callable[[PreparationProgress], None],
) -> Iterator[ShardSummary]:
    total = sum(unit.count for unit in units)
    done, failed = sum(summary.rows for summary in found.values()), sum(summary.failed for summary in found.values())
    report(PreparationProgress(done=done, total=total, failed=failed))
    for unit in units:
        summary = found.get(unit.name)
        if summary is None:
            summary = write_clean_shard(source, folder, unit, fingerprint)
            done, failed = done + summary.rows, failed + summary.failed
            report(PreparationProgress(done=done, total=total, failed=failed))
        yield summary


def _finished_summaries(
    folder: Folder, units: Sequence[WorkUnit], fingerprint: str, note: Callable[[str], None]
) -> dict[str, ShardSummary]:
    """Of the units that are there, index and tar. UserError where another run made one of them."""
    indexed = set(finished_units(folder))
    found = {}
    for unit in units:
        if unit.name in indexed:
            found[unit.name] = summary = read_summary(folder, unit.name)
            if summary.fingerprint != fingerprint:
                raise UserError(f"{folder.url}/{index_name(unit.name)}: is of another run; choose another directory")
    if lost := units_without_tar(folder, list(found)):
        note(lost_message(folder, lost))
    for name in lost:
        del found[name]
    return found
