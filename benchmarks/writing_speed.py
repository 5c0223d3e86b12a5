"""How fast records get into shards on one core, before their images are encoded.

    python benchmarks/writing_speed.py --out benchmarks/results/speed

From records in memory, each with the bytes of its image, to a published tar and its index, with every hash of the
format: of the pixels, of the tar. In CPU time, which leaves out the waiting for fsync. What encoding takes is measured
by image_codecs.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from measurement import CPU, Figure, SpeedResult, alternated, publish, ratios
from stored_set import CIFAR, FINGERPRINT, IMAGENET_F8, SetForm, adversarial_views

from dad_datasets.folder import LocalFolder
from dad_datasets.index import Row, record_row, span_cells
from dad_datasets.record import Record, compress_logits, members_of, pixels_sha256
from dad_datasets.seeding import generator_for
from dad_datasets.tar_writer import TarWriter
from dad_pipeline.adversarial_views import AdversarialView
from dad_pipeline.shard_generation import StageTimes, UnitReport, publish_unit
from dad_pipeline.stored_views import schema_of

RECORDS, ROUNDS = 1000, 9
IMAGE_BYTES = {"3 KB": 3_000, "90 KB": 90_000}


MEASURED = adversarial_views(CIFAR, 1)[0].measurements()


def record_of(view: AdversarialView, image: bytes) -> Record:
    """What is left to do once the image is encoded and measured: hash its pixels, make the logits small."""
    return Record(
        provenance=view.source.provenance,
        view=view.source.view,
        canvas_sha256=view.source.canvas_sha256,
        image=image,
        image_sha256=pixels_sha256(view.canvas),
        codes=view.codes,
        clean=None,
        logits=compress_logits(view.logits, top_k=None, temperatures=()),
        measurements=MEASURED,
        teacher_vqgan_top1=None,
    )


def write_records(folder: LocalFolder, form: SetForm, views: Sequence[AdversarialView], image: bytes) -> UnitReport:
    """One shard of the views, each with `image` for its file, published."""

    def rows(tar: TarWriter | None) -> Iterator[tuple[int, Row]]:
        assert tar is not None
        for view in views:
            record = record_of(view, image)
            key = record.provenance.key
            spans = {ext: tar.add(f"{key}.{ext}", content) for ext, content in members_of(record, "webp").items()}
            yield view.source.position, record_row(record) | span_cells(spans)

    return publish_unit(
        "train-00000",
        rows,
        folder=folder,
        fingerprint=FINGERPRINT,
        schema=schema_of(form.recipe()),
        num_rows=len(views),
        has_tar=True,
        times=StageTimes(),
    )


def writing_figures(records: int, rounds: int) -> list[Figure]:
    """Both sizes in turn, and what the larger one costs at least: its hashes, and its copy into a file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = LocalFolder(Path(temporary))
        small, large = (_repeated(form, records) for form in (CIFAR, IMAGENET_F8))
        images = {name: generator_for("image bytes", name).bytes(size) for name, size in IMAGE_BYTES.items()}
        tar_bytes = write_records(folder, IMAGENET_F8, large, images["90 KB"]).tar_bytes
        seconds = alternated(
            {
                "3 KB": lambda: write_records(folder, CIFAR, small, images["3 KB"]),
                "90 KB": lambda: write_records(folder, IMAGENET_F8, large, images["90 KB"]),
                "floor": lambda: _hash_and_copy(folder, large, tar_bytes),
            },
            rounds=rounds,
            clock=CPU,
        )
    samples_per_s = statistics.median(records / spent for spent in seconds["90 KB"])
    return [
        Figure.of(
            "writing, images of 3 KB at 32 px",
            [records / spent for spent in seconds["3 KB"]],
            unit="samples/s a core",
            at_least=5000,
        ),
        Figure.of(
            "writing, images of 90 KB at 224 px",
            [tar_bytes / spent / 1e6 for spent in seconds["90 KB"]],
            unit="MB/s a core",
            at_least=300,
            note=f"{samples_per_s:,.0f} samples/s, with 1,000 logits and 784 codes each",
        ),
        Figure.of(
            "writing, images of 90 KB, over its hashes and its copy alone",
            ratios(seconds["90 KB"], seconds["floor"]),
            unit="x",
            note="SHA-256 of 151 KB of pixels and 101 KB of tar a sample; the rest is headers, JSON, logits, index",
        ),
    ]


def _hash_and_copy(folder: LocalFolder, views: Sequence[AdversarialView], tar_bytes: int) -> None:
    """What no writer of this format can leave out."""
    share = bytes(tar_bytes // len(views))
    with folder.publish("floor") as stream:
        tar = TarWriter(stream)
        for view in views:
            pixels_sha256(view.canvas)
            tar.add("floor", share)


def _repeated(form: SetForm, count: int) -> list[AdversarialView]:
    """`count` views of a few pictures: positions and keys differ, as do the canvases in memory."""
    few = adversarial_views(form, min(count, 20))
    views = []
    for number in range(count):
        view = few[number % len(few)]
        provenance = replace(view.source.provenance, key=f"train-00000%2F{number:08d}-v0")
        source = replace(view.source, position=number, provenance=provenance)
        views.append(replace(view, source=source, canvas=view.canvas.copy()))
    return views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for writing_speed.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works")
    arguments = parser.parse_args()
    figures = writing_figures(*((8, 2) if arguments.small else (RECORDS, ROUNDS)))
    libraries = ("numpy", "pyarrow")
    result = SpeedResult.here(
        "writing_speed", "Writing", figures, libraries=libraries, seeds=(0,), small=arguments.small
    )
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
