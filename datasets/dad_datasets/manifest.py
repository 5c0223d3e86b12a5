"""`manifest.json`: what a dataset is, small and without times, so that equal runs give equal manifests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.layout import MANIFEST, QUANTIZER
from dad_datasets.mistakes import describe_mistake

LARGEST_MANIFEST_BYTES = 2**26
MOST_CLASSES = 2**24
"""A row of logits of so many is allocated before the first is read."""

REQUIRED_OF_A_RECIPE: dict[str, type] = {"source": dict, "store": dict, "views": dict, "samples_per_shard": int}

_ABSENT = object()


class Manifest(BaseModel):
    """The document. `fingerprinted` holds every field that changes the result; `fingerprint` is its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    kind: Literal["adversarial", "clean", "labels"]
    state: Literal["running", "finished"]
    fingerprint: str
    fingerprinted: dict[str, Any]
    recipe: dict[str, Any] = {}
    """The resolved recipe, paths included: enough to run it again. Empty for prepared clean shards."""
    quantizer_files: dict[str, str] = {}
    """sha256 (hex) of each file of the quantizer that travels with a codes-only set; empty otherwise."""
    class_names: tuple[str, ...] | None
    num_classes: int = Field(ge=0)
    shards: int
    """Number of work units; 0 while running."""
    samples: int
    """Clean samples in the finished units; 0 while running."""
    clean_sha256: str
    """Over (source_key, source_sha256) of every clean sample in order; empty while running."""

    @field_validator("quantizer_files")
    @classmethod
    def _lie_together(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:  # they are read, and copied under their names
            if not re.fullmatch(rf"{QUANTIZER}/[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
                raise ValueError(f"{name!r} is no file in {QUANTIZER}/")
        return files

    @model_validator(mode="after")
    def _says_what_readers_need(self) -> Manifest:
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class_names, but num_classes = {self.num_classes}")
        if self.kind == "adversarial":
            if self.num_classes > MOST_CLASSES:
                raise ValueError(f"num_classes = {self.num_classes:,}: should be at most {MOST_CLASSES:,}")
            missing = [n for n, kind in REQUIRED_OF_A_RECIPE.items() if not isinstance(self.recipe.get(n), kind)]
            if missing:
                raise ValueError(f"its recipe lacks {', '.join(missing)}")
            if not isinstance(self.recipe["store"].get("image"), str):
                raise ValueError("its recipe lacks store.image")
        return self


def fingerprint_of(fingerprinted: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything that changes the result."""
    canonical = json.dumps(fingerprinted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def reopened(manifest: Manifest) -> Manifest:
    """That of a set of which units are missing again; all that is known when it is finished is left out."""
    return manifest.model_copy(update={"state": "running", "shards": 0, "samples": 0, "clean_sha256": ""})


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Publish the manifest."""
    document = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    with folder.publish(MANIFEST) as stream:
        stream.write(document.encode() + b"\n")


def read_manifest(folder: Folder) -> Manifest:
    """The manifest of the dataset in `folder`. UserError where there is none or it is not one of ours."""
    try:
        with folder.open(MANIFEST) as stream:
            content = stream.read(LARGEST_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder.url} is not a dataset: it has no {MANIFEST}") from None
    if len(content) > LARGEST_MANIFEST_BYTES:
        raise UserError(f"{folder.url}/{MANIFEST} has more than {LARGEST_MANIFEST_BYTES:,} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{folder.url}/{MANIFEST} is not valid JSON") from None
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{folder.url}/{MANIFEST}: {describe_mistake(error, Manifest)}") from None


def require_same_run(existing: Manifest, fingerprinted: Mapping[str, Any], *, where: str) -> None:
    """UserError naming the fields in which a rerun differs from what `where` was begun with."""
    if existing.fingerprint == fingerprint_of(fingerprinted):
        return
    before, now = flatten(existing.fingerprinted), flatten(json.loads(json.dumps(fingerprinted)))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key, _ABSENT) != now.get(key, _ABSENT))
    shown = "; ".join(
        f"{key}: {_short(before.get(key, _ABSENT))} there, {_short(now.get(key, _ABSENT))} now" for key in changed[:8]
    )
    more = f" (and {len(changed) - 8} more)" if len(changed) > 8 else ""
    raise UserError(
        f"{where} was begun with other settings ({shown}{more}): rerun with those, or choose another output directory"
    )


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = {str(position): item for position, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _short(value: object) -> str:
    text = "absent" if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
