"""The VQGAN: images to codes and back, built from taming's own blocks under the published weight names."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings

# Distances held at once by the nearest-code search, 16 MiB of float32 on a CPU, whatever the batch and the codebook; a
# GPU needs larger blocks (256 MiB) to be busy.
MAX_DISTANCES = {"cpu": 2**22, "cuda": 2**26}

NORM_GROUPS = 32
"""taming normalises every layer in 32 groups of channels."""


class QuantizerArchitecture(Settings):
    """The shape of a VQGAN, in the words of taming's YAML files."""

    kind: Literal["vq", "gumbel"] = Field("vq", description="vq: nearest codebook vector; gumbel: largest code logit.")
    n_embed: PositiveInt = Field(..., description="Number of codes.")
    embed_dim: PositiveInt = Field(..., description="Length of a codebook vector.")
    z_channels: PositiveInt = Field(..., description="Channels between encoder and codebook.")
    resolution: PositiveInt = Field(..., description="Image size in pixels that attn_resolutions counts from.")
    ch: PositiveInt = Field(..., description="Channels of the first layer, a multiple of 32.")
    ch_mult: tuple[PositiveInt, ...] = Field(..., min_length=1, description="Channels of each level over ch.")
    num_res_blocks: PositiveInt = Field(..., description="Residual blocks per level.")
    attn_resolutions: tuple[PositiveInt, ...] = Field((), description="Feature map sizes that get attention.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of activations dropped in training.")

    @field_validator("ch")
    @classmethod
    def _fits_the_norm(cls, ch: int) -> int:
        if ch % NORM_GROUPS:
            raise ValueError(f"must be a multiple of {NORM_GROUPS}")
        return ch

    @field_validator("z_channels")
    @classmethod
    def _gumbel_keeps_the_width(cls, z_channels: int, info: ValidationInfo) -> int:
        embed_dim = info.data.get("embed_dim", z_channels)
        if (
            info.data.get("kind") == "gumbel" and z_channels != embed_dim
        ):  # taming feeds the one to a layer of the other
            raise ValueError(f"must equal embed_dim = {embed_dim} for kind gumbel")
        return z_channels


class Quantizer(nn.Module):
    """A VQModel or GumbelVQ (Esser et al. 2021, arXiv 2012.09841) without its losses.

    Pixels are in [0, 1] outside and in [-1, 1] inside. Any height and width divisible by `factor` will do.
    """

    def __init__(self, architecture: QuantizerArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.factor = 2 ** (len(architecture.ch_mult) - 1)
        self.num_codes = architecture.n_embed
        n_embed, embed_dim, z_channels = architecture.n_embed, architecture.embed_dim, architecture.z_channels
        network = architecture.model_dump(exclude={"kind", "n_embed", "embed_dim"}) | {"in_channels": 3, "out_ch": 3}
        with contextlib.redirect_stdout(io.StringIO()):  # taming's decoder prints the shape of its input
            self.encoder = Encoder(**network, double_z=False)
            self.decoder = Decoder(**network)
        if architecture.kind == "vq":
            self.quantize = VectorQuantizer2(n_embed, embed_dim, beta=0.25)
        else:
            self.quantize = GumbelQuantize(z_channels, embed_dim, n_embed=n_embed)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)

    @property
    def codebook(self) -> Float[Tensor, "n d"]:
        """The codebook vectors, code by code."""
        table = self.quantize.embedding if self.architecture.kind == "vq" else self.quantize.embed
        return table.weight

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b hq wq"]:
        """The codes of `pixels` in [0, 1]. UserError where the size is not divisible by `factor`."""
        return self.codes(self.latents(pixels))

    def decode(self, codes: Int[Tensor, "b hq wq"]) -> Float[Tensor, "b 3 h w"]:
        """The image of `codes`, clamped to [0, 1]."""
        return self.render(self.embed(codes)).clamp(0, 1)

    def straight_through(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """`decode(encode(pixels))`, bit for bit, with a gradient for `pixels`.

        The gradient is that of the decoder and the encoder; between them it is copied from the codebook vectors to the
        latents (vq, van den Oord et al. 2017), or is that of the softmax over the code logits (gumbel, temperature 1).
        """
        latents = self.latents(pixels)
        vectors = self.embed(self.codes(latents)).detach()
        if self.architecture.kind == "gumbel":
            weights = self._code_logits(latents).softmax(dim=1)
            latents = torch.einsum("bnhw,nd->bdhw", weights, self.codebook)
        # x - x.detach() is exactly zero and has the gradient of x; taming's z + (q - z).detach() rounds.
        return self.render(vectors + (latents - latents.detach())).clamp(0, 1)

    def latents(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d hq wq"]:
        """What the encoder makes of `pixels`, before the codebook."""
        height, width = pixels.shape[-2:]
        if height % self.factor or width % self.factor:
            raise UserError(
                f"image size {height} x {width}: the quantizer needs height and width divisible by {self.factor}"
            )
        return self.quant_conv(self.encoder(pixels * 2 - 1))

    def codes(self, latents: Float[Tensor, "b d hq wq"]) -> Int[Tensor, "b hq wq"]:
        """The code of each latent, nearest (vq) or likeliest (gumbel), found in float32 even under autocast."""
        if self.architecture.kind == "gumbel":
            return self._code_logits(latents).argmax(dim=1)
        batch, _, height, width = latents.shape
        flat = latents.detach().permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        return nearest_codes(flat, self.codebook.detach()).view(batch, height, width)

    def embed(self, codes: Int[Tensor, "b hq wq"]) -> Float[Tensor, "b d hq wq"]:
        """The codebook vectors of `codes`."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2).contiguous()

    def render(self, vectors: Float[Tensor, "b d hq wq"]) -> Float[Tensor, "b 3 h w"]:
        """The decoder's image of codebook vectors, not clamped."""
        return (self.decoder(self.post_quant_conv(vectors)).to(self.codebook.dtype) + 1) / 2

    def _code_logits(self, latents: Float[Tensor, "b d hq wq"]) -> Float[Tensor, "b n hq wq"]:
        with torch.autocast(latents.device.type, enabled=False):
            return self.quantize.proj(latents.to(self.codebook.dtype))


def nearest_codes(latents: Float[Tensor, "m d"], codebook: Float[Tensor, "n d"]) -> Int[Tensor, " m"]:
    """The index of the codebook vector at the least squared distance from each latent, the lowest one among equals.

    The arithmetic is taming's, z^2 + e^2 - 2ze at the codebook's precision, over blocks that bound the memory.
    """
    with torch.autocast(latents.device.type, enabled=False):
        latents = latents.to(codebook.dtype)
        squares = codebook.square().sum(dim=1)
        block_size = max(1, MAX_DISTANCES.get(latents.device.type, 2**22) // len(codebook))
        nearest = []
        for block in torch.split(latents, block_size):
            distances = block.square().sum(dim=1, keepdim=True) + squares
            nearest.append(distances.sub_(block @ codebook.T, alpha=2).argmin(dim=1))
        return torch.cat(nearest)
