"""Checkpoints are read in every published container, and nothing in them is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import read_state_dict, weights_sha256


def example_weights() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.0, -2.0], dtype=torch.float16)}


def same_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


class Payload:
    """Pickles into a call that would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema"])
def test_torch_checkpoints_are_unwrapped(tmp_path: Path, wrapper: str | None) -> None:
    content: object = example_weights() if wrapper is None else {wrapper: example_weights(), "epoch": 3}
    torch.save(content, tmp_path / "weights.pt")
    assert same_weights(read_state_dict(tmp_path / "weights.pt"), example_weights())


def test_averaged_weights_come_first_and_the_parallel_prefix_goes(tmp_path: Path) -> None:
    prefixed = {f"module.{name}": value for name, value in example_weights().items()}
    torch.save({"state_dict": {"other": torch.zeros(1)}, "state_dict_ema": prefixed}, tmp_path / "weights.pt")
    assert same_weights(read_state_dict(tmp_path / "weights.pt"), example_weights())


def test_the_container_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save(example_weights(), tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    assert same_weights(read_state_dict(tmp_path / "weights.pt"), example_weights())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(example_weights(), tmp_path / "weights.safetensors")
    assert same_weights(read_state_dict(tmp_path / "weights.safetensors"), example_weights())


def test_what_training_programs_leave_beside_the_weights_is_inert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "pytorch_lightning.callbacks.never_installed"
    module = types.ModuleType(name)
    callback = type(
        "Checkpointing", (), {"__module__": name, "__reduce__": lambda self: (type(self), (1, 2), {"a": 3})}
    )
    vars(module)["Checkpointing"] = callback
    content = {
        "state_dict": example_weights(),
        "callbacks": {callback: {"best": 0.5}},
        "loops": [callback()],
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(0.25),
    }
    with monkeypatch.context() as patch:
        for loaded in ("pytorch_lightning", name):  # pickling a class imports the top package of its module
            patch.setitem(sys.modules, loaded, module)
        torch.save(content, tmp_path / "weights.ckpt")
    assert same_weights(read_state_dict(tmp_path / "weights.ckpt"), example_weights())
    assert name not in sys.modules


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trace, path = tmp_path / "it-ran", tmp_path / "weights.ckpt"
    content = {"state_dict": example_weights(), "callbacks": Payload(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"weights\.ckpt: refused as unsafe"):
        read_state_dict(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the payload works: a reader that trusts pickles would have run it
    assert trace.exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no such file"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(("content", "message"), [([1, 2], "holds a list"), ({"state_dict": {"a": 1}}, "no weights")])
def test_checkpoints_without_weights_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=message):
        read_state_dict(tmp_path / "weights.pt")


@settings(max_examples=60, deadline=None)
@given(garbage=st.binary(max_size=200), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_garbage_is_one_sentence(tmp_path_factory: pytest.TempPathFactory, garbage: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("garbage") / f"weights{suffix}"
    path.write_bytes(garbage)
    with pytest.raises(UserError, match=path.name):
        read_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_every_truncation_is_one_sentence(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(example_weights(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"weights\.pt"):
            read_state_dict(path)


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(UserError, match=r"weights\.pkl"):
        read_state_dict(tmp_path / "weights.pkl")


def test_the_hash_is_of_the_weights_alone() -> None:
    def build(fill: float) -> nn.Module:
        module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(fill)
        return module

    digest = weights_sha256(build(0.5))
    assert len(digest) == 64
    assert digest == weights_sha256(build(0.5))
    assert digest == weights_sha256(nn.Sequential(*reversed(list(reversed(build(0.5))))))  # type: ignore[call-overload]
    assert digest != weights_sha256(build(0.25))
    assert digest != weights_sha256(build(0.5).bfloat16())


def test_the_hash_sees_names_and_shapes() -> None:
    class Flat(nn.Module):
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.register_buffer(name, torch.zeros(shape))

    digests = {weights_sha256(Flat(name, shape)) for name in ("a", "b") for shape in ((4,), (2, 2), (4, 1))}
    assert len(digests) == 6
