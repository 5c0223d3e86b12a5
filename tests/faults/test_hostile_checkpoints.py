"""Checkpoints with code in them: every reader refuses them in one sentence, and nothing runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from hostile_files import Payload
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import write_quantizer
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_pipeline.checkpoint_file import read_state_dict
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.teachers import load_teacher
from dad_pipeline.teachers.open_clip_settings import OpenClipLinearSettings, OpenClipZeroShotSettings
from dad_pipeline.teachers.settings import TimmSettings
from dad_trainer.students import load_student
from dad_trainer.training.checkpoints import DamagedCheckpoint, read_checkpoint

CPU = torch.device("cpu")
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 8, "heads": 2, "layers": 1},
}


def clip_config(folder: Path) -> str:
    path = folder / "hostile-clip.json"
    path.write_text(json.dumps(CLIP))
    return str(path)


def as_timm_teacher(path: Path) -> None:
    fields = {"kind": "timm", "architecture": "test_resnet", "checkpoint": str(path)}
    load_teacher(build_settings(TimmSettings, fields, origin="teacher"), class_names=None, device=CPU)


def as_clip_teacher(path: Path) -> None:
    fields = {"kind": "open_clip_zero_shot", "architecture": clip_config(path.parent), "pretrained": str(path)}
    model = build_settings(OpenClipZeroShotSettings, fields, origin="teacher")
    load_teacher(model, class_names=("a", "b"), device=CPU)


def as_fine_tuned_clip_teacher(path: Path) -> None:
    fields = {"kind": "open_clip_linear", "architecture": clip_config(path.parent), "checkpoint": str(path)}
    model = build_settings(OpenClipLinearSettings, fields, origin="teacher")
    load_teacher(model, class_names=("a", "b"), device=CPU)


def as_quantizer(path: Path) -> None:
    config = write_quantizer(path.parent / "q") / "quantizer.json"
    load_quantizer(QuantizerSettings(checkpoint=path, config=config), device=CPU)


def as_student(path: Path) -> None:
    load_student(path, architecture="resnet18")


def as_training_checkpoint(path: Path) -> None:
    found = read_checkpoint(path)
    assert isinstance(found, DamagedCheckpoint)
    raise UserError(f"{found.path.name}: {found.reason}")


READERS: list[Callable[[Path], None]] = [
    as_timm_teacher,
    as_clip_teacher,
    as_fine_tuned_clip_teacher,
    as_quantizer,
    as_student,
    as_training_checkpoint,
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("reader", READERS)
def test_code_in_a_checkpoint_does_not_run(reader: Callable[[Path], None], zipped: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "it-ran", tmp_path / "weights.pt"
    content = {"state_dict": {"weight": torch.zeros(2)}, "sha256": "", "callbacks": Payload(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"weights\.pt") as refusal:
        reader(path)
    assert "\n" not in str(refusal.value)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the payload works: a reader that trusts pickles would have run it
    assert trace.exists()


@pytest.mark.parametrize("reader", READERS)
def test_a_torchscript_program_is_refused(reader: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with mock.patch.object(torch.jit, "load") as run, pytest.raises(UserError, match=r"weights\.pt"):
        reader(path)
    run.assert_not_called()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [{}, [], None, {"state_dict": []}, {"state_dict": {}}, {"weight": "text"}])
def test_what_holds_no_weights_is_one_sentence(reader: Callable[[Path], None], content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt") as refusal:
        reader(tmp_path / "weights.pt")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("reader", [read_state_dict, as_student, as_training_checkpoint])
@given(garbage=st.binary(max_size=120), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x05\x95"]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_bytes_are_one_sentence(
    reader: Callable[[Path], object], garbage: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "weights.pt"
    path.write_bytes(start + garbage)
    with pytest.raises(UserError, match=r"weights\.pt"):
        reader(path)


def test_evaluate_names_the_file_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    trace, path = tmp_path / "it-ran", tmp_path / "student.pt"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "args": Payload(trace)}, path)
    command = ["evaluate", str(path), "--out", str(tmp_path / "out"), "--clean", str(tmp_path / "images")]
    result = CliRunner().invoke(build_app(), command)
    assert isinstance(result.exception, UserError)
    assert "student.pt: asks to run code, which is refused" in str(result.exception)
    assert not trace.exists()
