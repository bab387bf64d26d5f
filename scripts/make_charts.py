"""make_charts.py: the chart of speeds, docs/pictures/speed.svg, and its table in docs/speed.md, from docs/speed.json.

Measured rows come from `scripts/benchmark`, predicted ones from `scripts/benchmark --predict`; each row of the
file says by which command. A new figure goes into the file, then this script is run.
"""

import html
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, CHART, PAGE = DOCS / "speed.json", DOCS / "pictures" / "speed.svg", DOCS / "speed.md"
MARKED = re.compile(r"(<!-- made by scripts/make_charts\.py -->\n).*?(<!-- end -->)", re.DOTALL)

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 760, 250, 70, 50, 26, 40  # px
MEASURED, PREDICTED = "#2f7ed8", "#e07b00"


@dataclass(frozen=True)
class Speed:
    """A network on a device. command: what printed the figure. kind: measured or predicted."""

    network: str
    device: str
    fps: float
    kind: str
    command: str
    date: str

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "predicted"):
            raise ValueError(f"kind: expected measured or predicted, got {self.kind!r}")
        if not self.fps > 0.0:
            raise ValueError(f"fps: expected more than 0, got {self.fps}")

    @property
    def label(self) -> str:
        return f"{self.network}, {self.device}"


def main() -> None:
    source, speeds = read(FIGURES)
    CHART.write_text(chart(source, speeds), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKED.sub(lambda found: found[1] + table(source, speeds) + found[2], page), encoding="utf-8")


def read(path: Path) -> tuple[str, list[Speed]]:
    """The source size, WxH, and the rows."""
    held = json.loads(path.read_text(encoding="utf-8"))
    return held["source"], [Speed(**row) for row in held["rows"]]


def table(source: str, speeds: list[Speed]) -> str:
    """Markdown; rows as in the file."""
    lines = [f"| network | device | fps from {source} | | command, date |", "|---|---|---|---|---|"]
    for row in speeds:
        lines.append(f"| {row.network} | {row.device} | {_short(row.fps)} | {row.kind} | `{row.command}`, {row.date} |")
    return "\n".join(lines) + "\n"


def chart(source: str, speeds: list[Speed]) -> str:
    """Horizontal bars over a logarithmic axis, as SVG on white: predicted ones are hollow."""
    low = 10.0 ** math.floor(math.log10(min(row.fps for row in speeds)))
    high = 10.0 ** math.ceil(math.log10(max(row.fps for row in speeds)))
    height, across = TOP + ROW * len(speeds) + BOTTOM, WIDTH - LEFT - RIGHT

    def place(fps: float) -> float:
        return round(LEFT + across * math.log10(fps / low) / math.log10(high / low), 1)

    title = f"Frames per second from {source}, within a scene"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{title}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">{title}</text>',
        f'<rect x="{LEFT}" y="26" width="12" height="12" fill="{MEASURED}"/>'
        f'<text x="{LEFT + 18}" y="37">measured</text>',
        f'<rect x="{LEFT + 100}" y="26" width="12" height="12" fill="none" stroke="{PREDICTED}" stroke-width="2"/>'
        f'<text x="{LEFT + 118}" y="37">predicted, not measured</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = place(10.0**power)
        parts.append(f'<path d="M{x} {TOP}V{height - BOTTOM}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x}" y="{height - BOTTOM + 18}" text-anchor="middle">{10.0**power:g}</text>')
    for k, row in enumerate(speeds):
        y, end = TOP + ROW * k + 4, place(row.fps)
        paint = f'fill="{MEASURED}"' if row.kind == "measured" else f'fill="none" stroke="{PREDICTED}" stroke-width="2"'
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{html.escape(row.label)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(end - LEFT, 1.0):.1f}" height="{ROW - 8}" {paint}/>')
        parts.append(f'<text x="{end + 6}" y="{y + 13}">{_short(row.fps)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(fps: float) -> str:
    """Two significant digits: no speed here is known better."""
    return f"{float(f'{fps:.2g}'):g}"


if __name__ == "__main__":
    main()
