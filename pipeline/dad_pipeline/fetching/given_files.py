"""What --from names: mirrors or files of one's own, in place of the published addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from dad_datasets.errors import UserError
from dad_pipeline.fetching.published import PublishedFile, PublishedWeights, Role

_NAMES_YAML = re.compile(r"\.ya?ml(?=$|[?&#])")


def addresses_for(weights: PublishedWeights, given: Sequence[str]) -> list[tuple[PublishedFile, tuple[str, ...]]]:
    """The files of `weights`, each with the addresses to try.

    A folder, or a URL that ends in a slash, stands for every file under the name that it has here. Of single files a
    `.yaml` is the config and anything else the checkpoint. What nothing is given for is taken from where it is
    published. UserError where two are given for one file, or one that is not needed.
    """
    chosen: dict[Role, str] = {}
    for address in given:
        for role, place in _places(weights, address):
            if role not in {file.role for file in weights.files}:
                raise UserError(f"--from {address}: {weights.name} has no {role} file")
            if role in chosen:
                raise UserError(f"--from {address}: the {role} file is given already, as {chosen[role]}")
            chosen[role] = place
    return [(file, (chosen[file.role],) if file.role in chosen else file.addresses) for file in weights.files]


def _places(weights: PublishedWeights, address: str) -> list[tuple[Role, str]]:
    if address.endswith("/") or ("://" not in address and Path(address).is_dir()):
        folder = address.rstrip("/")
        return [(file.role, f"{folder}/{file.path(Path()).name}") for file in weights.files]
    return [("config" if _NAMES_YAML.search(unquote(address)) else "checkpoint", address)]
