"""Where things stand inside a dataset's folder."""

MANIFEST = "manifest.json"
SHARD_TABLE = "shards.parquet"
SHARDS = "shards"
INDEX = "index"
RUNS = "runs"
LEASE = ".lease"
DATA_CARD = "README.md"
TIMM_INFO = "_info.json"
QUANTIZER = "quantizer"

FORMAT_VERSION = 1


def shard_name(unit: str) -> str:
    """The tar of a work unit."""
    return f"{SHARDS}/{unit}.tar"


def index_name(unit: str) -> str:
    """The Parquet index of a work unit; that it exists says that the unit is finished."""
    return f"{INDEX}/{unit}.parquet"
