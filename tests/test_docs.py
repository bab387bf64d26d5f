"""The documentation: its links lead somewhere, its commands can be typed, its scripts compile, its site builds."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
build_docs = pytest.importorskip("build_docs")
make_options_page = pytest.importorskip("make_options_page")
make_messages_page = pytest.importorskip("make_messages_page")

PAGES = [page for page in build_docs.pages() if page.suffix == ".md"]


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Those of the headings, as mkdocs and code hosts make them: lower case, words joined by hyphens."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / name if name else ROOT / page
        assert linked.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(linked.resolve().relative_to(ROOT)), f"{page}: {target}"


def commands(name: str) -> Iterator[tuple[Path, list[str]]]:
    """The words after each `name`, a program or the module of one, in a shell block, up to a pipe."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for at, word in enumerate(words):
                    if word == name and (at == 0 or words[at - 1] in ("|", "&&", "-m")):
                        rest = words[at + 1 :]
                        end = next((i for i, other in enumerate(rest) if other in ("|", ">", "&&", "2>")), len(rest))
                        yield page, rest[:end]


def test_every_iconvsr_command_is_one_that_its_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    from ffmpeg_filter import cli

    found = [(page, words) for page, words in commands("iconvsr") if words[0] != "train"]
    assert len(found) > 30
    for page, words in found:
        ours = words[: words.index("--")] if "--" in words else words
        try:
            cli.parser(ours[0]).parse_args(ours)
        except SystemExit:
            pytest.fail(f"{page}: iconvsr {shlex.join(words)}: {capsys.readouterr().err}")


def test_every_command_of_training_is_one_that_its_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    from training import cli

    found = [(page, words) for page, words in commands("training") if "…" not in words]
    found += [(page, words[1:]) for page, words in commands("iconvsr") if words[0] == "train"]
    assert len(found) >= 8
    for page, words in found:
        try:
            cli._parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{page}: training {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


def test_the_page_of_options_is_up_to_date() -> None:
    wanted = "run: PYTHONPATH=. .venv/bin/python scripts/make_options_page.py"
    assert text_of(Path("docs/options.md")) == make_options_page.page(), wanted


def test_every_error_message_has_a_cause_and_a_remedy() -> None:
    found = make_messages_page.messages()
    assert len(found) > 300
    missing = [message for message in found if make_messages_page.group_of(message) is None]
    assert missing == [], "name their group in scripts/message_groups.py"


def test_the_page_of_messages_is_up_to_date() -> None:
    assert text_of(Path("docs/messages.md")) == make_messages_page.page(), "run: ./scripts/docs"


def test_messages_of_other_errors_are_not_taken_for_ours() -> None:
    texts = {message.text for message in make_messages_page.messages()}
    assert "input: expected a video file, got no such file: …" in texts
    assert "pixel format: expected YUV, RGB or GRAY of 8 to 16 bits, got …" in texts  # in an f-string
    assert any(text.startswith("pixel format: expected one without alpha") for text in texts)  # made by a function
    assert any(
        text.startswith("…: expected a weight file, got a git-lfs pointer") for text in texts
    )  # with a file first


def test_what_the_troubleshooting_page_quotes_is_said_somewhere() -> None:
    """*Quoted words* of the table are in a message of ours, but for those that other programs say."""
    texts = [message.text for message in make_messages_page.messages()]
    others = (
        "vspipe: Failed to initialize VSScript",
        "No attribute with the name iconvsr exists",
        "Resize error: no path between colorspaces",
        "Invalid data found when processing input",
    )
    quoted = re.findall(r"^\| \*(.+?)\* \|", text_of(Path("docs/troubleshooting.md")), re.MULTILINE)
    assert len(quoted) >= 5
    for words in quoted:
        if words not in others:
            assert any(words.strip("… ") in text for text in texts), words


def test_every_page_is_listed() -> None:
    listed = text_of(Path("docs/README.md"))
    for page in PAGES:
        if page.parts[0] == "docs" and page.name != "README.md" and "decisions" not in page.parts:
            assert f"]({page.name})" in listed, page


def test_the_readme_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= 120


def test_pictures_are_small() -> None:
    for picture in (page for page in build_docs.pages() if page.suffix == ".png"):
        assert (ROOT / picture).stat().st_size < 300_000, picture


def test_pages_refer_to_nothing_that_a_stranger_does_not_have() -> None:
    for page in PAGES:
        assert not re.search(r"\.\./shared|/work/|/root/", text_of(page)), page


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    code = f"import build_docs, pathlib; build_docs.build({tmp_path / 'source'!r}, {tmp_path / 'site'!r})"
    command = [sys.executable, "-c", code.replace("PosixPath", "pathlib.Path")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "scripts", timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'src="docs/pictures/astronaut.png"' in page
    for made in (tmp_path / "site").rglob("*.html"):
        text = made.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+"', text), made
        assert 'class="mermaid"' not in text, made  # the theme would load mermaid.js from a server


def test_a_diagram_that_mermaid_cannot_read_is_named(tmp_path: Path) -> None:
    diagrams = pytest.importorskip("diagrams")
    with pytest.raises(ValueError, match=r"^page\.md, diagram 1: expected a Mermaid diagram, got: .*line 2"):
        diagrams.drawn(tmp_path / "page.md", "```mermaid\nsequenceDiagram\n  A->>B: one; two\n```\n")
