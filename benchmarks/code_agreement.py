"""How often a VQGAN's codes agree between precisions, on real images, and what bfloat16 does to the round trip.

    python benchmarks/code_agreement.py QUANTIZER --images SOURCE --out benchmarks/results/code_agreement/NAME.json

QUANTIZER is a folder of `dad train-quantizer` (or a published checkpoint with `--config`), SOURCE what `dad prepare`
takes. Codes in float64 are the reference: float32 differs from it only where two codes are all but equally near.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from machine import hardware, versions
from torch import Tensor

from dad_datasets.sources import SourceSettings, open_source
from dad_datasets.torch_devices import exact_float32
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.quantizer_training.figures import psnr_db
from dad_pipeline.quantizer_training.images import load_images

BATCH_SIZE = 50


def codes_and_pixels(quantizer: Quantizer, pixels: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """[n, h, w] and [n, 3, s, s]: encoding, and the decoding of those codes, both in `precision`.

    bfloat16 is autocast's, as in the pipeline; the others are of the whole network.
    """
    mixed = precision == torch.bfloat16
    network = quantizer.to(torch.float32 if mixed else precision)
    codes, decoded = [], []
    for batch in pixels.split(BATCH_SIZE):
        with torch.no_grad(), torch.autocast(batch.device.type, torch.bfloat16, enabled=mixed):
            codes.append(network.encode(batch.to(torch.float32 if mixed else precision)))
            decoded.append(network.decode(codes[-1]).float())
    return torch.cat(codes), torch.cat(decoded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantizer", type=Path)
    parser.add_argument("--config", type=Path, help="of a published checkpoint")
    parser.add_argument("--images", required=True, help="folder, tars or Parquet")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    exact_float32()
    device = torch.device(arguments.device)
    settings = QuantizerSettings(checkpoint=arguments.quantizer, config=arguments.config)
    quantizer = load_quantizer(settings, device=device)
    size = quantizer.architecture.resolution
    images, _ = load_images(open_source(SourceSettings(path=arguments.images)), size=size, max_images=arguments.count)
    pixels = images.pixels.to(device) / 255
    reference, _ = codes_and_pixels(quantizer, pixels, torch.float64)
    result: dict[str, object] = {
        "what": f"{len(pixels)} images of {size} px, {reference[0].numel()} codes each of {len(quantizer.codebook)}",
        "hardware": hardware(),
        "device": device.type,
        "versions": versions("torch"),
    }
    for precision in (torch.float32, torch.bfloat16):
        codes, decoded = codes_and_pixels(quantizer, pixels, precision)
        same = codes == reference
        result[str(precision).removeprefix("torch.")] = {
            "codes_as_in_float64": float(same.float().mean()),
            "images_with_all_codes_as_in_float64": float(same.flatten(1).all(1).float().mean()),
            "psnr_db": float(psnr_db(decoded, pixels).mean()),
        }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
