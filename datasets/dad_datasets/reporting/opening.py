"""Which report a folder asks for."""

from __future__ import annotations

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, LocalFolder
from dad_datasets.layout import MANIFEST
from dad_datasets.manifest import read_manifest
from dad_datasets.reporting.clean_figures import gather_clean_figures
from dad_datasets.reporting.clean_page import clean_page
from dad_datasets.reporting.dataset_figures import gather_figures
from dad_datasets.reporting.dataset_page import dataset_page
from dad_datasets.reporting.labels_section import gather_labels
from dad_datasets.reporting.stage_times import read_stage_times
from dad_datasets.reporting.training_files import read_training_folder
from dad_datasets.reporting.training_page import training_page
from dad_datasets.summary import finished_units


def report_page(folder: Folder, *, name: str, baseline: str | None) -> bytes:
    """The page of a dataset, a training run, a sweep or an evaluation. UserError where the folder is none of them.

    `baseline` names the student that the others are compared with; the first one if it is not given.
    """
    if not folder.exists(MANIFEST):
        if isinstance(folder, LocalFolder) and (training := read_training_folder(folder.path)) is not None:
            return training_page(training, name=name, baseline=baseline)
        raise UserError(
            f"{folder.url}: nothing to report on; a dataset has a {MANIFEST}, a training run an args.yaml, "
            "an evaluation a results.json, a sweep folders of runs"
        )
    if baseline is not None:
        raise UserError(f"--baseline {baseline}: a dataset has no students to compare")
    manifest = read_manifest(folder)
    if manifest.kind == "labels":
        raise UserError(f"{folder.url} holds labels of another dataset: give that dataset's folder")
    units = finished_units(folder)
    if manifest.kind == "clean":
        return clean_page(folder, manifest, units, gather_clean_figures(folder, units), name=name)
    figures = gather_figures(folder, units)
    labels = gather_labels(folder, manifest)
    return dataset_page(folder, manifest, figures, name=name, times=read_stage_times(folder), labels=labels)
