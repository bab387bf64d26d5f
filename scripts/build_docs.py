"""Builds the documentation as a site, build/site; fails at a link or an anchor that leads nowhere."""

import logging
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "training", "scripts")
STAGED, SITE = ROOT / "build" / "docs-source", ROOT / "build" / "site"


def pages() -> list[Path]:
    """Every page and picture, relative to the checkout."""
    found = list(ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += [
            path for ending in ("md", "png", "svg", "css", "json") for path in (ROOT / folder).rglob(f"*.{ending}")
        ]
    return sorted(path.relative_to(ROOT) for path in found)


def build(staged: Path = STAGED, site: Path = SITE) -> None:
    """Copies all pages to one place, in the folders in which they lie, draws their diagrams, and makes the site."""
    from diagrams import drawn
    from mkdocs.commands.build import build as build_site
    from mkdocs.config import load_config

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    shutil.rmtree(staged, ignore_errors=True)
    for page in pages():
        (staged / page).parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".md":
            text = (ROOT / page).read_text(encoding="utf-8")
            (staged / page).write_text(drawn(staged / page, text), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / page, staged / page)
    build_site(load_config(str(ROOT / "scripts" / "mkdocs.yml"), docs_dir=str(staged), site_dir=str(site)))


if __name__ == "__main__":
    build()
    print(SITE / "index.html", file=sys.stderr)
