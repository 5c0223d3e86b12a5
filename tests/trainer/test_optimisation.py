"""Optimisers and learning rates, against torch's own and against the curves written out."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest
import timm
import torch
from torch import nn
from torch.optim import Optimizer

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.optimisation import OptimiserSettings, ScheduleSettings, build_optimiser, build_schedule

STEPS, PER_EPOCH = 40, 10


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def sgd(lr: float = 0.4, **settings: object) -> Optimizer:
    raw = {"name": "sgd", "lr": lr, **settings}
    return build_optimiser(build_settings(OptimiserSettings, raw, origin="recipe"), small_model())


def rates(
    settings: ScheduleSettings, steps: Sequence[int] = range(STEPS), optimiser: Optimizer | None = None
) -> list[float]:
    optimiser = optimiser or sgd()
    schedule = build_schedule(settings, optimiser, total_steps=STEPS, steps_per_epoch=PER_EPOCH)
    found = []
    for step in steps:
        schedule.step_update(step)
        found.append(optimiser.param_groups[0]["lr"])
    return found


def test_cosine_with_warmup() -> None:
    found = rates(ScheduleSettings(warmup_epochs=0.8, warmup_lr=0.1, min_lr=0.05))
    warm = [0.1 + 0.3 * step / 8 for step in range(8)]
    decay = [0.05 + 0.35 * (1 + math.cos(math.pi * step / 32)) / 2 for step in range(32)]
    assert found == pytest.approx(warm + decay)


def test_warmup_in_steps_is_warmup_in_epochs() -> None:
    assert rates(ScheduleSettings(warmup_steps=8)) == rates(ScheduleSettings(warmup_epochs=0.8))


def test_constant() -> None:
    assert rates(ScheduleSettings(name="constant", warmup_steps=2)) == pytest.approx([0, 0.2] + [0.4] * 38)


def test_step_decays_at_each_interval_after_the_warmup() -> None:
    found = rates(ScheduleSettings(name="step", warmup_steps=4, decay_epochs=1.5, decay_rate=0.5))
    assert found[4:] == pytest.approx([0.4] * 15 + [0.2] * 15 + [0.1] * 6)


def test_multistep_decays_exactly_at_its_milestones() -> None:
    found = rates(ScheduleSettings(name="multistep", milestones=(1, 2.5)))
    assert found == pytest.approx([0.4] * 10 + [0.04] * 15 + [0.004] * 15)


@pytest.mark.parametrize(
    "settings",
    [
        ScheduleSettings(warmup_steps=7, warmup_lr=1e-5, min_lr=1e-4),
        ScheduleSettings(name="step", decay_epochs=0.7, warmup_steps=3),
        ScheduleSettings(name="multistep", milestones=(0.5, 2)),
        ScheduleSettings(name="constant", warmup_epochs=1),
    ],
)
def test_the_rate_depends_on_the_step_alone(settings: ScheduleSettings) -> None:
    in_order = rates(settings)
    backwards = list(reversed(range(STEPS)))
    assert rates(settings, backwards) == in_order[::-1]
    assert rates(settings, [23]) == in_order[23:24]


def test_a_resumed_run_has_the_rates_of_the_uninterrupted_one() -> None:
    settings = ScheduleSettings(warmup_steps=5, min_lr=0.01)
    first = sgd()
    before = rates(settings, range(17), first)
    resumed = sgd()
    schedule = build_schedule(settings, resumed, total_steps=STEPS, steps_per_epoch=PER_EPOCH)
    resumed.load_state_dict(first.state_dict())
    after = []
    for step in range(17, STEPS):
        schedule.step_update(step)
        after.append(resumed.param_groups[0]["lr"])
    assert before + after == rates(settings)


def test_weight_decay_spares_what_has_one_axis() -> None:
    def decayed(optimiser: Optimizer) -> dict[tuple[int, ...], float]:
        return {tuple(p.shape): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}

    assert decayed(sgd(weight_decay=0.1)) == {(4, 3): 0.1, (2, 4): 0.1, (4,): 0.0, (2,): 0.0}
    assert set(decayed(sgd(weight_decay=0.1, decay_1d=True)).values()) == {0.1}


def test_layer_decay_scales_every_rate() -> None:
    model = timm.create_model("test_vit", num_classes=2)
    optimiser = build_optimiser(OptimiserSettings(name="sgd", lr=0.4, layer_decay=0.5), model)
    assert len({group["lr_scale"] for group in optimiser.param_groups}) > 1
    build_schedule(ScheduleSettings(), optimiser, total_steps=STEPS, steps_per_epoch=PER_EPOCH).step_update(STEPS // 2)
    for group in optimiser.param_groups:
        assert group["lr"] == pytest.approx(0.2 * group["lr_scale"])


def test_the_optimiser_steps_as_torchs_own() -> None:
    ours, theirs = small_model(), small_model()
    theirs.load_state_dict(ours.state_dict())
    settings = OptimiserSettings(name="adamw", lr=0.01, weight_decay=0.2, betas=(0.8, 0.95), eps=1e-6, decay_1d=True)
    optimisers = (
        build_optimiser(settings, ours),
        torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.2, betas=(0.8, 0.95), eps=1e-6),
    )
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for model, optimiser in zip((ours, theirs), optimisers, strict=True):
        for _ in range(3):
            optimiser.zero_grad()
            model(inputs).square().sum().backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"name": "adamww"}, "name = 'adamww': timm has no such optimiser; close names: adamw"),
        ({"name": "lookahead_sdg"}, "no such optimiser; close names: .*sgd"),
        ({"name": "adahessian"}, "second derivatives"),
        ({"name": "sgd", "betas": (0.9, 0.99)}, "betas: sgd takes none"),
        ({"name": "adamw", "betas": (0.9,)}, "betas: adamw takes 2"),
        ({"name": "lion", "eps": 1e-8}, "eps: lion takes none"),
        ({"lr": 0}, "lr = 0"),
    ],
)
def test_mistakes_in_the_optimiser(raw: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        build_settings(OptimiserSettings, raw, origin="recipe")


def test_an_optimiser_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"optimiser\.name = 'bnbadamw': cannot be had here: .*bitsandbytes"):
        build_optimiser(OptimiserSettings(name="bnbadamw"), small_model())


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"name": "cosin"}, "name = 'cosin': .*'cosine', 'step', 'multistep' or 'constant'"),
        ({"warmup_epochs": 1, "warmup_steps": 3}, "either warmup_steps or warmup_epochs"),
        ({"name": "multistep"}, "milestones: go with multistep"),
        ({"milestones": [3]}, "milestones: go with multistep"),
        ({"name": "multistep", "milestones": [3, 2]}, "rising epochs"),
        ({"name": "multistep", "milestones": [0, 2]}, "above 0"),
    ],
)
def test_mistakes_in_the_schedule(raw: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        build_settings(ScheduleSettings, raw, origin="recipe")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (ScheduleSettings(warmup_epochs=4), "warm-up of 40 steps leaves none of the run's 40"),
        (ScheduleSettings(min_lr=0.5), "schedule.min_lr = 0.5: is above the peak rate, optimiser.lr = 0.4"),
        (ScheduleSettings(warmup_steps=1, warmup_lr=1), "schedule.warmup_lr = 1.0: is above"),
    ],
)
def test_a_schedule_that_does_not_fit_the_run(settings: ScheduleSettings, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        rates(settings)
