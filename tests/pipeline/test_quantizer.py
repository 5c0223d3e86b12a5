"""The quantizer against the same network built by taming's own modules, and the published layouts."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_pipeline import quantizer as quantizer_module
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture, nearest_codes
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer, read_architecture, save_quantizer

CPU = torch.device("cpu")
TINY = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.0,
}
TARGETS = {"vq": "taming.models.vqgan.VQModel", "gumbel": "taming.models.vqgan.GumbelVQ"}
KINDS = pytest.mark.parametrize("kind", ["vq", "gumbel"])


class TamingModel(nn.Module):
    """taming.models.vqgan.{VQModel, GumbelVQ} as written there, without Lightning and with a stand-in for the loss."""

    def __init__(self, kind: str, ddconfig: dict[str, object], n_embed: int, embed_dim: int) -> None:
        super().__init__()
        z_channels = ddconfig["z_channels"]
        with contextlib.redirect_stdout(io.StringIO()):
            self.encoder = Encoder(**ddconfig)
            self.decoder = Decoder(**ddconfig)
        self.loss = nn.Linear(2, 2)
        if kind == "vq":
            self.quantize = VectorQuantizer2(n_embed, embed_dim, beta=0.25, sane_index_shape=True)
            nn.init.normal_(self.quantize.embedding.weight)
        else:
            self.quantize = GumbelQuantize(z_channels, embed_dim, n_embed=n_embed, kl_weight=1e-8, temp_init=1.0)
            nn.init.normal_(self.quantize.proj.weight, std=4.0)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1)  # type: ignore[arg-type]
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)  # type: ignore[arg-type]

    def decode(self, vectors: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(vectors))  # type: ignore[no-any-return]


def taming_model(kind: str) -> TamingModel:
    torch.manual_seed(0)
    return TamingModel(kind, TINY, n_embed=24, embed_dim=4).eval()


def write_config(path: Path, kind: str = "vq", target: str = "", **changes: object) -> Path:
    params = {
        "embed_dim": 4,
        "n_embed": 24,
        "lossconfig": {"target": "never.imported"},
        "ddconfig": {**TINY, **changes},
    }
    model = {"base_learning_rate": 4.5e-6, "target": target or TARGETS[kind], "params": params}
    path.write_text(yaml.safe_dump({"model": model}))
    return path


def publish(model: TamingModel, folder: Path, kind: str) -> QuantizerSettings:
    """A checkpoint as Lightning 1.0 wrote it: callbacks keyed by their pickled classes."""
    name = "pytorch_lightning.callbacks.model_checkpoint_of_old"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    module = types.ModuleType(name)
    vars(module)["ModelCheckpoint"] = callback
    state = {**model.state_dict(), "model_ema.decay": torch.tensor(0.999)}
    with pytest.MonkeyPatch.context() as patch:
        for loaded in ("pytorch_lightning", name):  # pickling a class imports the top package of its module
            patch.setitem(sys.modules, loaded, module)
        torch.save({"epoch": 1, "callbacks": {callback: {"best": None}}, "state_dict": state}, folder / "last.ckpt")
    return QuantizerSettings(checkpoint=folder / "last.ckpt", config=write_config(folder / "model.yaml", kind))


def example_pixels(height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1))


@KINDS
def test_codes_and_pixels_are_those_of_taming(tmp_path: Path, kind: str) -> None:
    model = taming_model(kind)
    quantizer = load_quantizer(publish(model, tmp_path, kind), device=CPU)
    pixels = example_pixels()
    with torch.no_grad():
        latents = model.quant_conv(model.encoder(pixels * 2 - 1))
        if kind == "vq":
            vectors, _, (_, _, expected_codes) = model.quantize(latents)
        else:  # without the noise
            expected_codes = model.quantize.proj(latents).argmax(dim=1)
            vectors = model.quantize.get_codebook_entry(expected_codes.flatten(), (3, 8, 12, 4))
        expected = ((model.decode(vectors.contiguous()) + 1) / 2).clamp(0, 1)
        codes = quantizer.encode(pixels)
        decoded = quantizer.decode(codes)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, expected_codes)
    assert len(set(codes.flatten().tolist())) > 3
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-6)
    assert float(decoded.min()) >= 0
    assert float(decoded.max()) <= 1
    assert (quantizer.factor, quantizer.num_codes) == (2, 24)


@KINDS
def test_a_loaded_quantizer_is_frozen_and_leaves_the_random_state_alone(tmp_path: Path, kind: str) -> None:
    published = publish(taming_model(kind), tmp_path, kind)
    before = torch.get_rng_state()
    quantizer = load_quantizer(published, device=CPU)
    assert torch.equal(before, torch.get_rng_state())
    assert not quantizer.training
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    assert torch.equal(quantizer.encode(example_pixels()), quantizer.encode(example_pixels()))


@KINDS
def test_our_own_folder_holds_the_same_quantizer(tmp_path: Path, kind: str) -> None:
    quantizer = load_quantizer(publish(taming_model(kind), tmp_path, kind), device=CPU)
    folder = tmp_path / "export"
    save_quantizer(quantizer, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["quantizer.json", "quantizer.safetensors"]
    for checkpoint in (folder, folder / "quantizer.safetensors"):
        again = load_quantizer(QuantizerSettings(checkpoint=checkpoint), device=CPU)
        assert weights_sha256(again) == weights_sha256(quantizer)
        assert again.architecture == quantizer.architecture


@KINDS
def test_straight_through_has_the_values_of_the_round_trip(kind: str) -> None:
    torch.manual_seed(3)
    quantizer = Quantizer(read_tiny(kind)).eval()
    pixels = example_pixels()
    assert torch.equal(quantizer.straight_through(pixels), quantizer.decode(quantizer.encode(pixels)))


@KINDS
def test_straight_through_has_the_gradient_of_the_estimator(kind: str) -> None:
    torch.manual_seed(3)
    quantizer = Quantizer(read_tiny(kind)).eval().double()
    direction = torch.randn(3, 3, 16, 24, dtype=torch.float64)
    pixels = example_pixels().double().requires_grad_()
    (found,) = torch.autograd.grad((quantizer.straight_through(pixels) * direction).sum(), pixels)

    with torch.no_grad():
        codes = quantizer.encode(pixels)
    vectors = F.embedding(codes, quantizer.codebook).permute(0, 3, 1, 2).detach().requires_grad_()
    decoded = ((quantizer.decoder(quantizer.post_quant_conv(vectors)) + 1) / 2).clamp(0, 1)
    (at_vectors,) = torch.autograd.grad((decoded * direction).sum(), vectors)
    latents = quantizer.quant_conv(quantizer.encoder(pixels * 2 - 1))
    if kind == "gumbel":
        logits = quantizer.quantize.proj(latents)
        latents = torch.einsum("bnhw,nd->bdhw", logits.softmax(dim=1), quantizer.codebook)
    (expected,) = torch.autograd.grad(latents, pixels, grad_outputs=at_vectors)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def read_tiny(kind: str) -> QuantizerArchitecture:
    fields = {name: value for name, value in TINY.items() if name not in ("double_z", "in_channels", "out_ch")}
    return QuantizerArchitecture.model_validate({**fields, "kind": kind, "n_embed": 24, "embed_dim": 4})


def test_the_nearest_code_is_exact_blockwise_and_the_lowest_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randint(-4, 5, (40, 3), generator=generator).float()  # small integers: exact, and full of ties
    latents = torch.randint(-4, 5, (501, 3), generator=generator).float()
    distances = ((latents[:, None] - codebook[None]) ** 2).sum(dim=2)
    ties = (distances == distances.min(dim=1, keepdim=True).values).sum(dim=1)
    expected = [row.tolist().index(row.min().item()) for row in distances]
    assert int(ties.max()) > 1
    assert nearest_codes(latents, codebook).tolist() == expected
    monkeypatch.setitem(quantizer_module.MAX_DISTANCES, "cpu", 300)
    assert nearest_codes(latents, codebook).tolist() == expected


@KINDS
def test_the_code_search_keeps_its_precision_under_autocast(kind: str) -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(read_tiny(kind)).eval()
    latents = torch.randn(2, 4, 8, 8) * 0.02
    expected = quantizer.codes(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.codes(latents), expected)
        image = quantizer.decode(expected)
    assert image.dtype == torch.float32


def test_a_size_that_does_not_divide_is_refused() -> None:
    quantizer = Quantizer(read_tiny("vq"))
    with pytest.raises(UserError, match=r"image size 16 x 25: .* divisible by 2"):
        quantizer.encode(example_pixels(16, 25))
    assert quantizer.encode(example_pixels(6, 10)).shape == (3, 3, 5)


def test_building_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Quantizer(read_tiny("vq"))
    assert capfd.readouterr() == ("", "")


PUBLISHED = {
    # name: (kind, n_embed, embed_dim, ch_mult, attention, z_channels)
    "ImageNet f16 1024": ("vq", 1024, 256, (1, 1, 2, 2, 4), (16,), 256),
    "ImageNet f16 16384": ("vq", 16384, 256, (1, 1, 2, 2, 4), (16,), 256),
    "OpenImages f8 16384": ("vq", 16384, 4, (1, 2, 2, 4), (32,), 4),
    "OpenImages Gumbel f8 8192": ("gumbel", 8192, 256, (1, 1, 2, 4), (32,), 256),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_the_published_names(tmp_path: Path, name: str) -> None:
    kind, n_embed, embed_dim, ch_mult, attention, z_channels = PUBLISHED[name]
    ddconfig = {**TINY, "ch": 128, "ch_mult": list(ch_mult), "num_res_blocks": 2, "attn_resolutions": list(attention)}
    ddconfig |= {"z_channels": z_channels, "resolution": 256}
    config = tmp_path / "model.yaml"
    params = {"embed_dim": embed_dim, "n_embed": n_embed, "ddconfig": ddconfig}
    config.write_text(yaml.safe_dump({"model": {"target": TARGETS[kind], "params": params}}))
    with torch.device("meta"):
        found = Quantizer(read_architecture(config))
        expected = TamingModel(kind, ddconfig, n_embed, embed_dim)
    shapes = {key: value.shape for key, value in expected.state_dict().items() if not key.startswith("loss.")}
    assert {key: value.shape for key, value in found.state_dict().items()} == shapes
    assert found.factor == 2 ** (len(ch_mult) - 1)
    codebook = "quantize.embedding.weight" if kind == "vq" else "quantize.embed.weight"
    assert shapes[codebook] == (n_embed, embed_dim)


def test_latent_diffusion_names_are_understood(tmp_path: Path) -> None:
    for target in ("ldm.models.autoencoder.VQModel", "ldm.models.autoencoder.VQModelInterface"):
        assert read_architecture(write_config(tmp_path / "model.yaml", target=target)) == read_tiny("vq")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "ldm.models.autoencoder.AutoencoderKL"}, "model.target = .*AutoencoderKL"),
        ({"double_z": True}, "double_z = True"),
        ({"in_channels": 1}, "in_channels = 1"),
        ({"out_ch": 4}, "out_ch = 4"),
        ({"ch": 33}, "ch = 33: .*multiple of 32"),
        ({"ch_mult": []}, "ch_mult"),
        ({"kind": "gumbel", "z_channels": 8}, "z_channels = 8: must equal embed_dim = 4"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_architecture(write_config(tmp_path / "model.yaml", **changes))


def test_a_config_without_its_sections_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("model: {target: taming.models.vqgan.VQModel, params: 3}")
    with pytest.raises(UserError, match="params = 3: expected a section"):
        read_architecture(tmp_path / "model.yaml")
    save_quantizer(Quantizer(read_tiny("vq")), tmp_path)
    written = json.loads((tmp_path / "quantizer.json").read_text())
    (tmp_path / "quantizer.json").write_text(json.dumps({**written, "ch_mul": [1]}))
    with pytest.raises(UserError, match="ch_mul: unknown field"):
        load_quantizer(QuantizerSettings(checkpoint=tmp_path), device=CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_channels": 8}, r"of another architecture than .*: .* is \(4, 64, 3, 3\) instead of \(8, 64, 3, 3\)"),
        ({"num_res_blocks": 2}, "encoder.down.0.block.1.norm1.weight is missing, .* and [0-9]+ more"),
        ({"attn_resolutions": []}, r"encoder.down.1.attn.0.norm.weight is unexpected"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    checkpoint = publish(taming_model("vq"), tmp_path, "vq").checkpoint
    config = write_config(tmp_path / "other.yaml", **changes)
    with pytest.raises(UserError, match=message):
        load_quantizer(QuantizerSettings(checkpoint=checkpoint, config=config), device=CPU)


def test_a_checkpoint_without_its_config_is_refused(tmp_path: Path) -> None:
    checkpoint = publish(taming_model("vq"), tmp_path, "vq").checkpoint
    with pytest.raises(UserError, match=r"quantizer\.config: is required"):
        load_quantizer(QuantizerSettings(checkpoint=checkpoint), device=CPU)
    save_quantizer(Quantizer(read_tiny("vq")), tmp_path)
    (tmp_path / "quantizer.json").unlink()
    with pytest.raises(UserError, match=r"quantizer\.json"):
        load_quantizer(QuantizerSettings(checkpoint=tmp_path), device=CPU)
