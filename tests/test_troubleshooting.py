"""Every message that the guide to troubleshooting quotes is what `dad` prints, word by word."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from guide import ROOT, read_blocks
from PIL import Image
from small_project import dad, write_project

from dad_datasets.lease import Lease
from dad_pipeline.quantizer import Quantizer

GUIDE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = [block.text.strip() for block in read_blocks(GUIDE) if block.text.startswith("error: ")]

HOME = "/home/me"
"""The directory that the guide's reader works in."""

NEW = ("generate", "generate.yaml", "--out", "new")
GENERATE = ("generate", "generate.yaml", "--runner", "inline", "--out", "new")
GENERATE_AGAIN = (*GENERATE[:-1], "shards")
TRAIN = ("train", "train.yaml", "--out", "student")

Patch = pytest.MonkeyPatch
Trouble = Callable[[Patch], tuple[str, ...]]
"""Brings the trouble about in a small project, the current directory; returns the arguments of `dad` that meet it."""


def generate(*assignments: str) -> Trouble:
    return lambda patch: (*GENERATE, *(word for each in assignments for word in ("--set", each)))


def train(*assignments: str) -> Trouble:
    return lambda patch: (*TRAIN, *(word for each in assignments for word in ("--set", each)))


def extra_missing(patch: Patch) -> tuple[str, ...]:
    for name in [name for name in sys.modules if name.startswith("dad_pipeline")]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, "open_clip", None)
    return GENERATE


def no_images(patch: Patch) -> tuple[str, ...]:
    Path("downloads").mkdir()
    Path("downloads/list.txt").write_text("cat\n")
    return generate("source.path=downloads")(patch)


def name_too_long(patch: Patch) -> tuple[str, ...]:
    Path("photos/class0/0.png").rename(f"photos/class0/{'a photograph of a cat ' * 3}.png")
    return GENERATE


def checkpoint_that_runs_code(patch: Patch) -> tuple[str, ...]:
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "hook": print}, "teacher.pt")
    return generate("teacher={kind: timm, architecture: test_resnet, checkpoint: teacher.pt}")(patch)


def checkpoint_cut_off(patch: Patch) -> tuple[str, ...]:
    torch.save({"weight": torch.zeros(1000)}, "teacher.pt")
    os.truncate("teacher.pt", 2000)
    return generate("teacher={kind: timm, architecture: test_resnet, checkpoint: teacher.pt}")(patch)


def checkpoint_without_config(patch: Patch) -> tuple[str, ...]:
    Path("weights").mkdir()
    torch.save({}, "weights/vqgan.ckpt")
    return generate("quantizer={checkpoint: weights/vqgan.ckpt}")(patch)


def memory_too_small(patch: Patch) -> tuple[str, ...]:
    def encode(self: Quantizer, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) == 1:
            return whole(self, pixels)  # the look at the size before the run
        raise torch.OutOfMemoryError("CUDA out of memory.")

    whole = Quantizer.encode
    patch.setattr(Quantizer, "encode", encode)
    return GENERATE


def no_compiler(patch: Patch) -> tuple[str, ...]:
    def fail(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    patch.setattr(torch, "compile", lambda *_, **__: fail)
    return generate("compute.compile=true")(patch)


def being_written(patch: Patch) -> tuple[str, ...]:
    lease = Lease(Path("shards"), heartbeat_s=3600)  # a thread that sleeps, and is left to end with the process
    patch.setattr("socket.gethostname", lambda: "node-3")
    patch.setattr("os.getpid", lambda: 4242)
    lease.__enter__()
    return GENERATE_AGAIN


def bad_images(patch: Patch) -> tuple[str, ...]:
    for number in range(3):
        Path(f"photos/class1/{number}.png").write_bytes(b"<html>")
    return generate("samples_per_shard=24")(patch)


def disk_full(patch: Patch) -> tuple[str, ...]:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr("dad_pipeline.worker.generate_unit", full)
    return GENERATE


def no_cluster_there(patch: Patch) -> tuple[str, ...]:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    patch.setattr("socket.create_connection", refuse)
    return (*NEW, "--runner", "ray", "--ray-address", "head:6379")


def ray_too_slow(patch: Patch) -> tuple[str, ...]:
    def time_out(**_: object) -> None:
        said = (
            "The current node timed out during startup. This could happen because some of the raylet failed to startup"
        )
        raise Exception(f"{said} or the GCS has become overloaded.")  # Ray's own class and words

    patch.setattr("ray.init", time_out)
    return (*NEW, "--runner", "ray")


def not_finished(patch: Patch) -> tuple[str, ...]:
    manifest = Path("shards/manifest.json")
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))
    return TRAIN


def codes_only(patch: Patch) -> tuple[str, ...]:
    status, seen = dad(*GENERATE[:-1], "codes", "--set", "store.image=none")
    assert status == 0, seen
    return train("shards=[{path: codes}]")(patch)


def clean_images_moved(patch: Patch) -> tuple[str, ...]:
    Path("photos").rename("elsewhere")
    return TRAIN


def other_clean_images(patch: Patch) -> tuple[str, ...]:
    for path in Path("photos").rglob("*.png"):
        Image.new("RGB", (20, 18)).save(path)
    return TRAIN


def shard_cut_off(patch: Patch) -> tuple[str, ...]:
    tar = min(Path("shards/shards").glob("*.tar"))
    os.truncate(tar, 10_000)
    return TRAIN


def other_settings_of_a_student(patch: Patch) -> tuple[str, ...]:
    status, seen = dad(*TRAIN)
    assert status == 0, seen
    return train("loss.name=kd")(patch)


def another_number_of_classes(patch: Patch) -> tuple[str, ...]:
    status, seen = dad(*TRAIN)
    assert status == 0, seen
    shutil.copytree("photos/class0", "more/a")
    for name in "bcd":
        shutil.copytree("photos/class1", f"more/{name}")
    recipe = yaml.safe_load(Path("generate.yaml").read_text()) | {"source": {"path": "more"}}
    Path("more.yaml").write_text(yaml.safe_dump(recipe))
    status, seen = dad("generate", "more.yaml", "--runner", "inline", "--out", "more-shards")
    assert status == 0, seen
    return (
        *("train", "train.yaml", "--out", "more-student", "--set", "shards=[{path: more-shards}]"),
        *("--set", "student.checkpoint=student/last.pt"),
    )


TROUBLES: dict[str, Trouble] = {
    "open_clip is not installed": extra_missing,
    "recipe generate.yaml: attack.epsilom": generate("attack.epsilom=0.5"),
    "recipe generate.yaml: attack.steps": generate("attack.steps=many"),
    "--set attack.epsilon": generate("attack.epsilon"),
    "recipe recipe.yaml: cannot be read": lambda patch: ("generate", "recipe.yaml", "--out", "new"),
    "source downloads": no_images,
    "source /home/me/phots": generate("source.path=phots"),
    "the key": name_too_long,
    "teacher accuracy": generate("check.allow_near_chance=false"),
    "class_names": generate("class_names=[cat, dog]"),
    "architecture = 'resnet-50'": generate("teacher={kind: timm, architecture: resnet-50, checkpoint: teacher.pt}"),
    "checkpoint teacher.pt: refused": checkpoint_that_runs_code,
    "checkpoint teacher.pt: not a readable": checkpoint_cut_off,
    "quantizer.checkpoint": generate("quantizer.checkpoint=weights/vqgan.ckpt"),
    "quantizer.config": checkpoint_without_config,
    "views.size": generate("views.size=225"),
    "compute.device = cuda": generate("compute.device=cuda"),
    "a batch of": memory_too_small,
    "compute.compile = true": no_compiler,
    "the output directory shards": lambda patch: (*GENERATE_AGAIN, "--set", "attack.steps=5"),
    "shards is being written": being_written,
    "6 of 48 views failed": bad_images,
    "new cannot be written": disk_full,
    "--ray-address head:6379: needs": lambda patch: (*NEW, "--ray-address", "head:6379"),
    "--ray-address head:6379: no": no_cluster_there,
    "Ray could not be started": ray_too_slow,
    "photos is not a dataset": lambda patch: ("verify", "photos"),
    "shards: is not finished": not_finished,
    "codes: holds codes": codes_only,
    "shards: the clean images": clean_images_moved,
    "clean data photos": other_clean_images,
    "shards/shards/": shard_cut_off,
    "where:": train("shards=[{path: shards, where: label == 'cat'}]"),
    "student holds a run": other_settings_of_a_student,
    "step 1: the loss": train("optimiser={name: sgd, lr: 1.0e+30}", "steps=20"),
    "checkpoint student/last.pt: its classifier": another_number_of_classes,
    "nothing to evaluate": lambda patch: ("evaluate", "student/last.pt", "--out", "evaluation"),
}
"""By the first words of the message."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


def test_the_guide_quotes_each_message_that_is_tried_here_and_no_other() -> None:
    tried = {begin: [one for one in MESSAGES if one.startswith(f"error: {begin}")] for begin in TROUBLES}
    assert [begin for begin, found in tried.items() if len(found) != 1] == []
    assert {message for found in tried.values() for message in found} == set(MESSAGES)
    assert len(MESSAGES) >= 20


@pytest.mark.parametrize("begin", TROUBLES)
def test_the_message_is_printed_as_quoted(begin: str, project: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    if begin.startswith("compute.device") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so asking for one is no mistake here")
    monkeypatch.chdir(shutil.copytree(project, tmp_path / "project"))
    arguments = TROUBLES[begin](monkeypatch)
    status, seen = dad(*arguments)
    assert status == 2
    assert seen.strip().replace(str(Path.cwd()), HOME) in MESSAGES
