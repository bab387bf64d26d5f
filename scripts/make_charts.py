"""make_charts.py: the charts of the documentation from their figures, and the table of speeds in docs/speed.md.

docs/pictures/seams.svg is drawn from the tables of scripts/seams.md, speed.svg from docs/speed.json. Speeds that were
measured come from `scripts/benchmark`, predicted ones from `scripts/benchmark --predict`; each row says by which
command. A new figure goes into the file, then this script is run.
"""

import html
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, CHART, PAGE = DOCS / "speed.json", DOCS / "pictures" / "speed.svg", DOCS / "speed.md"
SEAMS, SEAMS_CHART = Path(__file__).with_name("seams.md"), DOCS / "pictures" / "seams.svg"
MARKED = re.compile(r"(<!-- made by scripts/make_charts\.py -->\n).*?(<!-- end -->)", re.DOTALL)

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 760, 250, 70, 50, 26, 40  # px
MEASURED, PREDICTED = "#2f7ed8", "#e07b00"
LINES = ("#2f7ed8", "#e07b00", "#2a9d5c", "#b04ac2")
SEAMS_HEIGHT = 320


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
    SEAMS_CHART.write_text(seams_chart(seams(SEAMS.read_text(encoding="utf-8"))), encoding="utf-8")
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
    low, high = _decades(row.fps for row in speeds)
    height, across = TOP + ROW * len(speeds) + BOTTOM, WIDTH - LEFT - RIGHT

    def place(fps: float) -> float:
        return round(LEFT + across * math.log10(fps / low) / math.log10(high / low), 1)

    title = f"Frames per second from {source}, within a scene"
    parts = [
        *_begun(title, height),
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


def seams(page: str) -> dict[str, list[tuple[int, float]]]:
    """Of each clip: (context, mean difference at the joints between segments, in code values), from the tables."""
    found = {}
    for section in page.split("\n### ")[1:]:
        clip = section.partition(",")[0]
        table = section.partition("| segment |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| (\d+) \| (\d+) \| \d+% \| ([\d.]+) \|", table, re.MULTILINE)
        if rows:
            found[f"{clip}, segments of {rows[0][0]}"] = [(int(context), float(mean)) for _, context, mean in rows]
    return found


def seams_chart(clips: dict[str, list[tuple[int, float]]]) -> str:
    """Lines over the context, the difference on a logarithmic axis, as SVG on white."""
    low, high = _decades(value for points in clips.values() for _, value in points)
    right, bottom, most = WIDTH - RIGHT, SEAMS_HEIGHT - 50, max(x for points in clips.values() for x, _ in points)
    left = 60

    def place(context: int, value: float) -> tuple[float, float]:
        down = bottom - (bottom - TOP) * math.log10(value / low) / math.log10(high / low)
        return round(left + (right - left) * context / most, 1), round(down, 1)

    title = "What a joint between segments leaves, in code values of 255"
    parts = [*_begun(title, SEAMS_HEIGHT), f'<text x="{left}" y="18" font-weight="bold">{title}</text>']
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        _, y = place(0, 10.0**power)
        parts.append(f'<path d="M{left} {y}H{right}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    for context in sorted({x for points in clips.values() for x, _ in points}):
        x, _ = place(context, low)
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{context}</text>')
    parts.append(f'<text x="{left}" y="{bottom + 38}">frames of context on either side</text>')
    for k, ((name, points), color) in enumerate(zip(clips.items(), LINES, strict=False)):
        places = [place(*point) for point in points]
        path = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in places]
        parts.append(f'<text x="{right - 300}" y="{TOP + 18 + 18 * k}" fill="{color}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(values: Iterable[float]) -> tuple[float, float]:
    """The powers of ten around all of them."""
    held = list(values)
    return 10.0 ** math.floor(math.log10(min(held))), 10.0 ** math.ceil(math.log10(max(held)))


def _begun(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{html.escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]


def _short(fps: float) -> str:
    """Two significant digits: no speed here is known better."""
    return f"{float(f'{fps:.2g}'):g}"


if __name__ == "__main__":
    main()
