"""The README's table of a stage of the robustness experiment, from the stage's file of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from result_tables import table_lines, with_part

from dad_trainer.sweep.comparison import Difference, Spread, spread

TEST, CORRUPTIONS = "test", "15 corruptions"
STUDENTS = {
    "ce": "labels alone",
    "kd": "teacher on clean images",
    "vqgan": "pairs, through the VQGAN alone",
    "noise": "pairs, noise of the attack's size",
    "strong": "pairs, attacked",
    "ce_augmix": "`ce` with AugMix",
    "kd_augmix": "`kd` with AugMix",
    "strong_augmix": "`strong` with AugMix",
}
COLUMNS = ("", "seeds", "test", "15 corruptions", "less `kd`", "5 shifts of our own")


def with_stage_a(readme: str, document: Mapping[str, Any]) -> str:
    """README.md with the table of stage A made anew."""
    return with_part(readme, "stage_a", robustness_table(document))


def robustness_table(document: Mapping[str, Any]) -> str:
    """Markdown of a stage's results on the test images.

    Top-1 accuracies in %, mean ± standard deviation; what is above kd, paired by seed, ± half the 95 % interval.
    """
    teacher = {name: row["accuracy"] for name, row in document["teacher"].items()}
    shifts = [name for name in teacher if name not in (TEST, CORRUPTIONS)]
    mean_of_shifts = sum(teacher[name] for name in shifts) / len(shifts)
    figures = [teacher[TEST], teacher[CORRUPTIONS], None, mean_of_shifts]
    rows = [["the teacher", "", *("" if figure is None else f"{100 * figure:.1f}" for figure in figures)]]
    for student, figures_of in document["students"].items():
        test, corruptions = Spread(**figures_of[TEST]), Spread(**figures_of[CORRUPTIONS])
        less = document["less_kd"].get(student)
        above = "" if less is None else Difference(**less[CORRUPTIONS]).points()
        own = [run for name, run in document["runs"].items() if name.rpartition("-seed")[0] == student]
        over_shifts = [[each["accuracy"] for each in run if each["benchmark"] in shifts] for run in own]
        shifted = spread([sum(accuracies) / len(accuracies) for accuracies in over_shifts])
        name = f"`{student}` {STUDENTS.get(student, '')}".strip()
        rows.append([name, str(test.seeds), test.percent(), corruptions.percent(), above, shifted.percent()])
    return "\n".join(table_lines(COLUMNS, rows))
