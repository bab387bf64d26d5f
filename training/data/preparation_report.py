"""The page that shows what was prepared."""

import base64
import html
from collections.abc import Sequence

from .examine import KEPT, Scene


def report(found: Sequence[Scene]) -> str:
    """One HTML page with a thumbnail and the verdict of every scene."""
    rows = []
    for scene in found:
        image = base64.b64encode(scene.thumbnail).decode()
        part = "held out" if scene.held_out else "train"
        outcome = f"{part}, {scene.sequences} sequences" if scene.verdict == KEPT else scene.verdict
        rows.append(
            f'<tr class="{"kept" if scene.verdict == KEPT else "dropped"}">'
            f'<td><img src="data:image/jpeg;base64,{image}" alt=""></td><td>{html.escape(scene.video)}</td>'
            f"<td>{scene.start} – {scene.stop - 1}</td><td>{html.escape(outcome)}</td></tr>"
        )
    kept = sum(scene.verdict == KEPT for scene in found)
    return (
        '<!doctype html><meta charset="utf-8"><title>Prepared</title><style>body{font:14px sans-serif;margin:2em}'
        "td{padding:.3em 1em .3em 0}.dropped{color:#a00}img{max-width:200px}</style>"
        f"<h1>{kept} of {len(found)} scenes kept</h1><table>"
        "<tr><th></th><th>video</th><th>frames</th><th></th></tr>" + "".join(rows) + "</table>\n"
    )
