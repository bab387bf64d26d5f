"""run.html: how a run is doing, on one page that needs nothing but itself."""

import base64
import html
import io
import json
import re
import time
from pathlib import Path

from PIL import Image
from torch import Tensor

from vs_iconvsr.atomic import write_atomically

from .charts import Line, chart
from .metrics_log import FILE as METRICS

PAGE, PREVIEWS = "run.html", "preview"
SHOWN = 6  # earlier previews on the page, evenly spread
RENEWED_S = 30.0  # the page is not written more often between evaluations
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "svg{max-width:100%;height:auto}svg text{font-size:12px;fill:currentColor}.grid{stroke:#8884}"
    "img{max-width:100%;image-rendering:pixelated}figure{margin:0 0 1.5em}figcaption{color:#888}"
    "dl{display:grid;grid-template-columns:max-content auto;gap:.2em 1.5em}dd{margin:0}"
)


class RunPage:
    """The page of the run in a folder, and the images on it. active: False in all processes but the first."""

    def __init__(self, folder: Path, *, total: int, active: bool) -> None:
        self.folder, self.total, self.active = folder, total, active
        self._written = 0.0

    def add_images(self, step: int, images: dict[str, Tensor]) -> None:
        """Bicubic, hr and gt side by side (3, h, w) uint8, by kind of degradation."""
        if not self.active:
            return
        (self.folder / PREVIEWS).mkdir(parents=True, exist_ok=True)
        for kind, image in images.items():
            file = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=92)
            write_atomically(self.folder / PREVIEWS / f"{step:08d}_{kind}.jpg", file.getvalue())

    def discard_after(self, step: int) -> None:
        """Remove the images of later steps, which a resumed run makes again."""
        for path in self._previews():
            if self.active and int(path.name.split("_")[0]) > step:
                path.unlink()

    def renew(self) -> None:
        """Write the page if that was some time ago."""
        if time.monotonic() - self._written >= RENEWED_S:
            self.write()

    def write(self) -> None:
        if self.active:
            metrics = self.folder / METRICS
            text = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
            lines = [json.loads(line) for line in text.splitlines()]
            page = page_text(self.folder.name, lines, self._previews(), total=self.total)
            write_atomically(self.folder / PAGE, page.encode())
            self._written = time.monotonic()

    def _previews(self) -> list[Path]:
        files = sorted((self.folder / PREVIEWS).glob("*.jpg"))
        return [path for path in files if re.match(r"\d{8}_", path.name)]


def page_text(name: str, lines: list[dict[str, float]], previews: list[Path], *, total: int) -> str:
    """The page from lines of metrics.jsonl and preview images."""
    evaluated = [line for line in lines if "gain_db" in line]
    logged = [line for line in lines if "loss" in line]
    best = max(evaluated, key=lambda line: line["gain_db"], default=None)
    mark = (best["step"], best["gain_db"]) if best else None
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="30">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style><h1>{html.escape(name)}</h1>",
        _facts(lines, logged, best, total),
    ]
    if gains := chart(_gain_lines(evaluated, total), unit="dB over bicubic, held out", last_step=total, mark=mark):
        parts += ["<h2>Held-out gain</h2>", gains, "<p>The circle is the best: the weights that are kept.</p>"]
    loss = Line("loss", tuple((line["step"], line["loss"]) for line in logged))
    if drawn := chart([loss], unit="training loss", last_step=total):
        parts += ["<h2>Loss</h2>", drawn]
    return "\n".join([*parts, *_preview_parts(previews)]) + "\n"


def _facts(
    lines: list[dict[str, float]], logged: list[dict[str, float]], best: dict[str, float] | None, total: int
) -> str:
    step = int(max((line["step"] for line in lines), default=0))
    facts = {"step": f"{step} of {total}"}
    if lines:
        facts["as of"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lines[-1]["time"]))
    if logged:
        seconds = logged[-1]["seconds_per_step"]
        facts["speed"] = f"{seconds:.2f} s per step, {logged[-1]['data_wait_share']:.0%} of it waiting for data"
        facts["left"] = f"{(total - step) * seconds / 60.0:.0f} min" if step < total else "nothing"
    if best:
        over = f", {best['gain_over_start_db']:+.2f} dB over the start" if "gain_over_start_db" in best else ""
        facts["best"] = f"{best['gain_db']:+.2f} dB over bicubic at step {best['step']:.0f}{over}"
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items()) + "</dl>"


def _gain_lines(evaluated: list[dict[str, float]], total: int) -> list[Line]:
    """The mean, each kind of degradation, and the level of the starting weights."""
    kinds = sorted({key for line in evaluated for key in line if re.fullmatch(r"gain_(?!over_start).+_db", key)})
    lines = [Line("mean", tuple((line["step"], line["gain_db"]) for line in evaluated))]
    if len(kinds) > 1:
        lines += [
            Line(key[5:-3], tuple((line["step"], line[key]) for line in evaluated if key in line)) for key in kinds
        ]
    if evaluated and "gain_over_start_db" in evaluated[-1]:
        level = evaluated[-1]["gain_db"] - evaluated[-1]["gain_over_start_db"]
        lines.append(Line("starting weights", ((0, level), (total, level)), dashed=True))
    return lines


def _preview_parts(previews: list[Path]) -> list[str]:
    """The newest image of every kind; of the first kind, earlier ones too."""
    if not previews:
        return []
    by_kind: dict[str, list[Path]] = {}
    for path in previews:
        by_kind.setdefault(path.stem.split("_", 1)[1], []).append(path)
    parts = ["<h2>One held-out frame: bicubic, ours, ground truth</h2>"]
    parts += [_figure(paths[-1], f"{kind}, step {_step(paths[-1])}") for kind, paths in by_kind.items()]
    kind, paths = next(iter(by_kind.items()))
    if earlier := paths[:-1]:
        count = min(SHOWN, len(earlier))
        chosen = [earlier[k * (len(earlier) - 1) // max(1, count - 1)] for k in range(count)]
        parts.append(f"<h2>Earlier, {html.escape(kind)}</h2>")
        parts += [_figure(path, f"step {_step(path)}") for path in reversed(chosen)]
    return parts


def _figure(path: Path, caption: str) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img src="data:image/jpeg;base64,{image}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _step(path: Path) -> int:
    return int(path.name.split("_")[0])
