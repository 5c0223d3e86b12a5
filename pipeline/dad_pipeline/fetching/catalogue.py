"""The published weights that have a name here: where they are, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping

from dad_datasets.errors import UserError
from dad_pipeline.fetching.open_clip_models import OPEN_CLIP, describe_open_clip, open_clip_names
from dad_pipeline.fetching.published import PublishedFile, PublishedWeights, Role

_HEIDELBERG = "https://heibox.uni-heidelberg.de/d/{folder}/files/?p=%2F{path}&dl=1"

# The code is MIT; that it covers the weights is nowhere said: CompVis/taming-transformers, issue 209.
_LICENCE = "none stated for the weights (the code: MIT)"


def _heidelberg(name: str, what: str, folder: str, known: Mapping[Role, tuple[int, str]]) -> PublishedWeights:
    """A model of taming-transformers' table; `known` has the bytes and the sha256 of its files."""
    checkpoint, config = known.get("checkpoint"), known.get("config")
    return PublishedWeights(
        name=name,
        what=what,
        licence=_LICENCE,
        page=f"https://heibox.uni-heidelberg.de/d/{folder}/",
        files=(
            PublishedFile(
                role="checkpoint",
                stem=name,
                suffix=".ckpt",
                addresses=(_HEIDELBERG.format(folder=folder, path="ckpts%2Flast.ckpt"),),
                num_bytes=checkpoint[0] if checkpoint else None,
                sha256=checkpoint[1] if checkpoint else None,
            ),
            PublishedFile(
                role="config",
                stem=name,
                suffix=".yaml",
                addresses=(_HEIDELBERG.format(folder=folder, path="configs%2Fmodel.yaml"),),
                num_bytes=config[0] if config else None,
                sha256=config[1] if config else None,
            ),
        ),
    )


VQGANS = (
    _heidelberg(
        "vqgan_imagenet_f16_1024", "VQGAN, ImageNet, f = 16, 1,024 codes; about 958 MB", "8088892a516d4e3baf92", {}
    ),
    _heidelberg(
        "vqgan_imagenet_f16_16384",
        "VQGAN, ImageNet, f = 16, 16,384 codes",
        "a7530b09fed84f80a887",
        {
            "checkpoint": (980_092_370, "845a68805098cb666420d5db93df53f3a3b6dd443e6dd85c05759c5b998cd663"),
            "config": (692, "00e2c6189926f1d89ecfef73e9598db77981c1982f0555fbade963ffd16143c7"),
        },
    ),
    PublishedWeights(
        name="vqgan_openimages_f8_16384",
        what="VQGAN, OpenImages, f = 8, 16,384 codes: the DAD paper's",
        licence=_LICENCE,
        page="https://github.com/CompVis/latent-diffusion",
        files=(
            PublishedFile(
                role="checkpoint",
                stem="vqgan_openimages_f8_16384",
                suffix=".ckpt",
                addresses=("https://ommer-lab.com/files/latent-diffusion/vq-f8.zip",),  # the checkpoint in a zip
            ),
            PublishedFile(
                role="config",
                stem="vqgan_openimages_f8_16384",
                suffix=".yaml",
                addresses=(
                    "https://raw.githubusercontent.com/CompVis/latent-diffusion/main/models/first_stage_models/"
                    "vq-f8/config.yaml",
                ),
            ),
        ),
    ),
    _heidelberg(
        "vqgan_gumbel_f8_8192",
        "VQGAN, Gumbel, OpenImages, f = 8, 8,192 codes",
        "2e5662443a6b4307b470",
        {
            "checkpoint": (376_581_823, "5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14"),
            "config": (745, "91110bab325067b37f85d1e75895a837d59c292bae4f3097f80c518714d5caff"),
        },
    ),
)


def catalogue_names() -> list[str]:
    """Every name: the VQGANs, then open_clip's models as the installed open_clip lists them."""
    return [weights.name for weights in VQGANS] + open_clip_names()


def find_weights(name: str) -> PublishedWeights:
    """What is known under `name`. UserError, with close names, where there is nothing."""
    for weights in VQGANS:
        if weights.name == name:
            return weights
    if name.startswith(OPEN_CLIP) and (found := describe_open_clip(name)) is not None:
        return found
    from dad_pipeline.teachers.mistakes import close_names  # with its neighbours it brings torch

    hint = close_names(name, catalogue_names())
    raise UserError(f"{name}: no published weights of that name{hint}; dad fetch --list shows all")
