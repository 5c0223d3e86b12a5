"""Students against timm and torchvision, and their checkpoints against what timm reads and writes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import dad_trainer.students  # noqa: F401  # registers the CIFAR ResNets
from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.students import Student, StudentSettings, build_student, load_student, normalise

TINY: dict[str, Any] = {"architecture": "cifar_resnet20"}


def student_of(num_classes: int = 10, seed: int = 0, **settings: Any) -> Student:
    raw = {**TINY, **settings}
    return build_student(build_settings(StudentSettings, raw, origin="recipe"), num_classes=num_classes, seed=seed)


def pixels(count: int = 2, side: int = 32) -> Tensor:
    drawn = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0))
    return drawn.to(torch.uint8)


def logits(student: Student) -> Tensor:
    with torch.no_grad():
        found: Tensor = student.model.eval()(normalise(pixels(), student.mean, student.std))
    return found


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        # Counted by hand from the paper's table: convolutions, two parameters a normalised channel, the classifier.
        ("cifar_resnet20", 269_722),
        ("cifar_resnet56", 853_018),
        ("cifar_resnet18", 11_173_962),
    ],
)
def test_parameter_counts(architecture: str, expected: int) -> None:
    model = timm.create_model(architecture, num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_resnet18_is_torchvisions_with_a_small_stem() -> None:
    """Weight for weight, in the same order: torchvision's, its stem replaced and its pooling taken out."""
    ours = timm.create_model("cifar_resnet18", num_classes=7).eval()
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    weights = zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict({name: value for (name, _), value in weights})
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_option_a_shortcuts_are_the_subsampled_identity_over_zeros() -> None:
    """With its residual branch silenced, a block is relu(shortcut)."""
    block = timm.create_model("cifar_resnet20").stages[1][0].eval()
    nn.init.zeros_(block.norm2.weight)
    images = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = block(images)
    assert found.shape == (1, 32, 4, 4)
    assert torch.equal(found[:, :16], images[:, :, ::2, ::2].relu())
    assert found[:, 16:].eq(0).all()


def test_the_cifar_resnets_take_what_timm_models_take() -> None:
    model = timm.create_model("cifar_resnet20", num_classes=3, in_chans=1, drop_rate=0.5)
    images = torch.randn(2, 1, 16, 16)
    assert model(images).shape == (2, 3)
    assert not torch.equal(model(images), model(images))  # dropout
    model.eval()
    assert torch.equal(model(images), model.forward_head(model.forward_features(images)))
    model.reset_classifier(0)
    assert model(images).shape == (2, model.num_features)
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"][1:] == (32, 32)
    assert config["mean"] == (0.4914, 0.4822, 0.4465)


def test_group_norm_leaves_no_batch_norm_and_no_dependence_between_images() -> None:
    model = student_of(options={"norm": "group"}).model.train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model(images)[:2], model(images[:2]))
    with_batch_norm = student_of().model.train()
    assert not torch.allclose(with_batch_norm(images)[:2], with_batch_norm(images[:2]))


def test_the_weights_depend_on_the_seed_alone() -> None:
    first = student_of(seed=1).model
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same_weights(first, student_of(seed=1).model)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same_weights(first, student_of(seed=2).model)


def test_normalise_is_torchvisions() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    expected = torchvision.transforms.functional.normalize(pixels() / 255, mean, std)
    found = normalise(pixels().to(memory_format=torch.channels_last), mean, std)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_mean_and_std_are_timms_unless_given() -> None:
    assert student_of().mean == (0.4914, 0.4822, 0.4465)
    assert student_of(architecture="resnet10t").std == (0.229, 0.224, 0.225)
    half = student_of(architecture="vit_tiny_patch16_224.augreg_in21k", image_size=32)
    assert (half.mean, half.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    given = student_of(mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (1, 1, 1))


def test_image_size_builds_a_vision_transformer_for_it() -> None:
    assert student_of().image_size is None
    assert student_of(architecture="test_vit").image_size == 160
    small = student_of(architecture="test_vit", image_size=32)
    assert small.image_size == 32
    assert logits(small).shape == (2, 10)


def test_rates_and_options_reach_the_constructor() -> None:
    student = student_of(architecture="test_vit", drop_rate=0.25, drop_path_rate=0.5, options={"depth": 2})
    assert student.model.get_submodule("head_drop").p == 0.25
    assert len(list(student.model.get_submodule("blocks").children())) == 2
    assert any(type(module).__name__ == "DropPath" for module in student.model.modules())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"architecture": "cifar_resnet21"}, "'cifar_resnet21': timm has no such model; close names: .*cifar_resnet20"),
        ({"architecture": "hf-hub:timm/resnet18"}, "timm has no such model"),
        ({"architecture": "resnet18.a9_in1k"}, "timm has no such tag; it has .*a1_in1k"),
        ({"options": {"wings": 2}}, "cifar_resnet20 cannot be built with .*wings"),
        ({"options": {"norm": "layer"}}, "norm = 'layer': expected batch or group"),
        ({"options": {"num_classes": 2}}, "num_classes is set by other fields"),
        ({"drop_path_rate": 0.1}, "cannot be built with .*drop_path_rate"),
        ({"architecture": "resnet10t", "options": {"act_layer": "foo"}}, "cannot be built with .*: KeyError: 'foo'"),
    ],
)
def test_mistakes_in_the_settings(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        student_of(**settings)


def test_a_student_starts_from_a_checkpoint(tmp_path: Path) -> None:
    trained = student_of(seed=5)
    torch.save(trained.model.state_dict(), tmp_path / "bare.pt")
    assert same_weights(student_of(seed=6, checkpoint=str(tmp_path / "bare.pt")).model, trained.model)


def test_a_classifier_of_other_classes_is_started_anew_only_where_asked(tmp_path: Path) -> None:
    trained = student_of(seed=5)
    torch.save(trained.model.state_dict(), tmp_path / "ten.pt")
    there: dict[str, Any] = {"checkpoint": str(tmp_path / "ten.pt")}
    with pytest.raises(UserError, match=r"classifier fc\.weight has 10 classes, the data 3; student\.reset_head"):
        student_of(num_classes=3, **there)
    fresh = student_of(num_classes=3, seed=6, reset_head=True, **there).model
    assert torch.equal(fresh.get_parameter("conv1.weight"), trained.model.get_parameter("conv1.weight"))
    assert torch.equal(
        fresh.get_parameter("fc.weight"), student_of(num_classes=3, seed=6).model.get_parameter("fc.weight")
    )
    headless = {name: value for name, value in trained.model.state_dict().items() if not name.startswith("fc.")}
    torch.save(headless, tmp_path / "ten.pt")
    assert student_of(reset_head=True, **there).num_classes == 10
    with pytest.raises(UserError, match=r"it has no fc\.weight"):
        student_of(**there)


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_first_mismatch(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(student_of(architecture="cifar_resnet56").model.state_dict(), path)
    with pytest.raises(UserError, match=r"it has stages\.0\.3\.conv1\.weight, which the student has not"):
        student_of(checkpoint=str(path))
    torch.save(student_of().model.state_dict(), path)
    with pytest.raises(UserError, match=r"it has no stages\.0\.3\.conv1\.weight"):
        student_of(architecture="cifar_resnet56", checkpoint=str(path))
    torch.save({**student_of().model.state_dict(), "conv1.weight": torch.zeros(16, 3, 5, 5)}, path)
    with pytest.raises(UserError, match=r"conv1\.weight is \[16, 3, 5, 5\], expected \[16, 3, 3, 3\]"):
        student_of(checkpoint=str(path))


def our_checkpoint(path: Path, *, ema: bool = True) -> tuple[Student, Student]:
    """A checkpoint as the training loop writes it, and the students that stand in it: the trained, the averaged."""
    settings = StudentSettings(
        **TINY, mean=(0.1, 0.2, 0.3), options={"norm": "group"}, checkpoint="gone.pt", reset_head=True
    )
    bare = settings.model_copy(update={"checkpoint": None})
    trained, averaged = (build_student(bare, num_classes=4, seed=seed) for seed in (7, 8))
    content = {
        "arch": settings.architecture,
        "student": settings.model_dump(),
        "num_classes": 4,
        "class_names": ["a", "b", "c", "d"],
        "step": 12,
        "state_dict": trained.model.state_dict(),
        "state_dict_ema": averaged.model.state_dict() if ema else None,
    }
    torch.save(content, path)
    return trained, averaged


def test_our_checkpoints_load_with_all_they_say(tmp_path: Path) -> None:
    trained, averaged = our_checkpoint(tmp_path / "last.pt")
    loaded = load_student(tmp_path / "last.pt")
    assert same_weights(loaded.model, averaged.model)
    assert not loaded.model.training
    assert (loaded.architecture, loaded.num_classes, loaded.mean) == ("cifar_resnet20", 4, (0.1, 0.2, 0.3))
    assert loaded.class_names == ("a", "b", "c", "d")
    assert torch.equal(logits(loaded), logits(averaged))
    assert same_weights(load_student(tmp_path / "last.pt", use_ema=False).model, trained.model)
    our_checkpoint(tmp_path / "no_ema.pt", ema=False)
    assert same_weights(load_student(tmp_path / "no_ema.pt").model, trained.model)
    other = load_student(tmp_path / "last.pt", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), image_size=64)
    assert (other.mean, other.std, other.image_size) == ((0, 0, 0), (1, 1, 1), 64)


def test_timm_loads_our_checkpoints(tmp_path: Path) -> None:
    _, averaged = our_checkpoint(tmp_path / "last.pt")
    path = tmp_path / "last.pt"
    theirs = timm.create_model("cifar_resnet20", num_classes=4, norm="group", checkpoint_path=str(path))
    assert same_weights(theirs, averaged.model)


@pytest.mark.parametrize(
    ("form", "prefix"),
    [
        ("timm", ""),
        ("timm", "module."),
        ("model", "_orig_mod."),
        ("bare", "module._orig_mod."),
        ("safetensors", "_orig_mod.module."),
    ],
)
def test_foreign_checkpoints_load(form: str, prefix: str, tmp_path: Path) -> None:
    trained = student_of(num_classes=6, seed=9)
    weights = {prefix + name: value for name, value in trained.model.state_dict().items()}
    path = tmp_path / f"x.{'safetensors' if form == 'safetensors' else 'pth.tar'}"
    match form:
        case "timm":
            torch.save({"arch": "cifar_resnet20", "args": argparse.Namespace(lr=0.1), "state_dict": weights}, path)
            assert same_weights(load_student(path).model, trained.model)
        case "model":
            torch.save({"model": weights}, path)
        case "bare":
            torch.save(weights, path)
        case _:
            save_file(weights, path)
    loaded = load_student(path, architecture="cifar_resnet20", num_classes=6)
    assert same_weights(loaded.model, trained.model)
    assert (loaded.num_classes, loaded.class_names) == (6, None)
    assert loaded.mean == (0.4914, 0.4822, 0.4465)


def test_a_foreign_checkpoint_without_its_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(student_of().model.state_dict(), path)
    with pytest.raises(UserError, match=r"bare\.pt: does not say its architecture; give one"):
        load_student(path)
    with pytest.raises(UserError, match="has 10 classes, expected 100"):
        load_student(path, architecture="cifar_resnet20", num_classes=100)
    with pytest.raises(UserError, match=r"no such model; close names: .*cifar_resnet20"):
        load_student(path, architecture="cifar_resnet2")
    torch.save({"body": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="holds no classifier of cifar_resnet20; give num_classes"):
        load_student(path, architecture="cifar_resnet20")


class _Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made_by_a_checkpoint",)


def test_files_that_are_no_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / "whole.pt"
    torch.save(student_of().model.state_dict(), whole)
    contents = {
        "cut.pt": whole.read_bytes()[:5000],
        "empty.pt": b"",
        "text.pt": b"\x80\x02not a checkpoint",
        "cut.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: not a readable"):
            load_student(tmp_path / name, architecture="cifar_resnet20")
    torch.save({"state_dict": student_of().model.state_dict(), "hook": _Dangerous()}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="asks to run code, which is refused"):
        load_student(tmp_path / "code.pt", architecture="cifar_resnet20")
    assert not (tmp_path / "made_by_a_checkpoint").exists()
    for value in ({"epoch": 3}, [1, 2]):
        torch.save(value, tmp_path / "none.pt")
        with pytest.raises(UserError, match="holds no weights, neither directly nor under state_dict_ema"):
            load_student(tmp_path / "none.pt", architecture="cifar_resnet20")
    with pytest.raises(UserError, match=r"absent\.pt: no such file"):
        load_student(tmp_path / "absent.pt")


def test_a_cifar_resnet_learns() -> None:
    model = student_of(num_classes=2).model.train()
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(8) % 2
    images[labels == 1] += 0.5
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
