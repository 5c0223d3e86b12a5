"""Devices and arithmetic as both halves ask for them."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from dad_datasets.errors import UserError
from dad_datasets.torch_devices import choose_device, exact_float32, require_compiler


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch, name: Literal["auto", "cuda"]) -> None:
    """A worker's threads would each take "cuda" alone for the first GPU, and torch limits the memory of none such."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    assert choose_device(name, field="device") == torch.device("cuda", 3)
    assert choose_device("cpu", field="device") == torch.device("cpu")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto", field="device") == torch.device("cpu")
    with pytest.raises(UserError, match=r"run\.device = cuda: no GPU was found; allowed here: cpu, auto"):
        choose_device("cuda", field="run.device")


def test_float32_is_float32_on_a_gpu_too() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True  # torch's default
        exact_float32()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_compiler_that_fails_is_told_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(UserError, match=r"\(No working C\+\+ compiler found\); .* without them: no$"):
        require_compiler(torch.device("cpu"), otherwise="no")
