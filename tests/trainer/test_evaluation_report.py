"""What `dad evaluate` reports: the tables and the chart of the students."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from dad_trainer.evaluation.chart import draw_chart
from dad_trainer.evaluation.result import Summary
from dad_trainer.evaluation.table import markdown


def summary(benchmark: str, accuracy: float, **fields: Any) -> Summary:
    return Summary(benchmark=benchmark, num_images=1000, accuracy=accuracy, top5=None, ece=0.05, nll=1.0, **fields)


SUMMARIES = {
    "ce/best": [summary("clean", 0.912), summary("C", 0.5, mce=0.734, corruptions={"zoom_blur": 0.4, "fog": 0.6})],
    "dad|best": [summary("clean", 0.9), summary("C", 0.7, mce=0.5, corruptions={"zoom_blur": 0.65, "fog": 0.75})],
}


def test_the_markdown_has_a_row_a_student_and_a_row_a_corruption() -> None:
    lines = markdown(SUMMARIES).splitlines()
    assert "Images: clean 1,000, C 1,000." in lines
    start = lines.index("| student | clean | C (mean) | C mCE ↓ |")
    assert lines[start + 1 : start + 4] == [
        "| --- | ---: | ---: | ---: |",
        "| ce/best | 91.2 | 50.0 | 73.4 |",
        "| dad\\|best | 90.0 | 70.0 | 50.0 |",
    ]
    assert "| ce/best | 5.0 | 5.0 |" in lines
    assert "| zoom blur | 40.0 | 65.0 |" in lines


def test_the_chart_is_a_picture_with_a_bar_for_each_number(tmp_path: Path) -> None:
    with (tmp_path / "chart.png").open("wb") as stream:
        draw_chart(SUMMARIES, stream)
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.format == "PNG"
        colours = chart.convert("RGB").getcolors(1_000_000) or []
    frequent = {colour for count, colour in colours if count > 2000}
    assert {(31, 119, 180), (255, 127, 14)} <= frequent, "the first two colours of matplotlib, one a student"


def test_a_chart_of_many_students_grows_in_height() -> None:
    """In one row of panels 15 corruptions of eight students would be 40 inches wide, and unreadable on a page."""
    corruptions = {f"corruption {number}": 0.5 for number in range(15)}
    shared = {"num_images": 10, "accuracy": 0.5, "top5": None, "ece": 0.0, "nll": 0.0}
    each = [Summary(benchmark="15 corruptions", corruptions=corruptions, **shared)]  # type: ignore[arg-type]
    sizes = []
    for number in (2, 8):
        stream = io.BytesIO()
        draw_chart({f"student {place}": each for place in range(number)}, stream)
        with Image.open(stream) as chart:
            sizes.append(chart.size)
    assert sizes[1][0] <= 1.1 * sizes[0][0]
    assert sizes[1][1] > sizes[0][1]
