"""`dad expand` from the set of codes to the finished set of images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import open_folder, require_writable
from dad_datasets.lease import only_writer
from dad_datasets.manifest import require_same_run, write_manifest
from dad_datasets.output_place import refuse_out_inside_source
from dad_datasets.summary import summarise, summary_table
from dad_datasets.torch_devices import choose_device
from dad_pipeline.compilation import compile_networks
from dad_pipeline.expansion.card_note import card_note
from dad_pipeline.expansion.comparison import HashComparison, compare_hashes, compare_with_reference
from dad_pipeline.expansion.expanded_unit import Expansion, expand_unit
from dad_pipeline.expansion.origin import open_origin, quantizer_of
from dad_pipeline.expansion.plan import ExpandedFormat, plan_expansion
from dad_pipeline.models import configure_torch, num_cores
from dad_pipeline.planning import existing_manifest
from dad_pipeline.recipe import DeviceName
from dad_pipeline.unit_loop import make_units, missing_units


def expand_dataset(
    codes: str,
    out: str,
    *,
    console: Console,
    image_format: ExpandedFormat = "webp",
    device: DeviceName = "auto",
    batch_size: int | None = None,
    compiled: bool | None = None,
    quantizer: Path | None = None,
    check: int = 0,
) -> None:
    """Decode the codes-only set in the folder `codes` into images in `out`, going on where an earlier run stopped.

    `check` views are compared with the decoder in float64 at the end. UserError for a mistake, before any work; and
    where one of the views that were compared is further than 1/255 from that in a float32 set.
    """
    refuse_out_inside_source(codes, out)
    origin, folder = open_origin(codes), open_folder(out)
    require_writable(folder)
    existing = existing_manifest(folder)
    plan = plan_expansion(
        origin, existing, image_format=image_format, device=device, batch_size=batch_size, compiled=compiled
    )
    configure_torch(plan.compute)
    where = choose_device(plan.compute.device, field="--device")
    network = quantizer_of(origin, quantizer, where)
    compile_networks([network], plan.compute, where)
    with only_writer(folder), ThreadPoolExecutor(max(2, num_cores()), thread_name_prefix="codec") as pool:
        folder.sweep()
        existing = existing_manifest(folder)
        if existing is not None:
            require_same_run(existing, plan.manifest.fingerprinted, where=f"the output directory {folder.url}")
        missing = missing_units(folder, origin.units, plan.manifest.fingerprint, console)
        done = len(origin.units) - len(missing)
        console.print(
            f"{len(origin.units):,} units, decoded on {where.type} in {plan.compute.decoder_precision}"
            + (f"; {done:,} units are finished already" if done else ""),
            highlight=False,
        )
        if existing is None or (missing and existing.state == "finished"):
            write_manifest(folder, plan.manifest)
        expansion = Expansion(origin=origin, plan=plan, folder=folder, quantizer=network, device=where, pool=pool)
        seconds = None
        if missing:
            seconds = make_units(
                missing,
                lambda unit, on_views: expand_unit(unit, expansion, on_views),
                folder=folder,
                runner_name="expand",
                console=console,
            )
        units = [unit.unit for unit in origin.units]
        hashes = compare_hashes(origin.folder, folder, units)
        if missing or existing is None or existing.state != "finished":
            finish_dataset(folder, plan.manifest, units, card_note=card_note(origin, plan, hashes))
        _close(expansion, hashes, units, seconds, check, console)


def _close(
    expansion: Expansion,
    hashes: HashComparison,
    units: list[str],
    seconds: dict[str, float] | None,
    check: int,
    console: Console,
) -> None:
    """The closing table, and what the comparisons say."""
    table = summary_table(summarise(expansion.folder, units), title=f"dataset {expansion.folder.url}", seconds=seconds)
    table.add_row("images with the origin's very pixels", f"{hashes.identical:,} of {hashes.views:,}")
    console.print(table)
    if not check:
        if hashes.identical < hashes.views:
            console.print("the other images: --check 8 compares eight of them with the decoder in float64")
        return
    result = compare_with_reference(expansion, units, hashes, check)
    console.print(
        f"{result.views:,} views against the decoder in float64: at most {result.largest}/255 apart, "
        f"{result.differing_share:.2%} of the values differ",
        highlight=False,
    )
    if result.largest > 1 and expansion.plan.compute.decoder_precision == "float32":
        raise UserError(
            f"{expansion.folder.url}: pixels are {result.largest}/255 from what the codes stand for; at most 1/255 is "
            "expected of any machine: remove it and expand again elsewhere"
        )
