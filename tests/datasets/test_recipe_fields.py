"""The fields of a recipe told from its types, and `dad fields`, which prints them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.recipe_fields import FieldRow, Section, recipe_type, sections_of
from dad_datasets.settings import Settings


class Leaf(Settings):
    """A leaf.

    With more about it that is not told.
    """

    share: float = Field(0.5, ge=0, lt=1, description="How much.")


class Round(Settings):
    """A round one."""

    kind: Literal["round"] = "round"


class Square(Settings):
    """A square one."""

    kind: Literal["square"]
    side: int = Field(gt=0, description="Of it.")


class Tree(Settings):
    """A tree."""

    name: str | None = None
    colours: Literal["green", "red", "none"] = Field("green", description="Of the leaves.")
    leaf: Leaf = Leaf()
    fruits: tuple[Annotated[Round | Square, Field(discriminator="kind")], ...] = Field((Round(),), description="All.")
    range: tuple[float, int] = (0.25, 2)
    sizes: tuple[int, ...] | None = Field(None, max_length=3)
    switches: dict[str, bool] = Field(default_factory=dict)
    file: Path
    other: Leaf | None = Field(None, description="A second leaf.")
    anything: Any = None


def test_every_kind_of_field_is_told_as_one_writes_it() -> None:
    assert sections_of(Tree) == [
        Section(
            "",
            "",
            "A tree.",
            (
                FieldRow("name", "text or null", "null", ""),
                FieldRow("colours", "green, red or none", "green", "Of the leaves."),
                FieldRow("leaf", "section", "", "A leaf."),
                FieldRow("fruits", "list of sections", "", "All."),
                FieldRow("range", "[number, integer]", "[0.25, 2]", ""),
                FieldRow("sizes", "list of integers or null", "null", ""),
                FieldRow("switches", "mapping of texts", "{}", ""),
                FieldRow("file", "path", "required", ""),
                FieldRow("other", "section or null, as leaf", "null", "A second leaf."),
                FieldRow("anything", "anything", "null", ""),
            ),
        ),
        Section("leaf", "", "A leaf.", (FieldRow("share", "number, at least 0, below 1", "0.5", "How much."),)),
        Section("fruits[]", "round", "A round one.", (FieldRow("kind", "round", "round", ""),)),
        Section(
            "fruits[]",
            "square",
            "A square one.",
            (FieldRow("kind", "square", "required", ""), FieldRow("side", "integer, above 0", "required", "Of it.")),
        ),
    ]


def test_a_section_told_before_is_referred_to() -> None:
    class Twice(Settings):
        """Twice."""

        first: Leaf = Leaf()
        below: Tree

    told = sections_of(Twice)
    assert [section.place for section in told] == ["", "first", "below", "below.fruits[]", "below.fruits[]"]
    assert {row.name: row.values for row in told[2].rows}["leaf"] == "section, as first"


def test_the_extra_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dad_pipeline.labelling.recipe", None)  # its import fails
    message = r"is not installed; dad label needs: pip install 'discrete-adversarial-distillation\[pipeline\]'"
    with pytest.raises(UserError, match=message):
        recipe_type("label")


def test_places_lie_within_places() -> None:
    section = Section("views.draw[]", "centre", "", ())
    assert [place for place in ("views", "views.draw", "view", "views.draw.x", "draw") if section.is_within(place)] == [
        "views",
        "views.draw",
    ]


def printed(*arguments: str) -> str:
    ended = CliRunner().invoke(build_app(), ["fields", *arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.output


def test_the_command_prints_a_recipe_or_a_section() -> None:
    whole, section = printed("train"), printed("train", "augment")
    assert "clip_norm" in whole
    assert "Parameter of mixup's Beta law; 0: off." in section
    assert "severity" in section, "what is below the section, too"
    assert "clip_norm" not in section


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no command with a recipe; expected one of evaluate, generate, label, sweep, train"),
        (["train", "augments"], "augments: no section of the recipe of dad train"),
    ],
)
def test_what_is_not_there_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(build_app(), ["fields", *arguments], catch_exceptions=False)
    assert recipe_type("train").__name__ == "TrainingRecipe"
