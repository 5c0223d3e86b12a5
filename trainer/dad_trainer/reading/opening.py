"""A finished dataset opened for training: everything that can be checked beforehand is, before the first step."""

from __future__ import annotations

from pathlib import Path

from dad_datasets.cache_folder import DEFAULT_CACHE_BYTES
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.recorded_source import recorded_source
from dad_datasets.shard_files import ShardFiles
from dad_datasets.sources import CleanSource, SourceSettings, open_source
from dad_trainer.reading.clean_agreement import check_classes, check_same_images
from dad_trainer.reading.clean_keys import without_missing
from dad_trainer.reading.other_teacher import open_teacher
from dad_trainer.reading.pairs import Pairs
from dad_trainer.reading.record_reading import RecordChoice, read_records
from dad_trainer.reading.replayed_views import ReplayedViews
from dad_trainer.reading.stored_form import StoredForm, stored_form
from dad_trainer.reading.teacher_rows import TeacherRows


def open_pairs(
    path: str | Path,
    *,
    clean: str | SourceSettings | None = None,
    where: str | None = None,
    teacher: str | None = None,
    temperature: float | None = None,
    clean_images: bool = True,
    adversarial_images: bool = True,
    cache: Path | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    checked: int = 8,
    max_missing: float = 0.0,
    allow_unfinished: bool = False,
) -> Pairs:
    """The records of the dataset in `path`, a folder or an fsspec URL, each with its clean sample.

    clean: the source of the clean images. None: the shards' own canvases where they hold them, else the source that
        the dataset was made from.
    where: keeps some views, such as "teacher_adv_top1 == label and codes_changed_by_attack > 0.05".
    teacher: labels of `dad label` by their name, whose logits take the place of the dataset's own. The columns
        teacher_clean_top1, teacher_adv_top1 and their confidences are then this teacher's, in `where`, too.
    temperature: that of the loss; needed to read top-k logits, whose rest was stored for some temperatures alone.
    clean_images, adversarial_images: False where these are not wanted. Without clean images no source is opened, and
        clean-only views are left out; without adversarial ones no view is `attacked`, and codes-only sets will do.
    cache, cache_bytes: folder for copies of remote shards (None: the user's cache folder), and how much it may hold.
    checked: how many clean views, spread over the records, are compared with what was attacked; in each process, its
        first ones are.
    max_missing: share of the clean images that the source may lack; their records are left out, see `Pairs.counts`.
    allow_unfinished: take the shards that are there of a dataset that is still being made.

    UserError where the dataset, its shards or the clean data are not what they should be, or no record is left.
    """
    folder = open_folder(path)
    manifest = read_manifest(folder)
    form = _check_kind(manifest, folder.url, adversarial_images=adversarial_images, allow_unfinished=allow_unfinished)
    if not 0 <= max_missing <= 1:
        raise UserError(f"max_missing = {max_missing}: a share from 0 to 1 is expected")
    if not clean_images and not adversarial_images:
        raise UserError("clean_images, adversarial_images: both are False; at least one must be wanted")
    files = ShardFiles(folder.url, cache, cache_bytes)
    other = None if teacher is None else open_teacher(folder, manifest, form, teacher)
    if other is None:
        teacher_rows = TeacherRows(files, form, temperature=temperature)
    else:
        labels = ShardFiles(other.folder.url, cache, cache_bytes)
        teacher_rows = TeacherRows(labels, other.form, temperature=temperature)
    choice = RecordChoice(where=where, clean_images=clean_images, adversarial_images=adversarial_images)
    records = read_records(folder, manifest, form, choice, other)
    replayed = None
    if clean_images and (clean is not None or not records.has("clean").all()):
        source, name = _open_clean(clean, manifest, folder.url, cache, cache_bytes)
        check_classes(source, name, manifest)
        check_same_images(source, name, manifest, failed=records.counts.failed)
        source.preload()  # before loader workers are forked, which then share it
        records = without_missing(source, name, records, max_missing=max_missing)
        replayed = ReplayedViews(source, name, form, checked=checked)
    pairs = Pairs(
        url=folder.url,
        manifest=manifest,
        size=form.size,
        records=records,
        files=files,
        replayed=replayed,
        teacher=teacher_rows,
        labels=None if other is None else (other.name, other.manifest.fingerprint),
        prefer_stored=clean is None,
    )
    if replayed is not None:
        pairs.check_clean(checked)
    return pairs


def _check_kind(manifest: Manifest, url: str, *, adversarial_images: bool, allow_unfinished: bool) -> StoredForm:
    if manifest.kind != "adversarial":
        raise UserError(
            f"{url}: holds {manifest.kind} images alone; expected a dataset of `dad generate`, which this may be the "
            "clean data of"
        )
    if manifest.state != "finished" and not allow_unfinished:
        raise UserError(f"{url}: is not finished; run `dad generate` again to go on, or allow unfinished datasets")
    form = stored_form(manifest, origin=url)
    if adversarial_images and not form.has_images:
        raise UserError(f"{url}: holds codes and no images; decode it with `dad expand` first")
    return form


def _open_clean(
    clean: str | SourceSettings | None, manifest: Manifest, url: str, cache: Path | None, cache_bytes: int
) -> tuple[CleanSource, str]:
    if clean is not None:
        settings = SourceSettings(path=clean) if isinstance(clean, str) else clean
        return open_source(settings, cache=cache, cache_bytes=cache_bytes), settings.path
    try:
        settings = recorded_source(manifest, origin="source")
        return open_source(settings, cache=cache, cache_bytes=cache_bytes), settings.path
    except UserError as error:
        raise UserError(
            f"{url}: the clean images that it was made from cannot be opened: name them with `clean` ({error})"
        ) from None
