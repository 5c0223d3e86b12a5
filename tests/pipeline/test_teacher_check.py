"""The teacher check: counting hits, the bound round chance, and the sentence that stops a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dad_datasets.errors import UserError
from dad_pipeline.teachers.check import count_hits, require_better_than_chance, teacher_check


def brightness_teacher(pixels: Tensor) -> Tensor:
    """Ten classes: the class is the mean brightness in tenths."""
    return -(pixels.mean((1, 2, 3))[:, None] - torch.arange(10) / 10).abs()


def test_hits_over_batches_of_different_size() -> None:
    labels = torch.arange(10)
    pixels = (labels / 10).view(10, 1, 1, 1).expand(10, 3, 4, 4)
    wrong = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    batches = [(pixels[:7], wrong[:7]), (pixels[7:], wrong[7:])]
    assert count_hits(brightness_teacher, batches) == (8, 10)
    assert count_hits(brightness_teacher, []) == (0, 0)


def test_bound_against_the_formula_by_hand() -> None:
    # p = 0.1, n = 900: standard error 0.01, so the bound is 0.13 = 117 of 900
    assert teacher_check(116, 900, 10).near_chance
    assert not teacher_check(118, 900, 10).near_chance


def test_guessers_are_near_chance() -> None:
    hits = np.random.default_rng(0).binomial(500, 1 / 10, size=2000)
    caught = np.mean([teacher_check(int(count), 500, 10).near_chance for count in hits])
    assert caught > 0.99


@given(total=st.integers(1, 1000), num_classes=st.integers(1, 2000))
def test_no_mistakes_pass_and_no_hits_do_not(total: int, num_classes: int) -> None:
    assert not teacher_check(total, total, num_classes).near_chance
    assert teacher_check(0, total, num_classes).near_chance


def test_message_and_refusal() -> None:
    good = teacher_check(480, 500, 10)
    require_better_than_chance(good)
    assert "96.0%" in good.message()
    with pytest.raises(UserError, match=r"10\.4%") as caught:
        require_better_than_chance(teacher_check(52, 500, 10))
    sentence = str(caught.value)
    for part in ("guessing gives 10.0%", "class names", "mean and std", "--set check.allow_near_chance=true"):
        assert part in sentence
    assert "\n" not in sentence
