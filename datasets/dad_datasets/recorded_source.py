"""Where a dataset's manifest says that its clean images are, as far as a dataset of somebody else is believed."""

from __future__ import annotations

from dad_datasets.errors import UserError
from dad_datasets.manifest import Manifest
from dad_datasets.settings import build_settings
from dad_datasets.sources import SourceSettings

OPENED = ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Protocols that a manifest may lead to: this machine's files, and stores that are asked with the user's credentials.

Others would have a program of ours send requests to any server, or unpack any archive, because a file says so.
"""


def recorded_source(manifest: Manifest, *, origin: str) -> SourceSettings:
    """The source in the manifest's recipe. UserError where its path is a URL that only a user may name."""
    settings = build_settings(SourceSettings, manifest.recipe["source"], origin=origin)
    protocol, url, _ = settings.path.partition("://")
    known = not url or protocol in OPENED
    if not known or "::" in settings.path or settings.path.startswith("data:"):
        raise UserError(
            f"{origin}: {settings.path} is not opened because a manifest says so; it names local paths and "
            f"{', '.join(f'{name}://' for name in OPENED[3:])} alone"
        )
    return settings
