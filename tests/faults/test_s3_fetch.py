"""Weights fetched from a mirror on S3: what fails for a while is tried again, what cannot be had is one sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from faulty_s3 import FaultyS3, seeded_faults
from s3fs import S3FileSystem

from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for
from dad_pipeline.fetching.origin import NotThereError, origin_of
from dad_pipeline.fetching.room import require_room
from dad_pipeline.fetching.transfer import receive

ADDRESS = "s3://bucket/weights.ckpt"
CONTENT = generator_for("weights").bytes(200_000)


class Unwatched:
    """Nobody looks on."""

    def show(self, received: int, total: int | None) -> None: ...

    def note(self, message: str) -> None: ...


def get(address: str, file: Path) -> None:
    S3FileSystem.clear_instance_cache()
    receive(
        origin_of(address),
        file,
        expected_bytes=None,
        hash_is_known=False,
        require_room=partial(require_room, file.parent),
        report=Unwatched(),
        wait=lambda _: None,
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_fails_now_and_then_costs_nothing(s3: FaultyS3, tmp_path: Path, seed: int) -> None:
    S3FileSystem().pipe_file("bucket/weights.ckpt", CONTENT)
    s3.plan = seeded_faults(seed, 0.8)
    get(ADDRESS, tmp_path / "file")
    assert s3.faults
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_store_that_cannot_be_reached_is_asked_six_times(
    s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UserError, match=r"the store failed or could not be reached .*, 6 times in a row"):
        get(ADDRESS, tmp_path / "file")


def test_what_cannot_be_had_is_one_sentence(s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotThereError, match="no such file"):
        get(ADDRESS, tmp_path / "file")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"weights\.ckpt: no credentials"):
        get(ADDRESS, tmp_path / "file")
