"""From the figures of footage to the strengths of its degradations, with the error of each estimate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .measures import CODING

PARTS = 4  # of the simulated clips, for cross-validation
# Real footage is softer than generated clips: on frames of a real street, blur was estimated 1.1 px and CRF 8 to 12 too
# high, several times the error on generated clips.
REAL_FOOTAGE_FACTOR = 3.0

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A strength and its typical error (root mean square on clips that the regression has not seen)."""

    value: float
    error: float


class StrengthRegression:
    """Estimates strengths by regression on simulated samples.

    figures (samples, figures of `measures`) were measured, strengths (by name) had caused them. part: which of PARTS of
    the clips each sample was made from.
    """

    def __init__(self, figures: Values, strengths: dict[str, Values], families: Sequence[str], part: Values) -> None:
        self.figures, self.strengths, self.families, self.part = figures, strengths, np.array(families), part

    def for_family(self, family: str) -> "StrengthRegression":
        """The regression on the samples of one family only."""
        chosen = self.families == family
        strengths = {name: values[chosen] for name, values in self.strengths.items()}
        return StrengthRegression(self.figures[chosen], strengths, list(self.families[chosen]), self.part[chosen])

    def estimate(self, name: str, figures: Values) -> Estimate:
        """figures (groups of windows, figures) of footage → the median estimate, clamped to the simulated range."""
        columns, widened = (
            (CODING, REAL_FOOTAGE_FACTOR)
            if name == "quality"
            else (slice(None), REAL_FOOTAGE_FACTOR if name == "sigma" else 1.0)
        )
        values = self.strengths[name]
        predicted = float(np.median(_predict(self.figures[:, columns], values, figures[:, columns])))
        errors = self._cross_validate(values, columns) - values
        value = float(np.clip(predicted, values.min(), values.max()))
        return Estimate(value, widened * float(np.sqrt(np.mean(errors**2))))

    def likeliest_family(self, figures: Values) -> str:
        """The family whose samples are most similar to the footage in their figures for coding."""
        names = sorted(set(self.families))
        scores = [
            float(_predict(self.figures[:, CODING], (self.families == name).astype(float), figures[:, CODING]).mean())
            for name in names
        ]
        return str(names[int(np.argmax(scores))])

    def _cross_validate(self, values: Values, columns: slice) -> Values:
        """The values predicted for each part of the clips from the other parts."""
        predicted = np.empty_like(values)
        for part in range(PARTS):
            held_out = self.part == part
            known = self.figures[~held_out, columns], values[~held_out]
            predicted[held_out] = _predict(*known, self.figures[held_out, columns])
        return predicted


def _predict(figures: Values, values: Values, queries: Values) -> Values:
    """Gaussian process regression with a linear and a squared-exponential kernel."""
    mean, spread = figures.mean(axis=0), figures.std(axis=0) + 1e-9
    known, query = ((part - mean) / spread for part in (figures, queries))
    query = np.clip(query, -3.0, 3.0)  # outliers unlike any simulation must not be extrapolated to
    count = figures.shape[1]

    def kernel(a: Values, b: Values) -> Values:
        distance = ((a[:, None] - b[None]) ** 2).sum(axis=2) / count
        return np.asarray(a @ b.T / count + 2.0 * np.exp(-0.5 * distance))

    level = values.mean()
    weights = np.linalg.solve(kernel(known, known) + 0.1 * np.eye(len(known)), values - level)
    return np.asarray(level + kernel(query, known) @ weights)
