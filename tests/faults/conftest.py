"""An S3 server for the tests of a module, and for each test as it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulty_s3 import FaultyS3, faulty_s3
from s3fs import S3FileSystem

from dad_datasets.folder import open_folder


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with faulty_s3() as s3:
        yield s3


@pytest.fixture
def s3(server: FaultyS3) -> Iterator[FaultyS3]:
    """The server without faults; what a test puts into its bucket is removed after it."""
    before = set(_objects())
    server.behave()
    yield server
    server.behave()
    for path in set(_objects()) - before:
        S3FileSystem().rm_file(path)
    open_folder("s3://bucket").sweep()


def _objects() -> list[str]:
    found: list[str] = S3FileSystem(use_listings_cache=False).find("bucket")
    return found
