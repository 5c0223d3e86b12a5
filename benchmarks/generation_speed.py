"""Generation against the models alone: the pipeline's share of the time, and what the models' time is made of.

    python benchmarks/generation_speed.py --out benchmarks/results/speed

`dad generate` with one worker, reading, drawing, encoding and writing, against a loop of the same model calls on
batches that lie in memory. Photographs are scikit-image's, the networks have random weights, which cost the same as
trained ones: on a CPU an EfficientNet and a small VQGAN, on a GPU (`--device cuda`) ViT-L/14 and VQGAN f8 16384 at
224 px. `--compile` is `compute.compile`, of the bare loop's networks too; the authors' loop stays as they run it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import torch
from bare_generation import PixelBatch, authors_loop, bare_loop, batches_in_memory
from full_size import recipe_for as full_size_recipe
from full_size import write_quantizer as write_full_size_quantizer
from measurement import Figure, SpeedResult, alternated, publish
from photograph_crops import photograph_crops
from PIL import Image
from rich.console import Console

from dad_datasets.folder import LocalFolder
from dad_datasets.settings import build_settings
from dad_datasets.sources import SourceSettings
from dad_pipeline.batch_size import LARGEST
from dad_pipeline.flop_count import FlopCount
from dad_pipeline.generation_run import generate_dataset
from dad_pipeline.models import Models, load_models
from dad_pipeline.planning import Plan, plan_run
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_checkpoint import save_quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.runners.inline_runner import InlineRunner

NUM_CLASSES = 4
CPU_QUANTIZER = QuantizerArchitecture(
    n_embed=1024, embed_dim=8, z_channels=8, resolution=64, ch=32, ch_mult=(1, 2, 2), num_res_blocks=1
)
IMAGES = {"cpu": {"released": 512, "strong": 128}, "cuda": {"released": 1024, "strong": 512}}
"""For each device and preset as many that a run takes about half a minute: on two cores, on a large GPU in bfloat16."""

FEW = {"cpu": 32, "cuda": LARGEST}
"""Images, at least one batch, of the run that shows what every run costs: models loaded, tables, card and report
written."""


def write_photographs(folder: Path, count: int, size: int) -> None:
    """PNG files in class folders; the classes are arbitrary."""
    for number, crop in enumerate(photograph_crops(size, count)):
        target = folder / f"class{number % NUM_CLASSES}" / f"{number:05d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(target)


def cpu_recipe(work: Path, num_images: int, precision: str, *, small: bool) -> dict[str, Any]:
    write_photographs(work / "photographs", num_images, 72)
    write_photographs(work / "few", min(FEW["cpu"], num_images // 2), 72)
    torch.manual_seed(0)
    quantizer = Quantizer(CPU_QUANTIZER)
    with torch.no_grad():
        quantizer.quantize.get_parameter("embedding.weight").normal_(std=0.3)
    (work / "quantizer").mkdir()
    save_quantizer(quantizer, work / "quantizer")
    return {
        "source": {"path": str(work / "photographs")},
        "views": {"size": 16 if small else 64, "draw": [{"kind": "random_resized_crop"}]},
        "teacher": {
            "kind": "timm",
            "architecture": "test_resnet" if small else "efficientnet_lite0",
            "checkpoint": "random",
            "seed": 0,
            "image_size": 32 if small else 96,
        },
        "quantizer": {"checkpoint": str(work / "quantizer")},
        "compute": {"device": "cpu", "precision": precision, "batch_size": 32},
    }


def gpu_recipe(work: Path, num_images: int, precision: str) -> dict[str, Any]:
    write_photographs(work / "photographs", num_images, 256)
    write_photographs(work / "few", min(FEW["cuda"], num_images // 2), 256)
    write_full_size_quantizer(work / "quantizer")
    raw: dict[str, Any] = dict(full_size_recipe(work, precision))
    compute = {"device": "cuda", "precision": precision, "batch_size": "auto"}
    # Units as of a real run: a batch never reaches over the end of one.
    return raw | {"compute": compute, "samples_per_shard": 1000, "score_vqgan": "first_batch"}


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of a square matrix product: the best of ten."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def figures_of(
    preset: str, raw: dict[str, Any], work: Path, *, rounds: int, limit: float, compiled: bool
) -> list[Figure]:
    """Ours against the bare loop, the bare loop against the device, and for `released` the authors' way."""
    raw = raw | {"attack": {"preset": preset}, "check": {"samples": 0, "allow_near_chance": True}}
    raw["compute"] = raw["compute"] | {"compile": compiled}
    recipe = build_settings(Recipe, raw, origin="benchmark")
    plan, models = plan_run(recipe, LocalFolder(work / "none"))
    recipe = plan.recipe  # its batch size is found once
    few = recipe.model_copy(update={"source": SourceSettings(path=str(work / "few"))})
    few_views = plan_run(few, LocalFolder(work / "none"))[0].num_views
    batches = batches_in_memory(plan, models)
    runs: dict[str, Callable[[], object]] = {
        "ours": _generation(recipe, work / preset),
        "few": _generation(few, work / f"{preset}-few"),
        "bare": _in_a_thread(lambda: bare_loop(models, plan.recipe, batches)),
    }
    if preset == "released":
        plain = load_models(plan.recipe, plan.class_names) if compiled else models
        runs["authors"] = _in_a_thread(lambda: authors_loop(plain, plan.recipe, batches))
    seconds = alternated(runs, rounds=rounds)
    rates = [plan.num_views / each for each in seconds["bare"]]
    each = [
        (ours - fewer) / (plan.num_views - few_views)
        for ours, fewer in zip(seconds["ours"], seconds["few"], strict=True)
    ]
    fixed = [fewer - few_views * view for fewer, view in zip(seconds["few"], each, strict=True)]
    figures = [
        Figure.of(
            f"generation over the bare loop, `{preset}`",
            [view * rate for view, rate in zip(each, rates, strict=True)],
            unit="x",
            at_most=limit,
            note=f"{plan.num_views} images less {few_views}: what every run costs is the next figure",
        ),
        Figure.of(f"generation, what every run costs, `{preset}`", fixed, unit="s"),
        Figure.of(f"bare loop, `{preset}`", rates, unit="images/s"),
        _share_of_matrix_rate(preset, plan, models, batches, rates),
    ]
    if preset == "released":
        ratio = [authors / plan.num_views / view for authors, view in zip(seconds["authors"], each, strict=True)]
        figures.append(Figure.of("speed over a port of the authors' loop, `released`", ratio, unit="x"))
    return figures


def _in_a_thread(run: Callable[[], object]) -> Callable[[], object]:
    """As a worker calls its models: OpenMP's threads wait for one another differently in the main thread."""

    def in_a_thread() -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()

    return in_a_thread


def _generation(recipe: Recipe, out: Path) -> Callable[[], object]:
    numbers = count()

    def run() -> None:
        folder = out / str(next(numbers))
        console = Console(quiet=True)
        complete = generate_dataset(
            recipe, str(folder), make_runner=InlineRunner, runner_name="inline", console=console
        )
        assert complete, "a benchmark's run has no failures"
        shutil.rmtree(folder)

    return run


def _share_of_matrix_rate(
    preset: str, plan: Plan, models: Models, batches: list[PixelBatch], rates: list[float]
) -> Figure:
    one = batches[0]
    first = PixelBatch(
        pixels=one.pixels[:1],
        labels=one.labels[:1],
        start=None if one.start is None else one.start[:1],
        score_vqgan=False,
    )
    counter = FlopCount()
    with counter:
        bare_loop(models, plan.recipe, [first])
    dtype = torch.bfloat16 if plan.recipe.compute.precision == "bfloat16" else torch.float32
    peak = matrix_rate(models.device, dtype, 8192 if models.device.type == "cuda" else 1024)
    return Figure.of(
        f"share of the measured matrix rate, `{preset}`",
        [100 * rate * counter.total / peak for rate in rates],
        unit="%",
        note=f"{counter.total / 1e9:.2f} GFLOP an image; {peak / 1e12:.3g} TFLOP/s in {dtype}".replace("torch.", ""),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="compute.compile, and the bare loop's networks alike")
    parser.add_argument("--preset", choices=("released", "strong"), help="this one alone")
    parser.add_argument("--images", type=int, help="of each run; by default what takes half a minute")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="toy size, to see that it works")
    arguments = parser.parse_args()
    rounds = 1 if arguments.small else arguments.rounds
    name = (
        "generation_speed"
        + ("" if arguments.device == "cpu" else "_cuda")
        + ("" if arguments.precision == "float32" else "_bfloat16")
        + ("_compiled" if arguments.compile else "")
        + ("" if arguments.preset is None else f"_{arguments.preset}")
    )
    command = f"python benchmarks/generation_speed.py --device {arguments.device} --precision {arguments.precision}"
    title = f"Generation, {arguments.device}, {arguments.precision}"
    if arguments.compile:
        command, title = f"{command} --compile", f"{title}, compiled"
    for option in ("preset", "images", "rounds"):
        if getattr(arguments, option) != parser.get_default(option):
            command = f"{command} --{option} {getattr(arguments, option)}"
    figures = []
    for preset in IMAGES[arguments.device] if arguments.preset is None else (arguments.preset,):
        num_images = 8 if arguments.small else arguments.images or IMAGES[arguments.device][preset]
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            if arguments.device == "cpu":
                raw, limit = cpu_recipe(work, num_images, arguments.precision, small=arguments.small), 1.10
            else:
                raw, limit = gpu_recipe(work, num_images, arguments.precision), 1.15
            figures += figures_of(preset, raw, work, rounds=rounds, limit=limit, compiled=arguments.compile)
        # After each preset: what is measured is not lost where time runs out in the next.
        publish(
            arguments.out,
            SpeedResult.here(
                name,
                title,
                figures,
                libraries=("discrete-adversarial-distillation", "torch", "timm"),
                seeds=(0,),
                small=arguments.small,
                command=f"{command} --out benchmarks/results/speed",
                device="gpu" if arguments.device == "cuda" else "cpu",
            ),
        )


if __name__ == "__main__":
    main()
