"""The folder of a training run: its recipe, its table of epochs, and whose run it is."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.manifest import flatten
from dad_datasets.settings import read_recipe
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.state import HistoryRow

ARGS, SUMMARY = "args.yaml", "summary.csv"

# What may differ when a run is gone on with. The number of threads can change last bits; the fingerprints of the shards
# are compared, wherever they have been moved.
FREE = re.compile(r"compute\.(workers|cache|cache_gb|threads)|saving\..*|shards\.\d+\.(path|clean)(\..*)?")


def changed_fields(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of the fields in which two recipes, flattened, are not the same run."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name) and not FREE.fullmatch(name)
    )


class RunFolder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = LocalFolder(path)

    def begin(self, recipe: TrainingRecipe) -> None:
        """Write the recipe. UserError where the folder holds a run of another one; the differing fields are named."""
        self._files.sweep()
        self.require_same(recipe)
        document = recipe.model_dump(mode="json")
        with self._files.publish(ARGS) as stream:
            stream.write(yaml.safe_dump(document, sort_keys=False).encode())

    def write_summary(self, history: Sequence[HistoryRow]) -> None:
        """`summary.csv`, a row for each epoch. It holds no times, so that equal runs have equal files."""
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        with self._files.publish(SUMMARY) as stream:
            stream.write(text.getvalue().encode())

    def require_same(self, recipe: TrainingRecipe) -> None:
        """UserError where the folder holds a run of another recipe, naming the fields.

        A run that failed before its first checkpoint, for want of memory say, may be begun otherwise.
        """
        saved = any(path.suffix in (".pt", ".damaged") for path in self.path.glob("*"))
        if not saved or not (self.path / ARGS).exists():
            return
        before, after = flatten(read_recipe(self.path / ARGS)), flatten(recipe.model_dump(mode="json"))
        if changed := changed_fields(before, after):
            shown = "; ".join(f"{name}: {before.get(name)!r} there, {after.get(name)!r} now" for name in changed[:8])
            more = f" (and {len(changed) - 8} more)" if len(changed) > 8 else ""
            raise UserError(
                f"{self.path} holds a run with other settings ({shown}{more}): "
                "rerun with those, or choose another output directory"
            )
