"""What N students cost with shards made once, with a live teacher, and with the attack in every step, as N grows.

    python benchmarks/student_costs.py --out benchmarks/results/student_costs

Floating-point operations for each clean training image, counted while one goes through the paper's networks with random
weights: ViT-L/14 as teacher, VQGAN f8 16384, ResNet-50 at 224 px as student, with its recipe's 100 epochs of pairs.
Counted are products, convolutions and attention, a multiplication and an addition as two; reading and decoding are not.
Takes a minute and 8 GiB.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from bare_generation import bare_loop, batches_in_memory
from full_size import recipe_for as full_size_recipe
from full_size import write_quantizer as write_full_size_quantizer
from generation_speed import cpu_recipe, write_photographs
from machine import versions

from dad_datasets.folder import LocalFolder
from dad_datasets.settings import build_settings
from dad_pipeline.flop_count import FlopCount
from dad_pipeline.planning import plan_run
from dad_pipeline.recipe import Recipe

PRESETS = ("released", "strong")
STUDENTS = (1, 2, 5, 10, 20)
EPOCHS = 100


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Of one image."""

    view: float
    """A stored view: the round trips, the attack, the teacher's answers to both images."""

    teacher: float
    """The teacher's answer to one image."""

    step: float
    """One image forward and backward through the student."""

    def totals(self, students: int, epochs: int) -> dict[str, float]:
        """Of `students` trainings on pairs, for each clean image."""
        steps, answers = (students * epochs * 2 * each for each in (self.step, self.teacher))
        return {
            "shards": self.view + steps,
            "shards, live teacher": self.view + answers + steps,
            "attack in every step": students * epochs * self.view + steps,
        }


def count_operations(work: Path, preset: str, *, small: bool) -> Operations:
    """Counted over one image that goes through networks of random weights."""
    if small:
        raw: dict[str, Any] = cpu_recipe(work, 2, "float32", small=True)
    else:
        write_photographs(work / "photographs", 4, 256)  # one of each class
        write_full_size_quantizer(work / "quantizer")
        raw = {**full_size_recipe(work, "float32"), "compute": {"device": "cpu", "batch_size": 1}}
    raw |= {"attack": {"preset": preset}, "check": {"samples": 0, "allow_near_chance": True}}
    plan, models = plan_run(build_settings(Recipe, raw, origin="benchmark"), LocalFolder(work / "none"))
    batch = replace(batches_in_memory(plan, models)[0], score_vqgan=False)  # as all but a sample of the views
    with FlopCount() as view:
        bare_loop(models, plan.recipe, [batch])
    images = len(batch.pixels)
    with FlopCount() as teacher, torch.no_grad():
        models.teacher(batch.pixels)
    student = timm.create_model("test_resnet" if small else "resnet50").train()
    pixels = torch.rand(2, 3, *(batch.pixels.shape[2:]))
    with FlopCount() as step:
        student(pixels).sum().backward()
    return Operations(view=view.total / images, teacher=teacher.total / images, step=step.total / len(pixels))


def markdown(counted: dict[str, Operations]) -> str:
    """A line for each preset and number of students, in TFLOP for each clean image and as ratios to the shards."""
    lines = [
        "| attack | students | shards | shards, live teacher | attack in every step |",
        "| --- | --- | --- | --- | --- |",
    ]
    for preset, operations in counted.items():
        for students in STUDENTS:
            totals = operations.totals(students, EPOCHS)
            least = totals["shards"]
            cells = [f"{total / 1e12:,.1f} ({total / least:.2f}x)" for total in totals.values()]
            lines.append(f"| `{preset}` | {students} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--small", action="store_true", help="toy size, to see that it works")
    arguments = parser.parse_args()
    counted = {}
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as work:
            counted[preset] = count_operations(Path(work), preset, small=arguments.small)
    document = {
        "versions": versions("torch", "timm"),
        "small": arguments.small,
        "epochs": EPOCHS,
        "operations of an image": {preset: asdict(each) for preset, each in counted.items()},
        "operations for each clean image": {
            preset: {str(students): each.totals(students, EPOCHS) for students in STUDENTS}
            for preset, each in counted.items()
        },
    }
    folder = LocalFolder(arguments.out)
    with folder.publish("flop.json") as stream:
        stream.write((json.dumps(document, indent=1) + "\n").encode())
    table = markdown(counted)
    with folder.publish("flop.md") as stream:
        stream.write(table.encode())
    print(table, end="")


if __name__ == "__main__":
    main()
