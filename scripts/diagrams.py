"""Mermaid diagrams of a page, drawn once when the site is built: a reader's browser loads nothing from elsewhere."""

import re
from pathlib import Path

import mermaidx

FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Labels in the font of the page rather than mermaid's; the site puts the picture on white in the dark theme, too.
THEME = "neutral"


def drawn(page: Path, text: str) -> str:
    """The text of a page with pictures for its diagrams, which are written beside the page.

    ValueError names the diagram that mermaid cannot read.
    """
    count = 0

    def picture(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        file = page.with_name(f"{page.stem}-diagram-{count}.svg")
        try:
            file.write_text(mermaidx.render(found[1], theme=THEME).svg(), encoding="utf-8")
        except RuntimeError as error:
            raise ValueError(f"{page.name}, diagram {count}: expected a Mermaid diagram, got: {error}") from error
        return f"![Diagram {count} of this page]({file.name}){{.diagram}}"

    return FENCE.sub(picture, text)
