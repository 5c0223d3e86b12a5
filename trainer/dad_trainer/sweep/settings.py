"""The sweep file: one training recipe, and what each student changes in it."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from dad_datasets.settings import Settings, apply_overrides

STUDENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class SweepSettings(Settings):
    """A list of students."""

    train: str = Field(min_length=1, description="Training recipe that all students share.")
    students: dict[str, dict[str, Any]] = Field(
        min_length=1, description="For each student its name, and the fields it changes: `loss.name: kd`."
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Each student is trained once with each seed.")
    evaluate: str | None = Field(None, description="Evaluation recipe for all of them; none: training only.")
    reference: str | None = Field(
        None, description="Student that the others are compared with, seed by seed; none: no table of differences."
    )

    @field_validator("students")
    @classmethod
    def _can_name_folders(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            if not STUDENT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} names a folder: letters, digits and ._+- are allowed")
        return value

    @field_validator("seeds")
    @classmethod
    def _differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("expected each seed once")
        return value

    @model_validator(mode="after")
    def _reference_is_one_of_them(self) -> SweepSettings:
        if self.reference is not None and self.reference not in self.students:
            raise ValueError(f"reference: {self.reference!r} is none of the students {', '.join(self.students)}")
        return self

    def recipes(self, base: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
        """The recipe of every (student, seed), seed by seed, so that each method's first seed is done early."""
        return {
            (name, seed): apply_overrides(base, [*(f"{k}={json.dumps(v)}" for k, v in changes.items()), f"seed={seed}"])
            for seed in self.seeds
            for name, changes in self.students.items()
        }
