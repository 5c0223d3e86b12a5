"""The speed benchmarks at toy size, what they are made of, and the table that README.md shows of their results."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import code_agreement
import pytest
import scale
import student_costs
import worker_scaling
from machine import hardware, versions
from measurement import Figure, SideTable, SpeedResult, alternated, publish, ratios, read_results
from robustness_table import with_stage_a
from table import hardware_name, shown, speed_tables, with_tables
from tiny_run import write_images, write_quantizer

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results/speed"

FIGURE = Figure(name="writing", value=5120.4, unit="samples/s", low=5000, high=5200, at_least=5000)
MISSED = Figure(name="reading", value=1.234, unit="x", at_most=1.1, note="on a busy machine")


def result_of(*figures: Figure) -> SpeedResult:
    table = SideTable(title="Sizes", columns=("codec", "bytes"), rows=(("PNG", "12"),))
    return SpeedResult.here("a", "A", figures, libraries=("numpy",), seeds=(0,), small=False, tables=[table])


def test_the_costs_of_students_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = student_costs.Operations(view=1000, teacher=10, step=3)
    by_hand = {"shards": 1000 + 1200, "shards, live teacher": 1000 + 1200 + 4000, "attack in every step": 201_200}
    assert one.totals(students=2, epochs=100) == by_hand
    monkeypatch.setattr(sys, "argv", ["student_costs.py", "--small", "--out", str(tmp_path)])
    student_costs.main()
    counted = json.loads((tmp_path / "flop.json").read_text())["operations of an image"]
    assert counted["strong"]["view"] > counted["released"]["view"] > 2 * counted["released"]["teacher"] > 0
    rows = (tmp_path / "flop.md").read_text().splitlines()
    assert len(rows) == 2 + 2 * len(student_costs.STUDENTS)


SCRIPTS = ["writing_speed", "image_codecs", "reading_speed", "storage", "scale", "generation_speed", "training_speed"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_writes_its_result(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if script == "scale":  # the real ones take minutes
        monkeypatch.setattr(scale, "worker_figure", lambda small: FIGURE)
        monkeypatch.setattr(scale, "TOY_UNITS", 20)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--small", "--out", str(tmp_path)])
    importlib.import_module(script).main()
    (result,) = read_results(tmp_path)
    assert (result.name, result.small, result.seeds) == (script, True, (0,))
    assert result.hardware["cpu"]
    assert set(result.versions) > {"python"}
    assert result.figures
    assert all(math.isfinite(figure.value) for figure in result.figures)
    assert len({figure.name for figure in result.figures}) == len(result.figures)
    assert all(len(row) == len(table.columns) for table in result.tables for row in table.rows)


def test_going_on_lists_a_thousand_units_a_request_and_opens_a_bounded_number() -> None:
    requests, seconds, memory = scale.resume_figures(2500, most_opened=5)
    assert requests.value == 6 + 2 * 5
    assert requests.note == "6 to list, 10 to look into 5 indexes"
    assert seconds.value >= 0
    assert memory.value >= 0


def test_workers_are_compared_by_the_times_of_their_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four units are left out; the others come once in two seconds."""

    def pretend(command: list[str], **_: object) -> None:
        index = Path(command[command.index("--out") + 1]) / "index"
        index.mkdir(parents=True)
        for number in range(10):
            (index / f"{number}.parquet").touch()
            os.utime(index / f"{number}.parquet", (0, 1000 + 2 * number if number > 3 else 1006 - number))

    monkeypatch.setattr(subprocess, "run", pretend)
    rate = worker_scaling.images_per_s(tmp_path / "recipe.yaml", tmp_path, 2)
    assert rate == pytest.approx(worker_scaling.IMAGES_PER_UNIT * 6 / 12)


@pytest.mark.slow
def test_two_real_workers_are_compared_with_one() -> None:
    assert worker_scaling.worker_figure(small=True).value > 0


def test_codes_agree_between_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer, images, out = (
        write_quantizer(tmp_path / "q"),
        write_images(tmp_path / "images"),
        tmp_path / "result.json",
    )
    monkeypatch.setattr(sys, "argv", ["x", str(quantizer), "--images", str(images), "--count", "5", "--out", str(out)])
    code_agreement.main()
    result = json.loads(out.read_text())
    assert result["what"] == "5 images of 16 px, 64 codes each of 64"
    assert result["float32"]["codes_as_in_float64"] > 0.99
    assert 0.5 < result["bfloat16"]["codes_as_in_float64"] < result["float32"]["codes_as_in_float64"]


def test_runs_take_turns_after_a_round_that_is_not_measured() -> None:
    order: list[str] = []
    ticks = iter(range(100))
    seconds = alternated(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, clock=lambda: next(ticks)
    )
    assert "".join(order) == "baabbaab"
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_a_figure_is_the_median_between_the_quartiles() -> None:
    figure = Figure.of("f", [5, 1, 2, 4, 3], unit="x", at_least=3)
    assert (figure.value, figure.low, figure.high) == (3, 2, 4)
    alone = Figure.of("f", [7], unit="x")
    assert (alone.value, alone.low, alone.high) == (7, None, None)


@pytest.mark.parametrize(
    ("bounds", "missed"),
    [({}, False), ({"at_least": 2}, False), ({"at_least": 2.1}, True), ({"at_most": 2}, False), ({"at_most": 1}, True)],
)
def test_a_target_is_missed_beyond_its_bound(bounds: dict[str, float], missed: bool) -> None:
    assert Figure(name="f", value=2, unit="x", **bounds).is_missed is missed


def test_a_result_is_read_as_it_was_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(FIGURE, MISSED)
    publish(tmp_path, result)
    assert read_results(tmp_path) == [result]
    assert capsys.readouterr().out.splitlines() == ["writing: 5,120 samples/s", "reading: 1.234 x (target missed)"]


def test_the_table_says_what_was_reached_and_what_not() -> None:
    result = result_of(FIGURE, MISSED)
    place, command = hardware_name(result), f"`{result.command}`"
    assert speed_tables([result]).splitlines() == [
        "| figure | target | measured | quartiles | hardware | command |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| writing | at least 5,000 samples/s | 5,120 samples/s | 5,000 to 5,200 | {place} | {command} |",
        f"| reading (on a busy machine) | at most 1.1x | 1.23x, **missed** |  | {place} | {command} |",
        "",
        f"Sizes ({place}):",
        "",
        "| codec | bytes |",
        "| --- | --- |",
        "| PNG | 12 |",
    ]


def test_a_table_takes_the_place_of_the_last_one() -> None:
    readme = "a\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nb\n"
    written = with_tables(readme, [result_of(FIGURE)])
    assert "old" not in written
    assert written.startswith("a\n<!-- speed: begin -->\n|")
    assert written.endswith("|\n<!-- speed: end -->\nb\n")
    assert with_tables(written, [result_of(FIGURE)]) == written


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.01234, "0.0123"), (99.96, "100"), (1234.5, "1,234")])
def test_numbers_are_shown_with_three_figures(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_machine_names_itself() -> None:
    assert int(hardware()["cores"] or 0) >= 1
    assert versions("no-such-library")["no-such-library"] == "absent"


def test_the_readme_shows_the_committed_results() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert with_tables(readme, read_results(RESULTS)) == readme, "run: python benchmarks/table.py"


def test_the_front_page_shows_stage_a_of_the_robustness_experiment() -> None:
    readme = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    document = json.loads((BENCHMARKS / "results/robustness/stage_a.json").read_text())
    assert with_stage_a(readme, document) == readme, "run: python benchmarks/table.py"


def test_committed_results_are_of_full_size_and_missed_targets_are_explained() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    for result in read_results(RESULTS):
        assert not result.small, result.name
        for figure in result.figures:
            assert not figure.is_missed or f"**{figure.name}**" in readme, figure.name
