"""Soft targets and their divergence, against formulas in numpy's float64 and against torch's own KL."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_datasets.record import compress_logits
from dad_trainer.reading.pair import TeacherRow
from dad_trainer.teacher_targets import (
    MixedTargets,
    TeacherTargets,
    divergence,
    mix,
    targets_from_logits,
    targets_from_rows,
    targets_from_samples,
)

T = 4.0
CLASSES = 7
Matrix = npt.NDArray[np.float64]


def random_logits(seed: int, rows: int = 5, scale: float = 3.0) -> Tensor:
    """Multiples of 1/8, which float16 holds exactly."""
    drawn = scale * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn * 8).round() / 8


def stored_rows(logits: Tensor, *, top_k: int | None, temperature: float = T) -> list[TeacherRow]:
    stored = compress_logits(logits.numpy().astype(np.float32), top_k=top_k, temperatures=(temperature,))
    if stored.ids is None or stored.rest is None:
        return [TeacherRow(values=values) for values in stored.values]
    return [
        TeacherRow(values=values, ids=ids, log_rest=float(rest[0]))
        for values, ids, rest in zip(stored.values, stored.ids, stored.rest, strict=True)
    ]


def softmax(logits: Tensor, temperature: float = T) -> Matrix:
    powers = np.exp(logits.numpy() / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def kl(p: Matrix, q: Matrix) -> Matrix:
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=1))


def top_k_targets(logits: Tensor, k: int) -> TeacherTargets:
    """In float64, straight from the definition."""
    probabilities = torch.from_numpy(softmax(logits))
    kept, ids = probabilities.topk(k, dim=1)
    rest = probabilities.scatter(1, ids, 0.0).sum(dim=1)  # 1 - kept.sum() may round to less than 0
    return TeacherTargets(probabilities=kept, ids=ids, rest=rest)


def gradient(targets: TeacherTargets | MixedTargets, student: Tensor) -> Tensor:
    student = student.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(divergence(targets, student, T).sum(), student)
    return slope


@pytest.mark.parametrize("top_k", [None, 3])
def test_collated_samples_have_the_targets_of_their_rows(top_k: int | None) -> None:
    parts = [stored_rows(random_logits(seed), top_k=top_k) for seed in (0, 1)]
    samples: dict[str, Tensor] = {
        "teacher": torch.from_numpy(np.stack([[row.values for row in pair] for pair in zip(*parts, strict=True)]))
    }
    if top_k is not None:
        ids = [[row.ids for row in pair if row.ids is not None] for pair in zip(*parts, strict=True)]
        samples["teacher_ids"] = torch.from_numpy(np.stack(ids).astype(np.int64))
        samples["teacher_log_rest"] = torch.tensor([[row.log_rest for row in p] for p in zip(*parts, strict=True)])
    for found, rows in zip(targets_from_samples(samples, T), parts, strict=True):
        expected = targets_from_rows(rows, T)
        assert found.probabilities.equal(expected.probabilities)
        for part in ("ids", "rest"):
            here, there = getattr(found, part), getattr(expected, part)
            assert (here is None) == (there is None) == (top_k is None)
            assert here is None or here.equal(there)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_full_rows_are_the_softmax(temperature: float) -> None:
    logits = random_logits(0)
    targets = targets_from_rows(stored_rows(logits, top_k=None), temperature)
    np.testing.assert_allclose(targets.probabilities.numpy(), softmax(logits, temperature), rtol=1e-5)
    assert targets.ids is None
    assert targets.rest is None


@pytest.mark.parametrize("k", [1, 3, CLASSES - 1, CLASSES])
def test_top_k_rows_are_the_largest_entries_of_the_softmax_and_the_mass_of_the_others(k: int) -> None:
    logits = random_logits(1)
    targets = targets_from_rows(stored_rows(logits, top_k=k), T)
    assert targets.ids is not None
    assert targets.rest is not None
    expected = softmax(logits)
    kept = np.take_along_axis(expected, targets.ids.numpy(), axis=1)
    np.testing.assert_allclose(targets.probabilities.numpy(), kept, rtol=1e-5)
    np.testing.assert_allclose(targets.rest.numpy(), 1 - kept.sum(axis=1), atol=1e-6)
    assert (targets.probabilities[:, 0].numpy() == targets.probabilities.amax(dim=1).numpy()).all()


def test_a_live_teacher_gives_the_same_targets_as_its_stored_logits() -> None:
    logits = random_logits(2).requires_grad_(True)
    live = targets_from_logits(logits, T)
    assert not live.probabilities.requires_grad
    stored = targets_from_rows(stored_rows(logits.detach(), top_k=None), T)
    torch.testing.assert_close(live.probabilities, stored.probabilities)


def test_rows_of_two_kinds_are_refused() -> None:
    logits = random_logits(3, rows=1)
    full, three, two = (stored_rows(logits, top_k=k) for k in (None, 3, 2))
    with pytest.raises(UserError, match="rows of 3 of the largest logits and 7 logits; train on sets of one kind"):
        targets_from_rows(full + three, T)
    with pytest.raises(UserError, match="2 of the largest logits and 3 of the largest"):
        targets_from_rows(two + three, T)


def test_top_k_rows_without_their_rest_are_refused() -> None:
    row = stored_rows(random_logits(3, rows=1), top_k=3)[0]
    with pytest.raises(AssertionError, match="their rest"):
        targets_from_rows([TeacherRow(values=row.values, ids=row.ids)], T)


def test_the_divergence_is_that_of_the_formula_and_of_torch() -> None:
    teacher, student = random_logits(4), random_logits(5)
    found = divergence(targets_from_logits(teacher, T), student, T)
    np.testing.assert_allclose(found.numpy(), kl(softmax(teacher), softmax(student)), rtol=1e-5)
    torch_kl = nn.KLDivLoss(reduction="batchmean")((student / T).log_softmax(1), (teacher / T).softmax(1))
    assert found.mean().item() == pytest.approx(torch_kl.item(), rel=1e-5)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_the_kl_with_the_other_classes_merged_into_one(k: int) -> None:
    teacher, student = random_logits(6), random_logits(7)
    targets = top_k_targets(teacher, k)
    assert targets.ids is not None
    merged = []
    for p in (softmax(teacher), softmax(student)):
        kept = np.take_along_axis(p, targets.ids.numpy(), axis=1)
        merged.append(np.hstack([kept, 1 - kept.sum(axis=1, keepdims=True)]))
    np.testing.assert_allclose(divergence(targets, student, T).numpy(), kl(*merged), rtol=1e-9)


@pytest.mark.parametrize("k", [CLASSES - 1, CLASSES])
def test_top_k_that_leaves_one_class_or_none_is_the_full_divergence(k: int) -> None:
    teacher, student = random_logits(8), random_logits(9)
    full = targets_from_rows(stored_rows(teacher, top_k=None), T)
    top_k = targets_from_rows(stored_rows(teacher, top_k=k), T)
    torch.testing.assert_close(divergence(top_k, student, T), divergence(full, student, T), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient(top_k, student), gradient(full, student), rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@example(seed=0, k=6, scale=47.0)
@given(seed=st.integers(0, 10_000), k=st.integers(1, CLASSES), scale=st.floats(0.1, 50))
def test_merging_classes_never_raises_the_divergence_nor_makes_it_negative(seed: int, k: int, scale: float) -> None:
    teacher, student = random_logits(seed, scale=scale), random_logits(seed + 1, scale=scale)
    full = divergence(TeacherTargets(probabilities=torch.from_numpy(softmax(teacher))), student, T)
    merged = divergence(top_k_targets(teacher, k), student, T)
    assert (merged <= full + 1e-9).all()
    assert (merged >= -1e-9).all()


@pytest.mark.parametrize("k", [None, 1, 3, CLASSES])
def test_gradients_are_right(k: int | None) -> None:
    teacher = random_logits(10)
    full = TeacherTargets(probabilities=torch.from_numpy(softmax(teacher)))
    targets = full if k is None else top_k_targets(teacher, k)
    student = random_logits(11).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda logits: divergence(targets, logits, T), (student,))


@pytest.mark.parametrize("k", [None, 1, 2, CLASSES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certain_teachers_and_students_give_finite_values_and_gradients(k: int | None, dtype: torch.dtype) -> None:
    certain = torch.zeros(2, CLASSES)
    certain[0, 0], certain[1, 1] = 3e4, 3e4
    targets = targets_from_rows(stored_rows(certain.double(), top_k=k, temperature=1.0), 1.0)
    for student in (certain, certain.flip(0), -certain, torch.zeros(2, CLASSES)):
        logits = student.to(dtype).requires_grad_(True)
        found = divergence(targets, logits, 1.0)
        found.sum().backward()  # torch does not annotate it
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_the_students_rest_is_exact_where_its_mass_underflows() -> None:
    targets = TeacherTargets(probabilities=torch.tensor([[0.5]]), ids=torch.tensor([[0]]), rest=torch.tensor([0.5]))
    student = torch.tensor([[1000.0, 0.0, 0.0]])
    expected = 0.5 * np.log(0.5) + 0.5 * (np.log(0.5) - (np.log(2) - 1000))
    assert divergence(targets, student, 1.0).item() == pytest.approx(expected)


def test_full_targets_are_mixed_as_probabilities() -> None:
    teacher, student = random_logits(12, rows=4), random_logits(13, rows=4)
    targets = TeacherTargets(probabilities=torch.from_numpy(softmax(teacher)))
    partner, lam = torch.tensor([1, 0, 3, 2]), torch.tensor([0.3, 0.7, 1.0, 0.0], dtype=torch.float64)
    mixed = mix(targets, partner, lam)
    assert isinstance(mixed, TeacherTargets)
    p, share = softmax(teacher), lam.numpy()[:, None]
    np.testing.assert_allclose(mixed.probabilities.numpy(), share * p + (1 - share) * p[partner.numpy()])
    sides = [
        gradient(TeacherTargets(probabilities=side), student)
        for side in (torch.from_numpy(p), torch.from_numpy(p)[partner])
    ]
    torch.testing.assert_close(gradient(mixed, student), lam[:, None] * sides[0] + (1 - lam[:, None]) * sides[1])


def test_mixed_top_k_targets_have_the_mixed_divergence() -> None:
    teacher, student = random_logits(14, rows=4), random_logits(15, rows=4)
    targets = top_k_targets(teacher, 2)
    partner, lam = torch.tensor([1, 0, 3, 2]), torch.tensor([0.3, 0.7, 1.0, 0.0], dtype=torch.float64)
    alone, other = divergence(targets, student, T), divergence(top_k_targets(teacher[partner], 2), student, T)
    found = divergence(mix(targets, partner, lam), student, T)
    torch.testing.assert_close(found, lam * alone + (1 - lam) * other)
    torch.testing.assert_close(found[2:], torch.stack([alone[2], other[3]]))


def test_mixed_top_k_targets_of_the_same_classes_have_the_gradient_of_their_mixture() -> None:
    student = random_logits(16, rows=2)
    ids = torch.tensor([[2, 5], [2, 5]])
    kept = torch.tensor([[0.6, 0.3], [0.2, 0.5]], dtype=torch.float64)
    targets = TeacherTargets(probabilities=kept, ids=ids, rest=1 - kept.sum(dim=1))
    partner, lam = torch.tensor([1, 0]), torch.tensor([0.25, 0.75], dtype=torch.float64)
    both = lam[:, None] * kept + (1 - lam[:, None]) * kept[partner]
    mixture = TeacherTargets(probabilities=both, ids=ids, rest=1 - both.sum(dim=1))
    mixed = mix(targets, partner, lam)
    torch.testing.assert_close(gradient(mixed, student), gradient(mixture, student))
    excess = divergence(mixed, student, T) - divergence(mixture, student, T)
    torch.testing.assert_close(excess, divergence(mixed, -student, T) - divergence(mixture, -student, T))
    assert (excess > 0).all()


def test_targets_move_as_a_whole() -> None:
    moved = top_k_targets(random_logits(17), 2).to(torch.device("meta"))
    assert moved.ids is not None
    assert moved.rest is not None
    assert {part.device.type for part in (moved.probabilities, moved.ids, moved.rest)} == {"meta"}
    assert targets_from_logits(random_logits(17), T).to(torch.device("cpu")).ids is None
