"""The recipe section `attack`: a preset, and the fields that override it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dad_datasets.settings import Settings
from dad_pipeline.norms import NormName
from dad_pipeline.objectives import ObjectiveName

PresetName = Literal["released", "dat", "strong", "reconstruction", "vqgan", "noise"]
ReencodeMode = Literal["each_step", "final"]
GradientMode = Literal["at_reconstruction", "straight_through"]
TargetRule = Literal["none", "random", "least_likely", "runner_up"]
DirectionRule = Literal["gradient", "random"]
CenterName = Literal["reconstruction", "clean"]

PRESETS: Mapping[str, Mapping[str, object]] = {
    # The authors' generate_examples.py; every field left out of another preset has its value from here.
    "released": {
        "norm": "l2",
        "epsilon": 0.1,
        "step_size": 0.01,
        "steps": 1,
        "random_start": 0.8,
        "reencode": "each_step",
        "gradient": "at_reconstruction",
        "objective": "cross_entropy",
        "target": "none",
        "direction": "gradient",
        "center": "reconstruction",
    },
    # Discrete Adversarial Training (Mao et al., NeurIPS 2022).
    "dat": {"step_size": 0.1},
    # Ours, and provisional: the usual linf budget, until measurements on real teachers choose another.
    "strong": {
        "norm": "linf",
        "epsilon": 8 / 255,
        "step_size": 2 / 255,
        "steps": 5,
        "random_start": 1.0,
        "reencode": "final",
        "gradient": "straight_through",
    },
    # Controls: what the round trips, and noise of the same size, do without an attack.
    "reconstruction": {"steps": 0, "random_start": 0.0, "center": "clean"},
    "vqgan": {"steps": 0, "random_start": 0.0, "center": "reconstruction"},
    "noise": {"direction": "random"},
}
CONTROLS = ("reconstruction", "vqgan", "noise")


class AttackSettings(Settings):
    """How the adversarial image is made. It holds and dumps every value, those that the preset implied included."""

    preset: PresetName = Field("released", description="Named set of values for the fields below that are not given.")
    norm: NormName = Field("l2", description="Norm of the ball round the reconstruction that holds the perturbation.")
    epsilon: float = Field(
        0.1, gt=0, description="Radius of the ball, in pixel values of [0, 1]: over the whole image for l2."
    )
    step_size: float = Field(0.01, gt=0, description="Length of one step in that norm, in pixel values of [0, 1].")
    steps: int = Field(1, ge=0, le=1000, description="Number of ascent steps.")
    random_start: float = Field(0.8, ge=0, le=1, description="Probability that a sample starts at a random point.")
    reencode: ReencodeMode = Field(
        "each_step", description="Whether the image goes through the quantizer after each step, or only at the end."
    )
    gradient: GradientMode = Field(
        "at_reconstruction",
        description="Gradient at the current image itself, or back-propagated through the quantizer (dearer).",
    )
    objective: ObjectiveName = Field("cross_entropy", description="What the steps maximise in the attacked model.")
    direction: DirectionRule = Field("gradient", description="Steps along the gradient, or random ones (a control).")
    target: TargetRule = Field("none", description="Class to draw the prediction to; none: only away from the label.")
    center: CenterName = Field(
        "reconstruction",
        description="Image that the perturbation is added to; clean: the clean image, encoded once and unperturbed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        """`given` with what the preset implies. An unknown preset is left for its own field to refuse."""
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "released")
        preset = {**PRESETS["released"], **(PRESETS.get(name, {}) if isinstance(name, str) else {})}
        left_out = [field for field in ("epsilon", "step_size") if field not in given]
        norm = given.get("norm", preset["norm"])
        if norm in get_args(NormName) and norm != preset["norm"] and left_out:
            raise ValueError(
                f"with norm {norm} also give {' and '.join(left_out)}, "
                f"which preset {name} has for {preset['norm']} only"
            )
        return {**preset, **given}

    @field_validator("steps", "random_start", "direction", "center")
    @classmethod
    def _control_stays_a_control(cls, value: object, info: ValidationInfo) -> object:
        preset = info.data.get("preset")
        fixed = PRESETS[preset].get(info.field_name or "", value) if preset in CONTROLS else value
        if value != fixed:
            raise ValueError(f"the control {preset} has {info.field_name} {fixed}; choose another preset to change it")
        return value

    @field_validator("epsilon")
    @classmethod
    def _linf_within_pixel_range(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("norm") == "linf" and value > 1:
            raise ValueError("with norm linf, at most 1, the whole pixel range")
        return value

    @field_validator("target")
    @classmethod
    def _target_can_act(cls, value: TargetRule, info: ValidationInfo) -> TargetRule:
        if value == "none":
            return value
        if info.data.get("steps") == 0:
            raise ValueError("a target needs at least one step (attack.steps is 0)")
        if info.data.get("objective") == "kl":
            raise ValueError("the kl objective has no target; allowed with cross_entropy and margin")
        if info.data.get("direction") == "random":
            raise ValueError("random directions follow no target; only none is allowed")
        return value

    @field_validator("center")
    @classmethod
    def _clean_center_is_unperturbed(cls, value: CenterName, info: ValidationInfo) -> CenterName:
        if value == "clean" and (info.data.get("steps") or info.data.get("random_start")):
            raise ValueError("clean is the centre only without steps and random start (preset reconstruction)")
        return value
