"""Train the demo's teacher, a small open_clip model, on MNIST images and captions.

    python recipes/demo/mnist.py runs/demo/mnist
    python recipes/demo/train_teacher.py --data runs/demo/mnist --out recipes/demo/weights --test

Writes teacher.safetensors (float16) and teacher.json with the figures reached. The same seed, number of threads and
versions give the same weights; about two minutes on one core. The test images are read only with --test: once, after
everything had been chosen on the validation images.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dad_pipeline.teachers import load_teacher
from dad_pipeline.teachers.check import count_hits
from dad_pipeline.teachers.input_settings import InputSettings
from dad_pipeline.teachers.open_clip_settings import OpenClipZeroShotSettings
from dad_pipeline.teachers.pixel_input import PixelInput, read_preprocessing

ARCHITECTURE = Path(__file__).with_name("clip-mnist.json")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = (
    "a photo of the digit {}.",
    "a photo of the number {}.",
    "a photo of a handwritten {}.",
    "the handwritten number {}.",
    "the handwritten digit {}.",
    "an image of a {}.",
    "a drawing of the number {}.",
    "{}",
)
PROMPTS = CAPTIONS[:5]
MAX_LOGIT_SCALE = 4.6052  # ln 100, as CLIP does


def load_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pixels [n, 3, 28, 28] in [0,1] and labels [n] of a split that mnist.py wrote."""
    table = pq.read_table(folder / f"{split}-00000-of-00001.parquet")
    images = [np.asarray(Image.open(io.BytesIO(cell["bytes"].as_py()))) for cell in table["image"]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(
        table["label"].to_pylist()
    )


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Images turned (15 degrees at most), scaled (15 %), sheared, moved (2 pixels), their contrast changed, noise added
    (standard deviation 0.15 at most), half of them blurred.

    The noise and the blur are there because a quantizer and an attack do the like to it.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(pixels), generator=generator)

    turn, scale, shear = uniform(-15, 15).deg2rad(), uniform(0.85, 1.15), uniform(-0.15, 0.15)
    shift = 4 / pixels.shape[-1]  # grid units: the image is 2 wide
    first = torch.stack([turn.cos() / scale, (shear - turn.sin()) / scale, uniform(-shift, shift)], dim=1)
    second = torch.stack([turn.sin() / scale, turn.cos() / scale, uniform(-shift, shift)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    blurred = F.conv2d(pixels.flatten(0, 1)[:, None], torch.outer(kernel, kernel)[None, None] / 16, padding=1)
    pixels = torch.where((uniform(0, 1) < 0.5).view(-1, 1, 1, 1), blurred.view_as(pixels), pixels)
    pixels = pixels * uniform(0.6, 1.1).view(-1, 1, 1, 1)
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0, 0.15).view(-1, 1, 1, 1)
    return (pixels + noise).clamp(0, 1)


def contrastive_loss(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """The contrastive loss with several positives of UniCL (Yang et al. 2022, arXiv 2204.03610), both directions.

    CLIP's own loss calls every other caption of the batch wrong; with ten classes most batches would then punish
    captions that fit. Here all pairs of one class are positives and share the target's mass.
    """
    logits = scale * images @ texts.T
    same = (labels[:, None] == labels[None, :]).float()
    targets = same / same.sum(1, keepdim=True)  # `same` is symmetric, so both directions have the same targets
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def caption_tokens() -> Tensor:
    """Token ids [10, captions, context]: every caption of each class, with the number as a word and as a digit."""
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE.stem)
    names = [(word, str(digit)) for digit, word in enumerate(WORDS)]
    return torch.stack([tokenizer([c.format(name) for c in CAPTIONS for name in pair]) for pair in names])


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    open_clip.add_model_config(ARCHITECTURE)
    model = open_clip.create_model(ARCHITECTURE.stem)
    config = open_clip.get_model_preprocess_cfg(model)
    to_network = PixelInput(read_preprocessing(config, InputSettings(), origin="the model"))
    pixels, labels = load_split(args.data, "train")
    tokens = caption_tokens()
    steps = len(pixels) // args.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps * args.epochs, pct_start=0.1)
    started = time.perf_counter()
    for epoch in range(args.epochs):
        total = 0.0
        for chosen in torch.randperm(len(pixels), generator=generator)[: steps * args.batch_size].chunk(steps):
            spoken = torch.randint(tokens.shape[1], (len(chosen),), generator=generator)
            images = model.encode_image(to_network(augment(pixels[chosen], generator)), normalize=True)
            texts = model.encode_text(tokens[labels[chosen], spoken], normalize=True)
            loss = contrastive_loss(images, texts, labels[chosen], model.logit_scale.exp())
            optimizer.zero_grad()
            loss.backward()  # torch does not annotate it
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
            total += float(loss.detach())
        rate = (epoch + 1) * steps * args.batch_size / (time.perf_counter() - started)
        print(f"epoch {epoch + 1}/{args.epochs}: loss {total / steps:.3f}, {rate:.0f} images/s", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "teacher.safetensors"
    save(model, tokens, weights)
    figures = measure(weights, args, num_parameters=sum(parameter.numel() for parameter in model.parameters()))
    (args.out / "teacher.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def save(model: nn.Module, tokens: Tensor, path: Path) -> None:
    """float16, and zeros for the words that no caption has: they never trained, and the file packs better so."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    unused = torch.ones(len(state["token_embedding.weight"]), dtype=torch.bool)
    unused[tokens.flatten()] = False
    state["token_embedding.weight"][unused] = 0
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(state, temporary)
    temporary.chmod(0o644)  # safetensors makes files that only their owner may read
    temporary.replace(path)


def measure(weights: Path, args: argparse.Namespace, *, num_parameters: int) -> dict[str, float | int | str]:
    """Zero-shot accuracy of the file as the pipeline loads it; `augmented`: of validation images through `augment`."""
    settings = OpenClipZeroShotSettings(
        kind="open_clip_zero_shot", architecture=str(ARCHITECTURE), pretrained=str(weights), templates=PROMPTS
    )
    teacher = load_teacher(settings, class_names=WORDS, device=torch.device("cpu"))
    pixels, labels = load_split(args.data, "validation")
    splits = {"validation": (pixels, labels), "augmented": (augment(pixels, torch.Generator().manual_seed(1)), labels)}
    if args.test:
        splits["test"] = load_split(args.data, "test")
    figures: dict[str, float | int | str] = {}
    for split, batch in splits.items():
        hits, total = count_hits(teacher, [batch])
        figures[f"{split}_accuracy"] = hits / total
    run = {"seed": args.seed, "epochs": args.epochs, "threads": args.threads, "torch": str(torch.__version__)}
    return {**figures, "num_parameters": num_parameters, **run}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that mnist.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and their figures")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="also measure on the test images")
    train(parser.parse_args())
