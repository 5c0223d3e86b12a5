"""`README.md` and `_info.json` of a dataset: what lets Hugging Face `datasets` and timm open the folder as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import yaml

from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary
from dad_datasets.layout import DATA_CARD, MANIFEST, SHARDS, TIMM_INFO, shard_name
from dad_datasets.manifest import Manifest


def write_data_card(folder: Folder, manifest: Manifest) -> None:
    """Publish README.md, whose YAML makes Hugging Face load the shards and not the index."""
    header: dict[str, object] = {
        "task_categories": ["image-classification"],
        "tags": ["webdataset", "adversarial", "knowledge-distillation"],
    }
    if manifest.recipe["store"]["image"] != "none":
        data_files = [{"split": "train", "path": f"{SHARDS}/*.tar"}]
        header["configs"] = [{"config_name": "default", "data_files": data_files}]
    recipe = yaml.safe_dump(manifest.recipe, allow_unicode=True)  # sorted, as in the manifest it may come from
    text = (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n"
        "# Discrete adversarial images\n\n"
        f"{manifest.samples:,} clean images, {manifest.num_classes} classes, {manifest.shards} shards in format "
        f"version {manifest.format_version}. Each image was attacked by a teacher and snapped to the codes of a VQGAN "
        "(Discrete Adversarial Distillation, arXiv 2311.01441); `<key>.teacher.npy` holds the teacher's logits on the "
        f"clean view and on the stored image. Hashes of weights and library versions stand in `{MANIFEST}`.\n\n"
        f"## Recipe\n\n```yaml\n{recipe}```\n"
    )
    with folder.publish(DATA_CARD) as stream:
        stream.write(text.encode())


def write_timm_info(folder: Folder, shards: Sequence[ShardSummary]) -> None:
    """Publish `_info.json`, the splits as timm's webdataset reader expects them."""
    split = {
        "name": "train",
        "filenames": [shard_name(shard.unit) for shard in shards],
        "shard_lengths": [shard.ok for shard in shards],
        "num_samples": sum(shard.ok for shard in shards),
    }
    with folder.publish(TIMM_INFO) as stream:
        stream.write(json.dumps({"splits": {"train": split}}, indent=1).encode() + b"\n")
