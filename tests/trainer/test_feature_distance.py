"""recipes/feature_distance.py: clouds whose distances are known, and features against the network's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pairs_by_hand import MakeSet
from scripts import load_script
from torch.utils.data import default_collate

from dad_trainer import open_pairs
from dad_trainer.students import StudentSettings, build_student, normalise

SCRIPT = Path(__file__).parents[2] / "recipes" / "feature_distance.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_a_shifted_cloud_is_as_far_away_as_it_was_shifted(script: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    cloud = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    shift = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    assert script.wasserstein(cloud, (cloud + shift)[torch.randperm(50, generator=generator)]) == pytest.approx(5)


def test_the_matching_is_the_shortest_one(script: ModuleType) -> None:
    a, b = torch.tensor([[0.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 3.0], [1.0, 0.0]])
    assert script.wasserstein(a, b) == pytest.approx(1)  # crosswise; in order it would be sqrt(10)


def test_distances_are_in_units_of_that_between_clean_images(script: ModuleType) -> None:
    clean = torch.tensor([[0.0], [2.0], [0.0], [2.0]], dtype=torch.float64)
    apart = 4 * 2 / 6  # four of the six couples are 2 apart, the others 0
    found = script.distances(clean, clean + 1)
    assert found["moved"] == pytest.approx(1 / apart)
    assert found["W1, clean"] == pytest.approx(2 / apart)  # all of one half at 0, of the other at 2
    assert found["W1, adversarial"] == pytest.approx(1 / apart)
    assert script.distances(10 * clean, 10 * (clean + 1)) == pytest.approx(found)


def test_features_are_those_before_the_classifier(make_set: MakeSet, script: ModuleType) -> None:
    pairs = open_pairs(make_set("full"))
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    network: Any = student.model.eval()
    clean, adversarial = script.features_of(pairs, student, 7)
    assert clean.shape == (6, network.num_features)
    records = [int(place) for place in range(len(pairs)) if pairs.attacked[place]]
    for part, found in (("clean", clean), ("adversarial", adversarial)):
        first, last = (default_collate([pairs[record]])[part] for record in (records[0], records[-1]))
        with torch.no_grad():
            logits = network(normalise(torch.cat([first, last]), student.mean, student.std))
            shown = network.get_classifier()(found[[0, -1]].float())
        torch.testing.assert_close(shown, logits, rtol=1e-4, atol=1e-5)


def test_the_script_prints_a_row_for_each_set(make_set: MakeSet, tmp_path: Path) -> None:
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    torch.save({"arch": "test_resnet", "state_dict": student.model.state_dict()}, tmp_path / "last.pt")
    sets = [str(make_set("full")), str(make_set("top_k"))]
    command = [sys.executable, str(SCRIPT), *sets, "--network", str(tmp_path / "last.pt"), "--records", "10"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "250"})
    assert all(path in shown.stdout for path in sets)


def test_a_set_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    student = build_student(StudentSettings(architecture="test_resnet"), num_classes=3)
    torch.save({"arch": "test_resnet", "state_dict": student.model.state_dict()}, tmp_path / "last.pt")
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--network", str(tmp_path / "last.pt")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (1, f"error: {tmp_path} is not a dataset: it has no manifest.json\n")
