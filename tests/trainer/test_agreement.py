"""recipes/agreement.py against the same figures by numpy, on sets with all logits and with the largest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pairs_by_hand import MakeSet
from scripts import load_script
from torch.utils.data import default_collate

from dad_trainer import open_pairs
from dad_trainer.students import StudentSettings, build_student, normalise

SCRIPT = Path(__file__).parents[2] / "recipes" / "agreement.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_figures_are_those_of_numpy(make_set: MakeSet, script: ModuleType) -> None:
    pairs = open_pairs(make_set("full"))
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    student.model.eval()
    records = script.attacked_records(pairs, 10)
    assert len(set(records)) == 10
    assert pairs.attacked[records].all()
    found = script.agreement(pairs, student, records, temperature=0.01)
    for place, part in enumerate(("clean", "adversarial")):
        samples = default_collate([pairs[record] for record in records])
        with torch.no_grad():
            logits = student.model(normalise(samples[part], student.mean, student.std)).double().numpy()
        teacher = samples["teacher"][:, place].double().numpy()
        assert found[f"same class, {part}"] == np.mean(logits.argmax(1) == teacher.argmax(1))
        logs = [rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)) for rows in (teacher / 0.01, logits / 0.01)]
        divergence = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1)
        assert found[f"KL, {part}"] == pytest.approx(divergence.mean(), rel=1e-3)
        assert divergence.mean() > 1e-3


def test_top_k_sets_have_figures_too(make_set: MakeSet, script: ModuleType) -> None:
    top_k, full = open_pairs(make_set("top_k"), temperature=4.0), open_pairs(make_set("full"))
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    student.model.eval()
    records = script.attacked_records(top_k, 1000)
    assert len(records) == 48
    coarse, fine = (script.agreement(pairs, student, records, temperature=4.0) for pairs in (top_k, full))
    for part in ("clean", "adversarial"):
        assert coarse[f"same class, {part}"] == fine[f"same class, {part}"]
        # Two of three classes and the rest are all three: the same divergence but for the rounding of what is stored.
        assert coarse[f"KL, {part}"] == pytest.approx(fine[f"KL, {part}"], abs=1e-3)


def test_the_script_prints_a_row_for_each_student(make_set: MakeSet, tmp_path: Path) -> None:
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    torch.save({"arch": "test_resnet", "state_dict": student.model.state_dict()}, tmp_path / "last.pt")
    command = [sys.executable, str(SCRIPT), str(make_set("full")), str(tmp_path / "last.pt"), "--records", "5"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "150"})
    assert f"{tmp_path.name}/last.pt" in shown.stdout
