"""Presets fill what is not given; contradictions are refused in one line that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, build_settings
from dad_pipeline.attack_settings import PRESETS, AttackSettings


def settings(**given: object) -> AttackSettings:
    return build_settings(AttackSettings, given, origin="recipe")


def test_the_default_is_the_authors_code() -> None:
    expected = {
        "preset": "released",
        "norm": "l2",
        "epsilon": 0.1,
        "step_size": 0.01,
        "steps": 1,
        "random_start": 0.8,
        "reencode": "each_step",
        "gradient": "at_reconstruction",
        "objective": "cross_entropy",
        "direction": "gradient",
        "target": "none",
        "center": "reconstruction",
    }
    assert settings().model_dump() == AttackSettings().model_dump() == expected
    defaults = {name: field.default for name, field in AttackSettings.model_fields.items()}
    assert defaults == expected, "the fields' own defaults differ from the preset's"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_dumped_in_full_and_read_back_the_same(preset: str) -> None:
    built = settings(preset=preset)
    dumped = built.model_dump()
    assert dumped == {**PRESETS["released"], **PRESETS[preset], "preset": preset}
    assert settings(**dumped) == built
    assert AttackSettings.model_validate_json(built.model_dump_json()) == built


def test_the_presets_that_the_design_fixes() -> None:
    released = settings().model_dump()
    assert settings(preset="dat").model_dump() == {**released, "preset": "dat", "step_size": 0.1}
    assert settings(preset="noise").model_dump() == {**released, "preset": "noise", "direction": "random"}
    for control, center in {"vqgan": "reconstruction", "reconstruction": "clean"}.items():
        built = settings(preset=control)
        assert (built.steps, built.random_start, built.center) == (0, 0.0, center)


def test_the_preset_of_our_own() -> None:
    assert settings(preset="strong").model_dump() == {
        **settings().model_dump(),
        "preset": "strong",
        "norm": "linf",
        "epsilon": 8 / 255,
        "step_size": 2 / 255,
        "steps": 5,
        "random_start": 1.0,
        "reencode": "final",
        "gradient": "straight_through",
    }


def test_given_fields_win_over_the_preset() -> None:
    built = settings(preset="strong", epsilon=0.5, steps=2, norm="l2", step_size=0.2)
    assert (built.norm, built.epsilon, built.step_size, built.steps) == ("l2", 0.5, 0.2, 2)
    assert built.gradient == "straight_through"


def test_the_noise_control_can_follow_another_attack() -> None:
    strong: dict[str, object] = {**PRESETS["strong"]}
    assert settings(preset="noise", **strong).model_dump() == {
        **settings(preset="strong").model_dump(),
        "preset": "noise",
        "direction": "random",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "strongest"}, "attack.preset = 'strongest': should be 'released', 'dat'"),
        ({"preset": ["dat"]}, "attack.preset = ['dat']"),
        ({"epsilonn": 1}, "attack.epsilonn: unknown field"),
        ({"epsilon": 0}, "attack.epsilon = 0: should be greater than 0"),
        ({"epsilon": float("nan")}, "attack.epsilon = nan"),
        ({"step_size": -0.1}, "attack.step_size = -0.1: should be greater than 0"),
        ({"steps": -1}, "attack.steps = -1"),
        ({"steps": 1001}, "attack.steps = 1001"),
        ({"steps": 1.5}, "attack.steps = 1.5"),
        ({"random_start": 1.1}, "attack.random_start = 1.1"),
        ({"norm": "l1"}, "attack.norm = 'l1': should be 'l2' or 'linf'"),
        ({"norm": "linf", "epsilon": 8, "step_size": 2}, "attack.epsilon = 8: with norm linf, at most 1"),
        ({"norm": "linf"}, "with norm linf also give epsilon and step_size, which preset released has for l2 only"),
        ({"preset": "strong", "norm": "l2", "epsilon": 1}, "with norm l2 also give step_size"),
        ({"target": "random", "steps": 0}, "attack.target = 'random': a target needs at least one step"),
        ({"preset": "vqgan", "target": "runner_up"}, "attack.target = 'runner_up': a target needs at least one step"),
        ({"target": "random", "objective": "kl"}, "attack.target = 'random': the kl objective has no target"),
        ({"preset": "noise", "target": "random"}, "attack.target = 'random': random directions follow no target"),
        ({"preset": "reconstruction", "steps": 1}, "attack.steps = 1: the control reconstruction has steps 0"),
        ({"preset": "vqgan", "random_start": 1}, "attack.random_start = 1: the control vqgan has random_start 0"),
        (
            {"preset": "noise", "direction": "gradient"},
            "attack.direction = 'gradient': the control noise has direction",
        ),
        ({"preset": "vqgan", "center": "clean"}, "attack.center = 'clean': the control vqgan has center"),
        ({"center": "clean"}, "attack.center = 'clean': clean is the centre only without steps and random start"),
        ({"center": "clean", "steps": 0}, "attack.center = 'clean': clean is the centre only without steps"),
    ],
)
def test_mistakes_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    class Recipe(Settings):
        attack: AttackSettings = Field(default_factory=AttackSettings)

    with pytest.raises(UserError) as refused:
        build_settings(Recipe, {"attack": given}, origin="recipe")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "more mistake" not in str(refused.value)


def test_a_section_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(UserError, match=r"^recipe: should be a section of fields$"):
        build_settings(AttackSettings, ["released"], origin="recipe")  # type: ignore[arg-type]
