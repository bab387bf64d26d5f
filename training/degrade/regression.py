"""From figures of pictures to the strengths of what they have suffered, and how far off that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.degrade.measures import CODING

PARTS = 4  # of the simulated clips: what one part teaches is checked on the others
# Real scenery is softer than what is drawn: of pictures of a real street, blur was told 1.1 px and CRF 8 to 12 too
# high, several times as much as on clips of ours.
REAL_SCENERY = 3.0

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A strength and how far off it usually is (root mean square on clips that the regression has not seen)."""

    value: float
    error: float


class Learned:
    """What was simulated: figures (samples, figures of `measures`) and the strengths that gave them, a name each.

    part: which of PARTS of the clips each sample was made from.
    """

    def __init__(self, figures: Values, strengths: dict[str, Values], families: Sequence[str], part: Values) -> None:
        self.figures, self.strengths, self.families, self.part = figures, strengths, np.array(families), part

    def of(self, family: str) -> "Learned":
        """The samples of one family alone."""
        chosen = self.families == family
        strengths = {name: values[chosen] for name, values in self.strengths.items()}
        return Learned(self.figures[chosen], strengths, list(self.families[chosen]), self.part[chosen])

    def estimate(self, name: str, figures: Values) -> Estimate:
        """figures (groups of windows, figures) of footage: the median of what they tell, within what was simulated."""
        columns, widened = (
            (CODING, REAL_SCENERY) if name == "quality" else (slice(None), REAL_SCENERY if name == "sigma" else 1.0)
        )
        values = self.strengths[name]
        predicted = float(np.median(_predict(self.figures[:, columns], values, figures[:, columns])))
        errors = self._left_out(values, columns) - values
        value = float(np.clip(predicted, values.min(), values.max()))
        return Estimate(value, widened * float(np.sqrt(np.mean(errors**2))))

    def likeliest_family(self, figures: Values) -> str:
        """The family whose samples the footage's figures for coding are most like."""
        names = sorted(set(self.families))
        scores = [
            float(_predict(self.figures[:, CODING], (self.families == name).astype(float), figures[:, CODING]).mean())
            for name in names
        ]
        return str(names[int(np.argmax(scores))])

    def _left_out(self, values: Values, columns: slice) -> Values:
        """The values as told from what the other parts of the clips taught."""
        predicted = np.empty_like(values)
        for part in range(PARTS):
            out = self.part == part
            predicted[out] = _predict(self.figures[~out, columns], values[~out], self.figures[out, columns])
        return predicted


def _predict(figures: Values, values: Values, asked: Values) -> Values:
    """Gaussian process regression: linear, and bent where that fits better."""
    mean, spread = figures.mean(axis=0), figures.std(axis=0) + 1e-9
    known, wanted = ((part - mean) / spread for part in (figures, asked))
    wanted = np.clip(wanted, -3.0, 3.0)  # what is unlike anything simulated must not carry the line away with it
    count = figures.shape[1]

    def likeness(a: Values, b: Values) -> Values:
        distance = ((a[:, None] - b[None]) ** 2).sum(axis=2) / count
        return np.asarray(a @ b.T / count + 2.0 * np.exp(-0.5 * distance))

    level = values.mean()
    weights = np.linalg.solve(likeness(known, known) + 0.1 * np.eye(len(known)), values - level)
    return np.asarray(level + likeness(wanted, known) @ weights)
