"""Strengths are read off figures, and the error is that on clips that nothing was learned from."""

import numpy as np
import pytest

from training.degrade.measures import CODING
from training.degrade.regression import PARTS, REAL_FOOTAGE_FACTOR, StrengthRegression, Values

SAMPLES = 80
FIGURES = 12  # the last of them CODING's
RANDOM = np.random.default_rng


def learned(figures: Values, strengths: Values, families: list[str] | None = None) -> StrengthRegression:
    names = {"sigma": strengths, "noise": strengths, "quality": strengths}
    return StrengthRegression(figures, names, families or ["x264"] * len(figures), np.arange(len(figures)) % PARTS)


def telling(strengths: Values, *, columns: slice = slice(None)) -> Values:
    """Figures of which all, or those of columns, follow the strength; the others are chance."""
    random = RANDOM(1)
    figures = random.normal(size=(len(strengths), FIGURES))
    figures[:, columns] = strengths[:, None] + 0.05 * figures[:, columns]
    return figures


@pytest.fixture
def strengths() -> Values:
    return RANDOM(0).uniform(0.0, 10.0, SAMPLES)


@pytest.mark.parametrize("name", ["sigma", "noise", "quality"])
def test_a_strength_is_read_off(strengths: Values, name: str) -> None:
    found = learned(telling(strengths), strengths).estimate(name, telling(np.array([3.0, 7.0, 7.0])))
    assert found.value == pytest.approx(7.0, abs=0.2)
    assert found.error < 0.3 * REAL_FOOTAGE_FACTOR


def test_quality_is_estimated_from_the_coding_measures_alone(strengths: Values) -> None:
    known = learned(telling(strengths, columns=slice(0, FIGURES + CODING.start)), strengths)
    assert known.estimate("noise", telling(np.array([8.0]))).error < 1.0
    assert known.estimate("quality", telling(np.array([8.0]))).error > 0.9 * REAL_FOOTAGE_FACTOR * strengths.std()


def test_the_error_is_that_on_parts_that_nothing_was_learned_from() -> None:
    """Each sample has a twin in its own part: learned from, it would tell all about the other."""
    random = RANDOM(2)
    figures, strengths = random.normal(size=(SAMPLES, FIGURES)), random.uniform(0.0, 10.0, SAMPLES)
    figures[SAMPLES // 2 :], strengths[SAMPLES // 2 :] = figures[: SAMPLES // 2], strengths[: SAMPLES // 2]
    assert learned(figures, strengths).estimate("noise", figures).error > 0.9 * strengths.std()


def test_the_error_of_blur_is_widened_because_real_scenery_is_softer(strengths: Values) -> None:
    known, asked = learned(telling(strengths), strengths), telling(np.array([5.0]))
    assert known.estimate("sigma", asked).error == pytest.approx(
        REAL_FOOTAGE_FACTOR * known.estimate("noise", asked).error
    )


def test_a_figure_unlike_anything_simulated_does_not_carry_the_estimate_away(strengths: Values) -> None:
    known = learned(telling(strengths, columns=slice(0, 4)), strengths)
    asked = telling(np.array([5.0]), columns=slice(0, 4))
    asked[:, -1] = 1000.0
    assert known.estimate("noise", asked).value == pytest.approx(5.0, abs=1.5)


def test_an_estimate_stays_within_what_was_simulated(strengths: Values) -> None:
    known = learned(telling(strengths), strengths)
    assert known.estimate("noise", telling(np.array([20.0]))).value == strengths.max()
    assert known.estimate("noise", telling(np.array([-20.0]))).value == strengths.min()


def test_the_likeliest_family_is_estimated_from_the_coding_measures() -> None:
    families = ["mpeg", "none", "x264"] * (SAMPLES // 3)
    marks = np.array([{"mpeg": 0, "none": 1, "x264": 2}[family] for family in families])
    figures = RANDOM(3).normal(size=(len(families), FIGURES))
    figures[np.arange(len(families)), FIGURES + CODING.start + marks] += 8.0
    known = learned(figures, np.ones(len(families)), families)
    for family in ("mpeg", "none", "x264"):
        assert known.likeliest_family(figures[np.array(families) == family]) == family


def test_one_family_alone_is_learned_from(strengths: Values) -> None:
    families = ["mpeg", "x264"] * (SAMPLES // 2)
    one = learned(telling(strengths), strengths, families).for_family("mpeg")
    assert len(one.figures) == len(one.part) == SAMPLES // 2
    assert (one.strengths["noise"] == strengths[::2]).all()
