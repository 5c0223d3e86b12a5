"""A student run on uint8 pixels: device, precision, memory layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from timm.data import resolve_model_data_config
from torch import Tensor

from dad_datasets.errors import UserError
from dad_trainer.students import Student, normalise

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["float32", "bfloat16"]


def input_size(student: Student) -> int:
    """Side in pixels of the images that a student is fed: its own, else that of its architecture's configuration."""
    if student.image_size is not None:
        return student.image_size
    size: int = resolve_model_data_config(student.model)["input_size"][-1]
    return size


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """How students are run; the same for all of them, so that their numbers compare."""

    device: torch.device
    precision: PrecisionName

    def place(self, student: Student) -> None:
        """Move the student's model to the device, in evaluation mode, channels last."""
        student.model.to(device=self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @torch.inference_mode()
    def logits(self, student: Student, pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """float32 logits. UserError where they are not finite: no figure would mean anything."""
        normalised = normalise(pixels.to(self.device), student.mean, student.std)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = student.model(normalised.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise UserError(f"the student {student.architecture} answers with NaN or infinite logits")
        return logits
