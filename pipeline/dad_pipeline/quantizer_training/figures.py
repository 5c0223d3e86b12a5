"""How good a quantizer is: what the round trip costs in pixels and in accuracy, and how many codes are in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_training.codebook import perplexity
from dad_pipeline.quantizer_training.images import ImageSet
from dad_pipeline.teachers import Teacher


@dataclass(frozen=True, kw_only=True)
class QuantizerFigures:
    """Over the validation images, the reconstruction rounded to 8 bits as an image file would hold it.

    `psnr_db` is the mean over images. Shares are in [0, 1]. The teacher's are None without a teacher or labels.
    """

    images: int
    psnr_db: float
    codes_used: float
    perplexity: float
    teacher_clean: float | None = None
    teacher_round_trip: float | None = None


@torch.no_grad()
def measure(
    quantizer: Quantizer, images: ImageSet, *, device: torch.device, batch_size: int, teacher: Teacher | None
) -> QuantizerFigures:
    """The figures of `quantizer` in evaluation mode and float32."""
    quantizer.eval()
    counts = torch.zeros(quantizer.num_codes, dtype=torch.int64)
    psnr, clean, kept = [], [], []
    known = teacher is not None and bool((images.labels >= 0).all())
    for start in range(0, len(images), batch_size):
        pixels = images.pixels[start : start + batch_size].to(device).float() / 255
        labels = images.labels[start : start + batch_size].to(device)
        codes = quantizer.encode(pixels)
        counts += torch.bincount(codes.flatten().cpu(), minlength=quantizer.num_codes)
        decoded = (quantizer.decode(codes) * 255).round() / 255
        psnr.append(psnr_db(decoded, pixels))
        if teacher is not None and known:
            clean.append(teacher(pixels).argmax(1) == labels)
            kept.append(teacher(decoded).argmax(1) == labels)
    return QuantizerFigures(
        images=len(images),
        psnr_db=float(torch.cat(psnr).mean()),
        codes_used=float((counts > 0).float().mean()),
        perplexity=perplexity(counts),
        teacher_clean=float(torch.cat(clean).float().mean()) if known else None,
        teacher_round_trip=float(torch.cat(kept).float().mean()) if known else None,
    )


def psnr_db(found: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal to noise ratio of each image, for pixels in [0, 1]; 100 dB at most, for equal images."""
    return -10 * (found - wanted).square().mean(dim=(1, 2, 3)).clamp_min(1e-10).log10()
