"""The student's loss and accuracy on clean images that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.benchmarks.class_mapping import StudentClasses, check_same_labels
from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for
from dad_datasets.sources import open_source
from dad_datasets.views import CentreView, ViewsSettings, draw_view, replay
from dad_trainer.students import normalise
from dad_trainer.students.settings import Rgb
from dad_trainer.training.items import to_tensor
from dad_trainer.training.recipe import ValidationSettings
from dad_trainer.training.step import Arithmetic

SAMPLES_PER_UNIT = 1000


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Validation images in memory."""

    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, "n"]


def load_validation(settings: ValidationSettings, *, size: int, student: StudentClasses) -> LabelledImages:
    """The centre views of the source's first images. UserError where one cannot be used, or labels would be wrong."""
    source = open_source(settings.source)
    check_same_labels(
        source.class_names,
        student,
        origin=f"validation.source {settings.source.path}",
        remedy="it must have every class of the shards, in their order",
    )
    view = CentreView(fraction=settings.fraction)
    views = ViewsSettings(size=size, draw=(view,))
    canvases, labels = [], []
    samples = (sample for unit in source.plan(SAMPLES_PER_UNIT) for sample in source.read(unit))
    for sample in islice(samples, settings.limit):
        problem = sample.problem
        if not problem and not 0 <= sample.label < student.count:
            problem = f"its label {sample.label} is none of the {student.count} classes"
        try:
            image = None if problem else decode_image(sample.image)
        except UndecodableImageError as error:
            problem = str(error)
        if problem or image is None:
            raise UserError(f"validation image {sample.source_key}: {problem}")
        canvases.append(replay(image, draw_view(view, 0, views, image.size, generator_for("centre"))))
        labels.append(sample.label)
    if not canvases:
        raise UserError(f"validation source {settings.source.path}: has no images")
    return LabelledImages(images=to_tensor(canvases), labels=torch.tensor(labels, dtype=torch.int64))


@torch.no_grad()
def score(
    network: nn.Module,
    data: LabelledImages,
    *,
    mean: Rgb,
    std: Rgb,
    arithmetic: Arithmetic,
    batch_size: int,
) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy; the network is left in the mode that it had."""
    was_training = network.training
    network.eval()
    loss, right = 0.0, 0
    for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
        pixels = normalise(images.to(arithmetic.device), mean, std)
        if arithmetic.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with arithmetic.autocast():
            logits = network(pixels).float().cpu()
        loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    network.train(was_training)
    return loss / len(data.labels), right / len(data.labels)
