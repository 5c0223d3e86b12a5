"""open_clip teachers, against open_clip's own transform, tokenizer and model used by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.teachers import Teacher, TeacherSettings, load_teacher
from dad_pipeline.teachers.zero_shot import ZeroShotClassifier, pooled_features

CPU = torch.device("cpu")
NAMES = ("cat", "dog", "tall ship")
TEMPLATES = ("a photo of a {}.", "{}!")
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
OTHER_MEAN, OTHER_STD = (0.1, 0.2, 0.3), (0.9, 0.8, 0.7)


def load(dataset_names: Sequence[str] | None = NAMES, **settings: Any) -> Teacher:
    validated: TeacherSettings = TypeAdapter(TeacherSettings).validate_python(settings)
    return load_teacher(validated, class_names=dataset_names, device=CPU)


def zero_shot(dataset_names: Sequence[str] | None = NAMES, **settings: Any) -> Teacher:
    return load(dataset_names, kind="open_clip_zero_shot", **{"templates": TEMPLATES, **settings})


def save_model(folder: Path, config: dict[str, Any], *, name: str) -> nn.Module:
    """A random model with a logit bias of its own, saved as NAME.json, NAME.safetensors, and a local-dir NAME."""
    architecture = folder / f"{name}.json"
    architecture.write_text(json.dumps(config))
    open_clip.add_model_config(architecture)
    torch.manual_seed(0)
    model: nn.Module = open_clip.create_model(name).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key in {"logit_scale", "logit_bias"} & set(parameters):
            parameters[key].add_(-0.5)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    local_dir = folder / name
    local_dir.mkdir()
    save_file(model.state_dict(), local_dir / "open_clip_model.safetensors")
    preprocess = {"mean": OTHER_MEAN, "std": OTHER_STD, "interpolation": "bilinear"}
    (local_dir / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def model(folder: Path) -> nn.Module:
    return save_model(folder, MODEL_CONFIG, name="tiny-clip")


@pytest.fixture
def saved(folder: Path, model: nn.Module) -> dict[str, Any]:
    return {"architecture": str(folder / "tiny-clip.json"), "pretrained": str(folder / "tiny-clip.safetensors")}


def by_hand(model: Any, pixels: Tensor, **preprocess: Any) -> Tensor:
    """The zero-shot logits as open_clip's README computes them."""
    transform = image_transform_v2(PreprocessCfg(size=16, **preprocess), is_train=False)
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    columns = []
    with torch.no_grad():
        for name in NAMES:
            texts = model.encode_text(tokenizer([template.format(name) for template in TEMPLATES]))
            columns.append(F.normalize(F.normalize(texts, dim=-1).mean(0), dim=-1))
        images = F.normalize(model.encode_image(torch.stack([transform(image) for image in pixels])), dim=-1)
        logits: Tensor = model.logit_scale.exp() * images @ torch.stack(columns, dim=1)
        return logits if model.logit_bias is None else logits + model.logit_bias


@pytest.mark.parametrize("size", [16, 24, 11])
def test_checkpoint_file_equals_open_clip(model: nn.Module, saved: dict[str, Any], size: int) -> None:
    pixels = torch.rand(3, 3, size, size)
    teacher = zero_shot(**saved)
    assert teacher.num_classes == 3
    assert torch.allclose(teacher(pixels), by_hand(model, pixels), atol=1e-5)


def test_torch_checkpoint_and_local_dir(folder: Path, model: nn.Module, saved: dict[str, Any]) -> None:
    pixels = torch.rand(2, 3, 24, 24)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, folder / "training.pt")
    teacher = zero_shot(**{**saved, "pretrained": str(folder / "training.pt")})
    assert torch.allclose(teacher(pixels), by_hand(model, pixels), atol=1e-5)
    teacher = zero_shot(pretrained=f"local-dir:{folder / 'tiny-clip'}")
    expected = by_hand(model, pixels, mean=OTHER_MEAN, std=OTHER_STD, interpolation="bilinear")
    assert torch.allclose(teacher(pixels), expected, atol=1e-5)
    assert "16x16 bilinear, mean (0.1, 0.2, 0.3)" in teacher.preprocessing
    assert "from the config of local-dir:" in teacher.preprocessing


def test_a_bare_file_takes_defaults_and_says_so_unless_the_recipe_knows(
    model: nn.Module, saved: dict[str, Any]
) -> None:
    pixels = torch.rand(2, 3, 16, 16)
    silent = zero_shot(**saved)
    assert "mean (0.4815, 0.4578, 0.4082)" in silent.preprocessing
    assert "open_clip's defaults" in silent.preprocessing
    told = zero_shot(**saved, mean=OTHER_MEAN, std=OTHER_STD)
    assert torch.allclose(told(pixels), by_hand(model, pixels, mean=OTHER_MEAN, std=OTHER_STD), atol=1e-5)
    assert not torch.allclose(told(pixels), silent(pixels), atol=1e-2)
    assert told.preprocessing.endswith("from the recipe: mean, std")


def test_logit_bias(folder: Path) -> None:
    with_bias = save_model(folder, {**MODEL_CONFIG, "init_logit_bias": -3.0}, name="tiny-biased")
    teacher = zero_shot(
        architecture=str(folder / "tiny-biased.json"), pretrained=str(folder / "tiny-biased.safetensors")
    )
    pixels = torch.rand(2, 3, 16, 16)
    assert torch.allclose(teacher(pixels), by_hand(with_bias, pixels), atol=1e-5)


def test_prompt_names_may_differ_from_the_datasets(saved: dict[str, Any]) -> None:
    pixels = torch.rand(2, 3, 16, 16)
    teacher = zero_shot(("n01", "n02", "n03"), **saved, class_names=list(NAMES))
    assert torch.equal(teacher(pixels), zero_shot(NAMES, **saved)(pixels))
    assert not torch.equal(teacher(pixels), zero_shot(("n01", "n02", "n03"), **saved)(pixels))
    assert torch.equal(teacher(pixels), zero_shot(None, **saved, class_names=list(NAMES))(pixels))


def test_frozen_in_eval_mode_without_the_text_tower_and_differentiable(saved: dict[str, Any]) -> None:
    teacher = zero_shot(**saved).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert max(tensor.numel() for tensor in teacher.state_dict().values()) < 49408
    pixels = torch.rand(2, 3, 20, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(teacher(pixels)[:, 0].sum(), pixels)
    assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_hash_follows_the_text_tower_but_not_the_rounding_of_its_output(
    folder: Path, model: nn.Module, saved: dict[str, Any]
) -> None:
    teacher = zero_shot(**saved)
    digest = weights_sha256(teacher)
    rounded = next(module for module in teacher.modules() if isinstance(module, ZeroShotClassifier))
    rounded.embeddings.mul_(1 + 1e-6)
    assert weights_sha256(teacher) == digest
    state = {**model.state_dict(), "ln_final.bias": torch.full((8,), 0.5)}
    save_file(state, folder / "other-text.safetensors")
    other = zero_shot(**{**saved, "pretrained": str(folder / "other-text.safetensors")})
    assert weights_sha256(other) != digest


def test_random_weights_come_from_the_seed_alone(saved: dict[str, Any]) -> None:
    random = {**saved, "pretrained": "random"}
    pixels = torch.rand(2, 3, 16, 16)
    state = torch.get_rng_state()
    first = zero_shot(**random, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first(pixels), zero_shot(**random, seed=1)(pixels))
    assert not torch.equal(first(pixels), zero_shot(**random, seed=2)(pixels))


def test_image_size_resizes_the_position_embeddings(saved: dict[str, Any]) -> None:
    teacher = zero_shot(**saved, image_size=32)
    assert "resize to 32x32" in teacher.preprocessing
    assert teacher(torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_coca_towers_give_their_pooled_features() -> None:
    class TwoOutputs(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean((2, 3)), images

    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(pooled_features(TwoOutputs(), images), images.mean((2, 3)))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_head(folder: Path, model: nn.Module, saved: dict[str, Any], normalize: bool, with_bias: bool) -> None:
    head = {"weight": torch.randn(3, 16)} | ({"bias": torch.randn(3)} if with_bias else {})
    save_file(head, folder / "head.safetensors")
    teacher = load(
        kind="open_clip_linear",
        **saved,
        head=folder / "head.safetensors",
        logit_scale=10.0,
        normalize_features=normalize,
    )
    pixels = torch.rand(2, 3, 16, 16)
    preprocess = PreprocessCfg()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    features = model.get_submodule("visual")((pixels - mean) / std)
    features = F.normalize(features, dim=-1) if normalize else features
    expected = 10 * features @ head["weight"].T + head.get("bias", torch.zeros(3))
    assert torch.allclose(teacher(pixels), expected, atol=1e-4)


def test_fine_tuned_checkpoint_equals_tower_and_head(folder: Path, model: nn.Module, saved: dict[str, Any]) -> None:
    head = {"weight": torch.randn(3, 16)}
    save_file(head, folder / "head.safetensors")
    tower = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    torch.save({"state_dict": {**tower, "head.weight": head["weight"]}}, folder / "fine-tuned.pt")
    pixels = torch.rand(2, 3, 16, 16)
    whole = load(kind="open_clip_linear", architecture=saved["architecture"], checkpoint=folder / "fine-tuned.pt")
    parts = load(kind="open_clip_linear", **saved, head=folder / "head.safetensors")
    assert torch.equal(whole(pixels), parts(pixels))


def test_random_linear_teacher_has_the_datasets_classes(saved: dict[str, Any]) -> None:
    random = {**saved, "kind": "open_clip_linear", "pretrained": "random", "seed": 1}
    pixels = torch.rand(2, 3, 16, 16)
    assert load(**random).num_classes == 3
    assert torch.equal(load(**random)(pixels), load(**random)(pixels))
    with pytest.raises(UserError, match="a random head needs class names"):
        load(None, **random)


def other_width(folder: Path) -> Path:
    """The architecture of a wider vision tower, which the saved weights do not fit."""
    path = folder / "wider-clip.json"
    path.write_text(json.dumps({**MODEL_CONFIG, "vision_cfg": {**MODEL_CONFIG["vision_cfg"], "width": 24}}))
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


MISTAKES: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "unknown architecture": (
        lambda folder: {"architecture": "ViT-B-23"},
        "open_clip has no such model; close names: Vi",
    ),
    "architecture file missing": (lambda folder: {"architecture": str(folder / "none.json")}, "cannot be read"),
    "architecture not JSON": (lambda folder: {"architecture": str(write(folder / "bad.json", "{"))}, "not valid JSON"),
    "architecture not a config": (
        lambda folder: {"architecture": str(write(folder / "list.json", '{"embed_dim": 3}'))},
        "it lacks vision_cfg, text_cfg",
    ),
    "architecture hides a built-in": (
        lambda folder: {"architecture": str(write(folder / "ViT-B-32.json", json.dumps(MODEL_CONFIG)))},
        "rename the file",
    ),
    "checkpoint missing": (lambda folder: {"pretrained": str(folder / "none.pt")}, "no such file"),
    "unknown tag": (
        lambda folder: {"architecture": "ViT-B-32-quickgelu", "pretrained": "openal"},
        "no tag of ViT-B-32-quickgelu (tags: openai, ",
    ),
    "weights of another GELU": (
        lambda folder: {"architecture": "ViT-B-32", "pretrained": "openai"},
        "use ViT-B-32-quickgelu",
    ),
    "another architecture": (
        lambda folder: {"architecture": str(other_width(folder))},
        "checkpoint of another architecture than wider-clip: visual.",
    ),
    "corrupt safetensors": (
        lambda folder: {"pretrained": str(write(folder / "torn.safetensors", "nonsense"))},
        "open_clip cannot load it",
    ),
    "corrupt pickle": (lambda folder: {"pretrained": str(write(folder / "torn.pt", "nonsense"))}, "cannot load it"),
    "local-dir missing": (
        lambda folder: {"architecture": None, "pretrained": f"local-dir:{folder / 'none'}"},
        "open_clip cannot load it",
    ),
    "local-dir without weights": (
        lambda folder: {"architecture": None, "pretrained": f"local-dir:{emptied(folder)}"},
        "open_clip cannot load it",
    ),
    "names of another number": (lambda folder: {"class_names": ["cat", "dog"]}, "2 names, but the dataset has 3"),
}


def emptied(folder: Path) -> Path:
    path = folder / "no-weights"
    path.mkdir(exist_ok=True)
    write(path / "open_clip_config.json", json.dumps({"model_cfg": MODEL_CONFIG, "preprocess_cfg": {}}))
    return path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_zero_shot_mistakes(folder: Path, saved: dict[str, Any], mistake: str) -> None:
    change, complaint = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        zero_shot(**{**saved, **change(folder)})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_is_not_installed(saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr(open_clip, "get_tokenizer", missing)
    with pytest.raises(UserError, match=r"tokenizer needs a package that is not installed: .*transformers"):
        zero_shot(**saved)


def test_a_tower_that_is_not_installed(saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr(open_clip, "create_model", missing)
    with pytest.raises(UserError, match=r"needs a package that is not installed: .*transformers"):
        zero_shot(**saved)


def test_zero_shot_needs_class_names(saved: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"teacher\.class_names: is required"):
        zero_shot(None, **saved)


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ({"weight": torch.zeros(3, 8)}, "takes 8 features, but the tower gives 16"),
        ({"weight": torch.zeros(4, 16)}, "4 classes, but there are 3 class names"),
        ({"weight": torch.zeros(3, 16), "bias": torch.zeros(4)}, r"bias has shape \[4\], expected \[3\]"),
        ({"fc.weight": torch.zeros(3, 16)}, r"needs a matrix `weight` \[classes, features\]; found fc.weight"),
    ],
)
def test_head_mistakes(folder: Path, saved: dict[str, Any], head: dict[str, Tensor], complaint: str) -> None:
    save_file(head, folder / "wrong-head.safetensors")
    with pytest.raises(UserError, match=complaint):
        load(kind="open_clip_linear", **saved, head=folder / "wrong-head.safetensors")


def test_fine_tuned_checkpoint_of_another_architecture(folder: Path, saved: dict[str, Any]) -> None:
    save_file({"visual.nothing": torch.zeros(1), "head.weight": torch.zeros(3, 16)}, folder / "other.safetensors")
    with pytest.raises(UserError, match=r"another architecture: .* and \d+ more"):
        load(kind="open_clip_linear", architecture=saved["architecture"], checkpoint=folder / "other.safetensors")
