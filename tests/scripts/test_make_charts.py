"""The charts of the documentation say what its figures say."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
charts = pytest.importorskip("make_charts")

SPEEDS = [
    charts.Speed("light", "a CPU", 2.04, "measured", "scripts/benchmark", "2026-01-02"),
    charts.Speed("light", "a <card>", 340.0, "predicted", "scripts/benchmark --predict X", "2026-01-02"),
]


def test_the_committed_chart_and_table_are_those_of_the_figures() -> None:
    source, speeds = charts.read(charts.FIGURES)
    assert charts.CHART.read_text(encoding="utf-8") == charts.chart(source, speeds)
    assert charts.table(source, speeds) in charts.PAGE.read_text(encoding="utf-8")


def test_the_committed_chart_of_seams_is_that_of_their_tables() -> None:
    clips = charts.seams(charts.SEAMS.read_text(encoding="utf-8"))
    assert clips["generated:300, segments of 30"][:2] == [(0, 3.804), (1, 1.355)]
    assert len(clips) == 3
    assert charts.SEAMS_CHART.read_text(encoding="utf-8") == charts.seams_chart(clips)


def test_bars_end_where_the_logarithmic_axis_has_their_value() -> None:
    drawn = charts.chart("320x180", SPEEDS)
    across = charts.WIDTH - charts.LEFT - charts.RIGHT  # from 1 to 1000: three decades
    for fps, decades in ((2.04, 0.3096), (340.0, 2.5315)):
        width = f'width="{across * decades / 3:.1f}"'
        assert width in drawn, fps
    assert "a &lt;card&gt;" in drawn


def test_what_is_predicted_looks_predicted() -> None:
    measured, predicted = (line for line in charts.chart("320x180", SPEEDS).splitlines() if 'height="18"' in line)
    assert 'fill="none"' not in measured
    assert 'fill="none"' in predicted
    assert "| light | a <card> | 340 | predicted | `scripts/benchmark --predict X`, 2026-01-02 |" in charts.table(
        "", SPEEDS
    )


@pytest.mark.parametrize(("kind", "fps", "named"), [("guessed", 1.0, "kind: "), ("measured", 0.0, "fps: ")])
def test_a_row_that_cannot_be_is_refused(kind: str, fps: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}expected "):
        charts.Speed("light", "a CPU", fps, kind, "scripts/benchmark", "2026-01-02")
