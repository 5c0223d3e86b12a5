"""The report of an adversarial dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

import yaml

from dad_datasets.data_card import DEFAULT_NAME
from dad_datasets.folder import Folder
from dad_datasets.layout import REPORT
from dad_datasets.manifest import Manifest
from dad_datasets.recipe_words import in_words
from dad_datasets.reporting.axis import percent, plain
from dad_datasets.reporting.bar_chart import bar_chart
from dad_datasets.reporting.classes_section import classes_section
from dad_datasets.reporting.dataset_figures import DatasetFigures
from dad_datasets.reporting.extreme_pictures import Pictures, read_pictures
from dad_datasets.reporting.failures_section import failures_section
from dad_datasets.reporting.histogram_chart import histogram_chart
from dad_datasets.reporting.labels_section import ReportedLabels, labels_section
from dad_datasets.reporting.markup import Child, Markup, element
from dad_datasets.reporting.page import Section, page
from dad_datasets.reporting.pictures_section import pictures_section, shown_places
from dad_datasets.reporting.quantities import duration, size
from dad_datasets.reporting.stage_times import StageTimes
from dad_datasets.reporting.table import facts, folded, key_figures, table


def dataset_page(
    folder: Folder,
    manifest: Manifest,
    figures: DatasetFigures,
    *,
    name: str | None = None,
    times: StageTimes | None = None,
    labels: Sequence[ReportedLabels] = (),
) -> bytes:
    """The page. Without `name`, `times` and `labels`, which may come later, equal datasets have equal pages."""
    title = manifest.recipe.get("card", {}).get("pretty_name") or name or DEFAULT_NAME
    summary = figures.summary
    views, failed = summary.status["ok"], summary.status["failed"]
    lead = (
        f"{views:,} adversarial views of {summary.images:,} clean images in {manifest.num_classes:,} classes. Each was "
        "attacked to raise the teacher's loss and snapped to the codes of a VQGAN."
        + ("" if manifest.state == "finished" else " This dataset is not finished: these are the figures so far.")
    )
    sections = [_what(manifest)]
    if views:
        sections += [
            Section(title="Figures", content=[_figures_table(figures)]),
            Section(title="Distributions", content=[_histograms(figures)]),
            pictures_section(manifest, figures, _pictures(folder, manifest, figures)),
            classes_section(manifest, figures.classes),
        ]
    if labels:
        sections.append(labels_section(labels))
    units = {} if times is None else times.failed_units
    total = sum(summary.status.values())
    sections.append(failures_section("views", failed, total, summary.reasons, units))
    if times is not None and times.runs:
        sections.append(_times(times, views))
    return page(title, "Adversarial dataset", lead, [_key(figures)], sections)


def write_report(folder: Folder, manifest: Manifest, figures: DatasetFigures) -> None:
    """Publish report.html in the dataset: the same bytes for equal datasets, so without name, times and labels."""
    content = dataset_page(folder, manifest, figures)
    with folder.publish(REPORT) as stream:
        stream.write(content)


def _key(figures: DatasetFigures) -> Markup:
    summary, means = figures.summary, figures.summary.means
    shown = {
        "adversarial views": f"{summary.status['ok']:,}",
        "in all": size(summary.tar_bytes + summary.index_bytes),
        "failed views": f"{summary.status['failed']:,}",
    }
    for name, mean in (
        ("teacher right, clean", "teacher accuracy, clean"),
        ("teacher right, adversarial", "teacher accuracy, adversarial"),
        ("codes changed by the attack, mean", "codes changed by the attack"),
    ):
        if mean in means and means[mean].count:
            shown[name] = f"{means[mean].value:.1%}"
    if "PSNR, adversarial" in means and means["PSNR, adversarial"].count:
        shown["PSNR to the clean view, mean"] = f"{means['PSNR, adversarial'].value:.1f} dB"
    return key_figures(shown)


def _what(manifest: Manifest) -> Section:
    weights = manifest.fingerprinted.get("weights", {})
    hashes: dict[str, Child] = {
        f"{name.replace('_', ' ')}, sha256": element("code", str(digest)) for name, digest in sorted(weights.items())
    }
    hashes["fingerprint"] = element("code", manifest.fingerprint)
    libraries = manifest.fingerprinted.get("libraries", {})
    hashes["libraries"] = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items())) or "unknown"
    recipe = yaml.safe_dump(manifest.recipe, allow_unicode=True)
    return Section(
        title="What it is",
        content=[
            facts(dict(in_words(manifest.recipe))),
            folded("Hashes and library versions", facts(hashes)),
            folded("The whole recipe", element("pre", recipe, tabindex=0)),
        ],
    )


def _figures_table(figures: DatasetFigures) -> Markup:
    rows = [
        (name, _value(name, mean.value), f"{mean.count:,}")
        for name, mean in figures.summary.means.items()
        if mean.count and not math.isnan(mean.value)
    ]
    return table("Means over the views that were measured", ("figure", "mean", "views"), rows)


def _value(name: str, value: float) -> str:
    if any(word in name for word in ("accuracy", "confidence", "codes")):
        return f"{value:.2%}"
    unit = " dB" if name.startswith("PSNR") else " nats" if name.startswith("objective") else ""
    return f"{value:.4g}{unit}"


def _histograms(figures: DatasetFigures) -> Markup:
    columns = figures.histograms
    charts: Sequence[Markup] = [
        histogram_chart(
            "Codes changed by the attack",
            "Share of a view's codes that differ from those of the VQGAN's round trip.",
            {"codes changed": columns["codes_changed_by_attack"]},
            label="codes changed, %",
            shown=percent,
        ),
        histogram_chart(
            "Distance from the clean view",
            "Peak signal-to-noise ratio: higher is nearer.",
            {"adversarial": columns["psnr_db"], "VQGAN alone": columns["psnr_vqgan_db"]},
            label="PSNR, dB",
            shown=plain,
        ),
        histogram_chart(
            "The teacher's confidence",
            "Probability of its first class, before and after the attack.",
            {"clean": columns["teacher_clean_confidence"], "adversarial": columns["teacher_adv_confidence"]},
            label="confidence, %",
            shown=percent,
        ),
    ]
    return element("div", *charts, class_="charts")


def _pictures(folder: Folder, manifest: Manifest, figures: DatasetFigures) -> Pictures:
    if manifest.recipe["store"]["image"] == "none":
        return Pictures(views={}, problem="this dataset stores codes only; dad expand makes its images")
    places = [place for group in shown_places(figures).values() for place in group]
    return read_pictures(folder, manifest, places)


def _times(times: StageTimes, views: int) -> Section:
    total = sum(times.stages.values())
    rows = [
        (stage, spent, f"{duration(spent)}, {spent / max(total, 1e-9):.0%}") for stage, spent in times.stages.items()
    ]
    chart = bar_chart("Time by stage", "Added up over the workers, whose stages overlap.", rows)
    runs = ", ".join(f"{machine} (runs: {count})" for machine, count in times.machines.items())
    pairs: dict[str, Child] = {"from start to end": duration(times.wall_s), "made by": runs}
    if times.wall_s and times.runs == 1:
        pairs["rate"] = f"{views / times.wall_s:,.3g} views/s"
    return Section(title="Time", content=[element("div", chart, facts(pairs), class_="charts")])
