"""Where things stand inside a dataset's folder."""

import re

MANIFEST = "manifest.json"
SHARD_TABLE = "shards.parquet"
SHARDS = "shards"
INDEX = "index"
RUNS = "runs"
LEASE = ".lease"
DATA_CARD = "README.md"
REPORT = "report.html"
TIMM_INFO = "_info.json"
QUANTIZER = "quantizer"
LABELS = "labels"

FORMAT_VERSION = 1


def shard_name(unit: str) -> str:
    """The tar of a work unit."""
    return f"{SHARDS}/{unit}.tar"


def index_name(unit: str) -> str:
    """The Parquet index of a work unit; that it exists says that the unit is finished."""
    return f"{INDEX}/{unit}.parquet"


def is_unit_name(name: str) -> bool:
    """Whether a work unit may be called so: what leads out of a folder, or hides in it, is none."""
    return re.fullmatch(r"[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]{0,254}", name) is not None
