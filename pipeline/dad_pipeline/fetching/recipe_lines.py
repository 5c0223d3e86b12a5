"""The lines of a recipe that use fetched weights."""

from __future__ import annotations

from pathlib import Path

import yaml

from dad_pipeline.fetching.published import PublishedWeights, Role


def recipe_lines(weights: PublishedWeights, paths: dict[Role, Path]) -> str:
    """YAML for a recipe of `dad generate`, with the files at `paths`."""
    if weights.teacher:
        section = {"teacher": {**weights.teacher, "pretrained": str(paths["checkpoint"])}}
    else:
        section = {"quantizer": {role: str(path) for role, path in paths.items()}}
    return yaml.safe_dump(section, sort_keys=False, default_flow_style=None, width=1000)
