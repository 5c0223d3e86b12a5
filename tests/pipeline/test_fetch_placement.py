"""What is accepted as published weights, under which name it is put, and what becomes of anything else."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_server import FileServer, serve_files
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from dad_datasets.errors import UserError
from dad_datasets.lease import Lease
from dad_pipeline.checkpoint_file import read_state_dict
from dad_pipeline.fetching.checkpoint_content import checkpoint_kind
from dad_pipeline.fetching.placement import PlacedFile, place
from dad_pipeline.fetching.published import PublishedFile

Usage = namedtuple("Usage", "total used free")
WEIGHTS = {"a.weight": torch.arange(2000.0), "b": torch.ones(3, 5)}
PUBLISHED = PublishedFile(role="checkpoint", stem="tiny", suffix=".ckpt", addresses=())


class Silent:
    def show(self, received: int, total: int | None) -> None: ...
    def note(self, message: str) -> None: ...


def torch_file(*, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": WEIGHTS}, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


SAVED = {"zip": torch_file(), "legacy": torch_file(legacy=True), "safetensors": save(WEIGHTS)}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files({"/": SAVED["zip"]}) as serving:
        yield serving


def put(published: PublishedFile, folder: Path, *addresses: str) -> PlacedFile:
    return place(published, folder, addresses=addresses, report=Silent(), wait=lambda seconds: None)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize(
    ("saved", "name"), [("zip", "tiny.ckpt"), ("legacy", "tiny.ckpt"), ("safetensors", "tiny.safetensors")]
)
def test_checkpoints_get_the_suffix_that_they_are_read_by(tmp_path: Path, saved: str, name: str) -> None:
    origin = write(tmp_path / "downloaded", SAVED[saved])
    placed = put(PUBLISHED, tmp_path / "weights", origin)
    assert names_in(tmp_path / "weights") == [name]
    assert placed.path == tmp_path / "weights" / name
    assert placed.sha256 == hashlib.sha256(SAVED[saved]).hexdigest()
    read = read_state_dict(placed.path)
    assert all(torch.equal(read[key], value) for key, value in WEIGHTS.items())
    assert Path(origin).read_bytes() == SAVED[saved]
    again = put(PUBLISHED, tmp_path / "weights", "nowhere")
    assert again == replace(placed, was_there=True)


def test_a_known_file_is_verified_and_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    content = SAVED["zip"]
    digest = hashlib.sha256(content).hexdigest()
    for sha256 in (digest, digest[:8]):
        known = replace(PUBLISHED, num_bytes=len(content), sha256=sha256)
        placed = put(known, tmp_path / sha256, server.url)
        assert placed.is_vouched_for
        assert str(placed).endswith(f"sha256 {digest} (as expected)")
        asked = len(server.asked)
        assert put(known, tmp_path / sha256, server.url).was_there
        assert len(server.asked) == asked


def test_what_is_not_the_published_file_is_removed(tmp_path: Path) -> None:
    content = SAVED["zip"]
    origin = write(tmp_path / "downloaded", content)
    known = replace(PUBLISHED, num_bytes=len(content), sha256="0" * 64)
    with pytest.raises(UserError, match=r"downloaded: its sha256 is .*, but 0{64} was published; what arrived was rem"):
        put(known, tmp_path / "weights", origin)
    with pytest.raises(UserError, match=r"but 7 were published: another file"):
        put(replace(known, num_bytes=7), tmp_path / "weights", origin)
    assert names_in(tmp_path / "weights") == []


def test_a_file_that_is_there_and_wrong_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tiny.ckpt").write_bytes(SAVED["legacy"])
    known = replace(PUBLISHED, sha256="0" * 64)
    with pytest.raises(UserError, match=r"tiny\.ckpt: its sha256 is .*; move it away and run this again"):
        put(known, tmp_path, "nowhere")
    assert (tmp_path / "tiny.ckpt").read_bytes() == SAVED["legacy"]


def test_the_hub_vouches_for_what_it_stores(server: FileServer, tmp_path: Path) -> None:
    server.redirects["/hub"] = "/"
    assert put(PUBLISHED, tmp_path / "a", f"{server.url}/hub").is_vouched_for
    assert "nobody published one, note it" in str(put(PUBLISHED, tmp_path / "b", f"{server.url}/"))
    server.lie = True
    with pytest.raises(UserError, match=r"but [0-9a-f]{64} was stated by the server"):
        put(PUBLISHED, tmp_path / "c", f"{server.url}/hub")


def test_the_next_address_serves_where_the_first_has_no_such_file(server: FileServer, tmp_path: Path) -> None:
    placed = put(PUBLISHED, tmp_path, f"{server.url}/model.safetensors", f"{server.url}/")
    assert placed.path.name == "tiny.ckpt"
    with pytest.raises(UserError, match=r"gone\.bin: HTTP 404"):
        put(replace(PUBLISHED, stem="other"), tmp_path, f"{server.url}/gone", f"{server.url}/gone.bin")
    server.refusals = [(403, {})]
    with pytest.raises(UserError, match=r"model\.safetensors: HTTP 403"):
        put(replace(PUBLISHED, stem="other"), tmp_path, f"{server.url}/model.safetensors", f"{server.url}/")


def test_a_checkpoint_inside_a_zip_is_unpacked(tmp_path: Path) -> None:
    origin = write(tmp_path / "vq-f8.zip", zip_of({"model/model.ckpt": SAVED["zip"], "model/README": b"x"}))
    placed = put(PUBLISHED, tmp_path / "weights", origin)
    assert placed.path.read_bytes() == SAVED["zip"]
    assert placed.sha256 == hashlib.sha256(SAVED["zip"]).hexdigest()
    assert names_in(tmp_path / "weights") == ["tiny.ckpt"]


def test_without_room_to_unpack_what_arrived_is_kept(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/vq-f8.zip"] = zipped = zip_of({"model.ckpt": SAVED["zip"]})
    free = len(SAVED["zip"]) - 1
    assert len(zipped) < free
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: Usage(2 * free, free, free))
        with pytest.raises(UserError, match=f"bytes are needed, {free:,} are free"):
            put(PUBLISHED, tmp_path, f"{server.url}/vq-f8.zip")
    put(PUBLISHED, tmp_path, f"{server.url}/vq-f8.zip")
    assert (tmp_path / "tiny.ckpt").read_bytes() == SAVED["zip"]
    assert len(server.asked) == 1


def damaged(content: bytes) -> bytes:
    """With a flipped bit in the middle, where a zip keeps its members."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


UNUSABLE = {
    "no checkpoint": (b"just some bytes", "begins with b'just som'; expected a torch checkpoint or safetensors"),
    "empty": (b"", "is empty"),
    "a page": (b" <!doctype HTML>", "is a web page, saved in place of the file"),
    "a cut zip": (SAVED["zip"][:-100], "cut off or damaged"),
    "cut safetensors": (SAVED["safetensors"][:-1], "8,195 bytes, but its header describes 8,196: cut off"),
    "long safetensors": (SAVED["safetensors"] + b"x", "but its header describes"),
    "a cut safetensors header": (SAVED["safetensors"][:40], "header cannot be read"),
    "a program": (
        zip_of({"a/data.pkl": b"", "a/constants.pkl": b"", "a/code/a.py": b""}),
        "a TorchScript program, which no recipe reads",
    ),
    "an empty zip": (zip_of({"README": b"x"}), "a zip that holds no checkpoint"),
    "two in a zip": (zip_of({"a.ckpt": SAVED["zip"], "b.pt": b"y"}), r"a zip that holds a\.ckpt, b\.pt"),
    "a page in a zip": (zip_of({"a.ckpt": b"<html>"}), "web page"),
    "a zip in a zip": (zip_of({"a.ckpt": zip_of({"b.ckpt": SAVED["zip"]})}), "a zip in a zip"),
    "a damaged zip": (damaged(zip_of({"a.ckpt": SAVED["zip"]})), "the checkpoint in this zip is damaged"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_no_recipe_could_use_is_refused_and_removed(tmp_path: Path, case: str) -> None:
    content, message = UNUSABLE[case]
    origin = write(tmp_path / "downloaded", content)
    with pytest.raises(UserError, match=rf"downloaded: .*{message}"):
        put(PUBLISHED, tmp_path / "weights", origin)
    assert names_in(tmp_path / "weights") == []


@settings(max_examples=50, deadline=None)
@given(content=st.one_of(st.binary(max_size=64), st.sampled_from(list(SAVED.values())).map(damaged)))
def test_any_bytes_are_a_kind_or_a_mistake(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    try:
        kind = checkpoint_kind(path, "file")
    except UserError:
        return
    assert kind in ("torch", "safetensors")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    torch.save({"state_dict": Bomb()}, tmp_path / "downloaded")
    put(PUBLISHED, tmp_path / "weights", str(tmp_path / "downloaded"))
    assert not (tmp_path / "ran").exists()


CONFIG = replace(PUBLISHED, role="config", suffix=".yaml")
YAML = b"""model:
  target: taming.models.vqgan.VQModel
  params: {embed_dim: 4, n_embed: 64, ddconfig: {double_z: false, z_channels: 4, resolution: 16, in_channels: 3,
    out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}}
"""


def test_a_config_is_read_as_the_recipe_will(tmp_path: Path) -> None:
    origin = write(tmp_path / "model.yaml", YAML)
    assert put(CONFIG, tmp_path / "weights", origin).path.read_bytes() == YAML
    other = write(tmp_path / "other.yaml", YAML.replace(b"vqgan.VQModel", b"cond_transformer.Net2NetTransformer"))
    with pytest.raises(UserError, match=rf"^quantizer config {other}: model\.target = .*Net2Net"):
        put(replace(CONFIG, stem="other"), tmp_path / "weights", other)
    assert names_in(tmp_path / "weights") == ["tiny.yaml"]


def test_a_second_process_is_refused_and_takes_nothing_away(tmp_path: Path) -> None:
    staging = tmp_path / "tiny.ckpt.part"
    origin = write(tmp_path / "downloaded", SAVED["zip"])
    with Lease(staging):
        (staging / "arrived").write_bytes(b"of the first")
        with pytest.raises(UserError, match=r"tiny\.ckpt\.part is being written by another run"):
            put(PUBLISHED, tmp_path, origin)
        assert (staging / "arrived").read_bytes() == b"of the first"
    put(PUBLISHED, tmp_path, origin)
    assert names_in(tmp_path) == ["downloaded", "tiny.ckpt"]
