"""The folder of somebody who followed the guide, small: photographs, quantizer, recipes and a finished set."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tiny_run import tiny_recipe, write_images, write_quantizer

from dad_datasets.cli import main


def write_project(root: Path) -> Path:
    """photos/, quantizer/, generate.yaml, train.yaml, and shards/ by `dad generate generate.yaml --out shards`."""
    write_images(root / "photos")
    write_quantizer(root / "quantizer")
    recipe = tiny_recipe(Path("photos"), Path("quantizer"))
    train = {
        "shards": [{"path": "shards"}],
        "student": {"architecture": "cifar_resnet20", "options": {"norm": "group"}},
        "batch_size": 12,
        "steps": 2,
        "compute": {"device": "cpu", "workers": 0, "threads": 1},
    }
    for name, content in (("generate.yaml", recipe), ("train.yaml", train)):
        (root / name).write_text(yaml.safe_dump(content, sort_keys=False))
    with entered(root):
        status, seen = dad("generate", "generate.yaml", "--runner", "inline", "--out", "shards")
    assert status == 0, seen
    return root


@contextlib.contextmanager
def entered(folder: Path) -> Iterator[None]:
    """`folder` as the current directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def dad(*arguments: str) -> tuple[int, str]:
    """`dad` in this process, in its current directory: exit status, and what it wrote to standard error."""
    seen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["dad", *arguments])
        patch.setattr(sys, "stderr", seen)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0, seen.getvalue()
