"""run.html shows a run without anything from elsewhere."""

import re
from pathlib import Path

import pytest
import torch

from training.loop.charts import Line, chart
from training.loop.run_page import RunPage, page_text

LINES: list[dict[str, float]] = [
    {"step": 20, "time": 0.0, "loss": 0.04, "seconds_per_step": 0.5, "data_wait_share": 0.1},
    {"step": 40, "time": 30.0, "gain_bi_db": 1.0, "gain_video_db": 0.2, "gain_db": 0.6, "gain_over_start_db": 0.1},
    {"step": 80, "time": 60.0, "gain_bi_db": 0.8, "gain_video_db": 0.2, "gain_db": 0.5, "gain_over_start_db": 0.0},
    {"step": 80, "time": 61.0, "loss": 0.03, "seconds_per_step": 0.75, "data_wait_share": 0.02},
]


def test_the_page_states_progress_speed_and_the_best_evaluation() -> None:
    page = page_text("my <run>", LINES, [], total=120)
    assert "<title>my &lt;run&gt;</title>" in page
    assert "<dd>80 of 120</dd>" in page
    assert "0.75 s per step, 2% of it waiting for data" in page
    assert "+0.60 dB over bicubic at step 40, +0.10 dB over the start" in page
    assert all(f">{name}</text>" in page for name in ("mean", "bi", "video", "starting weights", "loss"))


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = RunPage(tmp_path, total=120, active=True)
    page.add_images(40, {"bi": torch.zeros(3, 8, 24, dtype=torch.uint8)})
    page.write()
    text = (tmp_path / "run.html").read_text()
    assert "bi, step 40" in text
    assert not re.search(r"<script|<link|https?:|url\(", text)
    assert set(re.findall(r'src="([^"]{5})', text)) == {"data:"}


def test_few_of_many_earlier_images_are_shown_and_those_of_later_steps_go(tmp_path: Path) -> None:
    page = RunPage(tmp_path, total=120, active=True)
    for step in range(1, 41):
        page.add_images(step, {"bi": torch.zeros(3, 8, 24, dtype=torch.uint8)})
    page.discard_after(30)
    page.write()
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", (tmp_path / "run.html").read_text())
    assert shown == ["bi, step 30", "step 29", "step 23", "step 17", "step 12", "step 6", "step 1"]


def test_other_processes_write_no_page(tmp_path: Path) -> None:
    page = RunPage(tmp_path, total=120, active=False)
    page.add_images(40, {"bi": torch.zeros(3, 8, 24, dtype=torch.uint8)})
    page.write()
    assert not list(tmp_path.iterdir())


def test_a_line_runs_from_its_first_to_its_last_point_within_the_frame() -> None:
    drawn = chart([Line("gain", ((0.0, -1.0), (50.0, 3.0), (100.0, 2.0)))], unit="dB", last_step=100, mark=(50.0, 3.0))
    assert 'd="M64.0 246.0L337.0 30.0L610.0 84.0"' in drawn
    assert '<circle cx="337.0" cy="30.0"' in drawn
    assert all(f">{tick}</text>" in drawn for tick in ("-1", "0", "1", "2", "3", "100"))


@pytest.mark.parametrize("points", [((5.0, 0.0),), ((0.0, 2.5), (9.0, 2.5)), ((1.0, 1e-9), (2.0, 3e-9))])
def test_single_and_level_points_can_be_drawn(points: tuple[tuple[float, float], ...]) -> None:
    assert "nan" not in chart([Line("x", points)], unit="", last_step=10)


def test_nothing_is_drawn_of_nothing_and_of_infinity() -> None:
    assert chart([Line("x", ())], unit="", last_step=10) == ""
    assert chart([Line("x", ((0.0, float("inf")),))], unit="", last_step=10) == ""


def test_thousands_of_points_are_thinned_and_the_last_one_stays() -> None:
    drawn = chart([Line("x", tuple((float(k), float(k)) for k in range(5000)))], unit="", last_step=4999)
    assert len(drawn) < 12_000
    assert "L610.0 30.0" in drawn
