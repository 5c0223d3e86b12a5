"""Metrics against independent formulas in plain Python and NumPy, and against cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dad_datasets.benchmarks.corruption_names import ALEXNET_ERRORS
from dad_trainer.evaluation.answers import Answers
from dad_trainer.evaluation.metrics import (
    calibration_error,
    confidence,
    group_logits,
    in_top_k,
    mean_corruption_error,
    negative_log_likelihood,
)
from dad_trainer.evaluation.result import Result, summarise


def draw(seed: int, n: int, c: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    return logits, torch.randint(c, (n,), generator=generator)


@given(st.integers(0, 999), st.integers(1, 30), st.integers(6, 12))
@settings(max_examples=30)
def test_each_image_has_the_values_of_the_formulas(seed: int, n: int, c: int) -> None:
    logits, labels = draw(seed, n, c)
    top1, top5 = in_top_k(logits, labels, 1), in_top_k(logits, labels, 5)
    nll, sure = negative_log_likelihood(logits, labels), confidence(logits)
    for i, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        rank = sum(z > row[label] for z in row)
        assert bool(top1[i]) == (rank == 0)
        assert bool(top5[i]) == (rank < 5)
        total = sum(math.exp(z) for z in row)
        assert nll[i].item() == pytest.approx(math.log(total) - row[label])
        assert sure[i].item() == pytest.approx(max(math.exp(z) / total for z in row))


def test_equal_logits_earn_no_more_than_chance() -> None:
    labels = torch.arange(10)
    assert int(in_top_k(torch.zeros(10, 10), labels, 1).sum()) == 1
    assert int(in_top_k(torch.zeros(10, 10), labels, 5).sum()) == 5


def independent_calibration_error(confidences: list[float], correct: list[bool], num_bins: int) -> float:
    """Bin by bin, with membership written as in the paper."""
    total = 0.0
    for m in range(1, num_bins + 1):
        inside = [i for i, p in enumerate(confidences) if (m - 1) / num_bins < p <= m / num_bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - mean)
    return total


@given(
    st.lists(
        # k/15 and k/10 lie on the edges of bins
        st.tuples(st.one_of(st.integers(1, 15).map(lambda k: k / 15), st.floats(0.01, 1.0)), st.booleans()),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([1, 10, 15]),
)
def test_calibration_error_is_that_of_the_formula(images: list[tuple[float, bool]], num_bins: int) -> None:
    confidences, correct = [p for p, _ in images], [right for _, right in images]
    measured = calibration_error(
        torch.tensor(confidences, dtype=torch.float64), torch.tensor(correct), num_bins=num_bins
    )
    assert measured == pytest.approx(independent_calibration_error(confidences, correct, num_bins), abs=1e-12)


def test_calibration_error_by_hand() -> None:
    sure_and_wrong = calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool))
    assert sure_and_wrong == 1
    # bin of 0.9: 3 of 4 right, |0.75 - 0.9|; bin of 0.5: 1 of 2 right, no gap
    confidences = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.5, 0.5], dtype=torch.float64)
    correct = torch.tensor([True, True, True, False, True, False])
    assert calibration_error(confidences, correct) == pytest.approx(4 / 6 * 0.15)


def test_a_group_is_its_strongest_class_and_the_rest_is_left_out() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0, 9.0, 0.0]])
    grouped = group_logits(logits, [(0, 2), (4,), (1, 4, 2)])
    assert grouped.tolist() == [[2.0, 0.0, 5.0]]
    others_changed = group_logits(logits.index_fill(1, torch.tensor([3]), 100.0), [(0, 2), (4,), (1, 4, 2)])
    assert torch.equal(grouped, others_changed)


@given(st.integers(0, 999))
@settings(max_examples=30)
def test_grouping_agrees_with_the_best_of_all_grouped_classes(seed: int) -> None:
    """ObjectNet's own rule: among the mapped classes the best one counts if it is one of the label's."""
    logits, _ = draw(seed, 20, 12)
    groups = [(0, 7, 3), (5,), (1, 11)]
    mapped = [index for group in groups for index in group]
    predicted = group_logits(logits, groups).argmax(1)
    for i in range(20):
        best = max(mapped, key=lambda index: float(logits[i, index]))
        assert best in groups[int(predicted[i])]


def test_masked_probabilities_are_over_the_mask_alone() -> None:
    logits, _ = draw(1, 50, 10)
    mask = [2, 3, 8]
    renormalised = np.exp(logits.numpy()[:, mask])
    renormalised /= renormalised.sum(1, keepdims=True)
    labels = torch.arange(50) % 3
    measured = negative_log_likelihood(group_logits(logits, [(index,) for index in mask]), labels)
    np.testing.assert_allclose(measured.numpy(), -np.log(renormalised[np.arange(50), labels.numpy()]))


def test_mean_corruption_error_of_the_reference_itself_is_one() -> None:
    errors = {name: [error - 0.1, error, error + 0.1] for name, error in ALEXNET_ERRORS.items()}
    assert mean_corruption_error(errors, ALEXNET_ERRORS) == pytest.approx(1)


def test_mean_corruption_error_by_hand() -> None:
    """Ratios are of sums over severities, corruption by corruption, and are then averaged."""
    errors = {"fog": [0.1, 0.3], "snow": [0.5, 0.7], "spatter": [1.0, 1.0]}
    assert mean_corruption_error(errors, {"fog": 0.4, "snow": 0.8}) == pytest.approx((0.4 / 0.8 + 1.2 / 1.6) / 2)


@pytest.mark.parametrize("batch_sizes", [[60], [1] * 60, [7, 13, 40]])
def test_figures_do_not_depend_on_batches(batch_sizes: list[int]) -> None:
    logits, labels = draw(3, 60, 8)
    answers = Answers()
    for part, part_labels in zip(logits.split(batch_sizes), labels.split(batch_sizes), strict=True):
        answers.add(part.float(), part_labels)
    figures = answers.figures()
    assert figures.num_images == 60
    assert figures.top1 == (logits.argmax(1) == labels).double().mean().item()
    assert figures.top5 == in_top_k(logits, labels, 5).double().mean().item()
    assert figures.nll == pytest.approx(negative_log_likelihood(logits, labels).mean().item(), rel=1e-6)
    sure, right = logits.softmax(1).max(1).values, logits.argmax(1) == labels
    assert figures.ece == pytest.approx(independent_calibration_error(sure.tolist(), right.tolist(), 15), abs=1e-6)


def test_five_classes_have_no_top_five() -> None:
    answers = Answers()
    answers.add(*draw(0, 4, 5))
    assert answers.figures().top5 is None


def row(benchmark: str, top1: float, corruption: str | None = None, severity: int | None = None) -> Result:
    return Result(
        benchmark=benchmark,
        corruption=corruption,
        severity=severity,
        num_images=10,
        top1=top1,
        top5=None,
        ece=top1 / 2,
        nll=1.0,
    )


def test_summaries_count_each_common_corruption_alike() -> None:
    rows = [
        row("clean", 0.9),
        row("C", 0.8, "fog", 1),
        row("C", 0.6, "fog", 2),
        row("C", 0.1, "snow", 1),
        row("C", 0.3, "snow", 2),
        row("C", 1.0, "spatter", 1),
    ]
    clean, corrupted = summarise(rows, references={"C": {"fog": 0.6, "snow": 0.4}})
    assert (clean.accuracy, clean.mce, dict(clean.corruptions)) == (0.9, None, {})
    assert corrupted.accuracy == pytest.approx((0.7 + 0.2) / 2)
    assert corrupted.ece == pytest.approx((0.35 + 0.1) / 2)
    assert corrupted.mean_error == pytest.approx(0.55)
    assert corrupted.mce == pytest.approx((0.3 / 0.6 + 0.8 / 0.4) / 2)
    assert corrupted.corruptions == pytest.approx({"fog": 0.7, "snow": 0.2, "spatter": 1.0})
    (extra,) = summarise(rows[-1:])
    assert (extra.accuracy, extra.mce) == (1.0, None)
