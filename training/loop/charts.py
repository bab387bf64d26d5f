"""Line charts as SVG text: no library, no script, readable in light and dark."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 760, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 30, 34  # margins in px: labels of the axes, names of the lines
MOST_POINTS = 400  # of a line; more cannot be seen
COLORS = ("#2f7ed8", "#e07b00", "#2a9d5c", "#b04ac2", "#c23b3b", "#7a7a7a")


@dataclass(frozen=True)
class Line:
    """points: (step, value), ascending. dashed: a level to compare with."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


def chart(lines: Sequence[Line], *, unit: str, last_step: int, mark: tuple[float, float] | None = None) -> str:
    """The lines over steps 0 to last_step. unit: of the values. mark: a point to circle. Empty without points."""
    values = [y for line in lines for _, y in line.points if math.isfinite(y)]
    if not values:
        return ""
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / max(1, last_step)
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / ((high - low) or 1.0)
        return round(across, 1), round(down, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html.escape(unit)}">']
    for tick in ticks:
        x, y = place(0, tick)
        parts.append(f'<path class="grid" d="M{x} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for step in _ticks(0.0, float(last_step)):
        x, y = place(step, low)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{step:g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 2}">step</text><text x="4" y="14">{html.escape(unit)}</text>')
    for k, line in enumerate(lines):
        color = COLORS[k % len(COLORS)]
        points = [place(x, y) for x, y in _thinned(line.points) if math.isfinite(y)]
        path = "L".join(f"{x} {y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>' if points else "")
        if len(points) == 1:
            parts.append(f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="3" fill="{color}"/>')
        name = html.escape(line.name)
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 18 * k}" style="fill:{color}">{name}</text>')
    if mark is not None:
        x, y = place(*mark)
        parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="none" stroke="currentColor" stroke-width="1.5"/>')
    return "".join([*parts, "</svg>"])


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = max(1, len(points) // MOST_POINTS)
    return [*points[::stride], *(points[-1:] if (len(points) - 1) % stride else ())]


def _ticks(low: float, high: float) -> list[float]:
    """About five round values in the range."""
    spread = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(spread / 4.0))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= spread / 5.0)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)] or [
        low
    ]
