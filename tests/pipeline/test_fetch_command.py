"""The installed `dad fetch`, from a server on loopback to a recipe that loads what it brought."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from file_server import FileServer, serve_files
from pydantic import TypeAdapter
from safetensors.torch import save
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_pipeline.fetching.catalogue import VQGANS, catalogue_names, find_weights
from dad_pipeline.fetching.given_files import addresses_for
from dad_pipeline.fetching.recipe_lines import recipe_lines
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.teachers import TeacherSettings
from dad_pipeline.teachers.open_clip_settings import OpenClipZeroShotSettings

DAD = Path(sys.executable).with_name("dad")
F8 = "vqgan_openimages_f8_16384"
CLIP = "open_clip:ViT-L-14-quickgelu/openai"

ARCHITECTURE: dict[str, Any] = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
PARAMS = {"embed_dim": 4, "n_embed": 64, "ddconfig": ARCHITECTURE}
CONFIG = yaml.safe_dump({"model": {"target": "ldm.models.autoencoder.VQModel", "params": PARAMS}}).encode()


def published_zip() -> bytes:
    """A VQGAN as latent-diffusion publishes them: a Lightning checkpoint alone in a zip."""
    torch.manual_seed(0)
    known = {name: value for name, value in ARCHITECTURE.items() if name in QuantizerArchitecture.model_fields}
    quantizer = Quantizer(QuantizerArchitecture.model_validate({**known, "embed_dim": 4, "n_embed": 64}))
    checkpoint, archive = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": quantizer.state_dict(), "epoch": 3}, checkpoint)
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("model.ckpt", checkpoint.getvalue())
    return archive.getvalue()


@pytest.fixture(scope="module")
def zipped() -> bytes:
    return published_zip()


@pytest.fixture
def server(zipped: bytes) -> Iterator[FileServer]:
    with serve_files({"/vq-f8.zip": zipped, "/configs/model.yaml": CONFIG}) as serving:
        yield serving


def command(folder: Path, *arguments: str, hub: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "NO_PROXY": "*", "no_proxy": "*", "HF_ENDPOINT": hub or "http://127.0.0.1:9"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(DAD), "fetch", *arguments], cwd=folder, env=environment, text=True, stdout=pipe, stderr=pipe
    )


def fetch(folder: Path, *arguments: str, hub: str = "") -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    process = command(folder, *arguments, hub=hub)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def fetch_here(*arguments: str) -> str:
    """The same in this process, where open_clip is imported once; UserError as the command raises it."""
    result = CliRunner().invoke(build_app(), ["fetch", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def pasted(output: str) -> dict[str, Any]:
    """The recipe's lines at the end of what was printed."""
    lines: dict[str, Any] = yaml.safe_load(output.partition("in the recipe:\n")[2])
    return lines


def test_from_a_mirror_to_a_quantizer(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bytes
) -> None:
    sources = ("--from", f"{server.url}/vq-f8.zip", "--from", f"{server.url}/configs/model.yaml")
    server.refusals, server.cuts = [(503, {})], [len(zipped) // 2]
    status, output, errors = fetch(tmp_path, F8, *sources)
    assert (status, errors) == (0, "")
    assert "HTTP 503" in output
    assert "licence: none stated for the weights" in output
    monkeypatch.chdir(tmp_path)
    section = pasted(output)["quantizer"]
    assert section == {"checkpoint": f"weights/{F8}.ckpt", "config": f"weights/{F8}.yaml"}
    assert (
        load_quantizer(QuantizerSettings.model_validate(section), device=torch.device("cpu")).architecture.n_embed == 64
    )
    assert sorted(path.name for path in Path("weights").rglob("*")) == [f"{F8}.ckpt", f"{F8}.yaml"]

    asked = len(server.asked)
    again = fetch_here(F8, *sources)
    assert len(server.asked) == asked
    assert again.count("there already") == 2
    assert pasted(again) == pasted(output)


def test_killed_refused_to_a_second_and_gone_on_with(server: FileServer, tmp_path: Path, zipped: bytes) -> None:
    (tmp_path / "model.yaml").write_bytes(CONFIG)
    arguments = (F8, "--out", "there", "--from", f"{server.url}/vq-f8.zip", "--from", "model.yaml")
    server.cuts, server.stall = [len(zipped) // 2], threading.Event()
    first = command(tmp_path, *arguments)
    arrived = tmp_path / "there" / f"{F8}.ckpt.part" / "arrived"
    deadline = time.monotonic() + 200
    while not arrived.exists() or arrived.stat().st_size == 0:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    status, _, errors = fetch(tmp_path, *arguments)
    assert status == 2
    assert errors.startswith(f"error: there/{F8}.ckpt.part is being written by another run (process {first.pid} on")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    server.stall.set()
    kept = arrived.stat().st_size
    status, _, errors = fetch(tmp_path, *arguments)
    assert (status, errors) == (0, "")
    assert server.asked[-1] == ("/vq-f8.zip", f"bytes={kept}-")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [f"{F8}.ckpt", f"{F8}.yaml"]


def test_a_clip_from_the_hub(tmp_path: Path) -> None:
    weights = save({"visual.proj": torch.ones(3)})
    resolve = "/timm/vit_large_patch14_clip_224.openai/resolve/main/open_clip_model.safetensors"
    with serve_files({"/storage/5e": weights}) as hub:
        hub.redirects[resolve] = "/storage/5e"
        status, output, errors = fetch(tmp_path, "open_clip:ViT-L-14/openai", hub=hub.url)
    assert (status, errors) == (0, "")
    assert "(as expected)" in output
    teacher: TeacherSettings = TypeAdapter(TeacherSettings).validate_python(pasted(output)["teacher"])
    assert isinstance(teacher, OpenClipZeroShotSettings)
    assert teacher.architecture == "ViT-L-14-quickgelu"
    assert teacher.pretrained == "weights/ViT-L-14-quickgelu-openai.safetensors"
    assert (tmp_path / teacher.pretrained).read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a name is needed"),
        (("vqgan_imagenet_f16",), r"no published weights of that name; close names: vqgan_imagenet_f16_1024"),
        (("open_clip:ViT-L-14-quickgelu/opnai",), f"close names: {CLIP}"),
        (("--list", "nosuch"), "no name contains this"),
        ((F8, "--out", "s3://bucket/weights"), "--out s3://bucket/weights: a local path is needed here"),
        ((F8, "--from", "nowhere.ckpt"), "nowhere.ckpt: no such file"),
        ((F8, "--from", "a.ckpt", "--from", "b.ckpt"), "the checkpoint file is given already, as a.ckpt"),
        ((CLIP, "--from", "model.yaml"), f"{CLIP} has no config file"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        fetch_here(*arguments)
    assert not any(path.is_file() or path.suffix == ".part" for path in tmp_path.rglob("*"))


def test_the_list() -> None:
    output = fetch_here("--list")
    for name in catalogue_names():
        assert re.search(rf"^{re.escape(name)} ", output, re.MULTILINE)
    row = next(line for line in output.splitlines() if line.startswith("vqgan_imagenet_f16_16384"))
    assert "980,092,370" in row
    assert "none stated for the weights" in row
    assert "weights/vqgan_imagenet_f16_16384.ckpt" in row
    output = fetch_here("--list", "gumbel", "--out", "elsewhere")
    assert "5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14" in output
    section = QuantizerSettings.model_validate(pasted(output)["quantizer"])
    assert section.checkpoint == Path("elsewhere/vqgan_gumbel_f8_8192.ckpt")


def test_known_figures() -> None:
    known = {file.stem + file.suffix: (file.num_bytes, file.sha256) for one in VQGANS for file in one.files}
    assert known["vqgan_imagenet_f16_16384.ckpt"] == (
        980_092_370,
        "845a68805098cb666420d5db93df53f3a3b6dd443e6dd85c05759c5b998cd663",
    )
    assert known["vqgan_gumbel_f8_8192.ckpt"] == (
        376_581_823,
        "5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14",
    )


def test_every_clip_says_in_the_recipe_what_its_bare_file_does_not() -> None:
    """Against open_clip's own table: what the recipe does not say must be what open_clip assumes of a bare file."""
    assumed = open_clip.get_pretrained_cfg("ViT-L-14", "openai")
    for name in catalogue_names()[len(VQGANS) :]:
        weights = find_weights(name)
        (file,) = weights.files
        lines = yaml.safe_load(recipe_lines(weights, {"checkpoint": file.path(Path("w"))}))
        teacher = OpenClipZeroShotSettings.model_validate(lines["teacher"])
        architecture, _, tag = name.removeprefix("open_clip:").partition("/")
        expected = open_clip.get_pretrained_cfg(architecture, tag)
        assert teacher.architecture == architecture
        assert (teacher.mean or assumed["mean"]) == expected["mean"]
        assert (teacher.std or assumed["std"]) == expected["std"]
        assert (teacher.interpolation or assumed["interpolation"]) == expected["interpolation"]
        if expected.get("quick_gelu"):
            assert open_clip.get_model_config(architecture)["quick_gelu"]
        assert all(address.startswith("https://") for address in file.addresses)
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{8}", file.sha256)


def test_from_names_a_folder_or_single_files(tmp_path: Path) -> None:
    weights = find_weights(F8)

    def places(*given: str) -> list[tuple[str, ...]]:
        return [addresses for _, addresses in addresses_for(weights, given)]

    checkpoint, config = (file.addresses for file in weights.files)
    heidelberg = "https://h/d/1/files/?p=%2Fconfigs%2Fmodel.yaml&dl=1"
    assert places() == [checkpoint, config]
    assert places(heidelberg) == [checkpoint, (heidelberg,)]
    assert places("x.ckpt", "y.yml") == [("x.ckpt",), ("y.yml",)]
    for folder in (str(tmp_path), "s3://mirror/weights/"):
        start = folder.rstrip("/")
        assert places(folder) == [(f"{start}/{F8}.ckpt",), (f"{start}/{F8}.yaml",)]
    with pytest.raises(UserError, match="given already"):
        places(str(tmp_path), "y.yaml")
