"""HDR10+ of the source is in the output, frame by frame; what would be lost ends the job before it begins."""

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media import mux
from ffmpeg_filter.media.join import MuxError
from ffmpeg_filter.media.source import SourceError
from tests.ffmpeg_filter.dynamic_hdr import declare_dolby_vision, hdr10_plus_unit, with_units

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
FRAMES = 12
CODED = ("-c:v", "libx265", "-x265-params", "log-level=none:bframes=3", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1")


@pytest.fixture
def hdr_clip(clip: Make, ffmpeg: Make, tmp_path: Path) -> Make:
    """hdr_clip("in.mkv"): HEVC with B-frames and another brightness in the HDR10+ metadata of each frame.

    dolby_vision: the file declares that, too.
    """

    def make(name: str, frames: int = FRAMES, *, dolby_vision: bool = False) -> Path:
        coded = clip("coded.mp4", *CODED, size="64x64", frames=frames)
        plus = tmp_path / "plus.mp4"
        with_units(coded, [hdr10_plus_unit(n) for n in range(frames)], plus)
        if dolby_vision:
            declare_dolby_vision(plus, profile=8, compatibility=1)
        return ffmpeg(name, "-i", plus, "-c", "copy")

    return make


def brightness(path: Path) -> list[bytes]:
    """The HDR10+ metadata of each frame as a decoder gives it."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [next((bytes(s) for k, s in f.side_data.items() if k.name == "DYNAMIC_HDR_PLUS"), b"") for f in frames]


@pytest.mark.parametrize(("read", "written"), [("mkv", "mp4"), ("mp4", "mkv"), ("ts", "mov")])
def test_every_frame_keeps_its_hdr10_plus(
    hdr_clip: Make, upscaled: Upscaled, tmp_path: Path, read: str, written: str
) -> None:
    source = hdr_clip(f"in.{read}")
    summary = upscaled(source, tmp_path / f"out.{written}", encoder="x265")
    before = brightness(source)
    assert len({*before}) == len(before) == FRAMES
    assert before != sorted(before)  # the order of decoding was another one
    assert brightness(tmp_path / f"out.{written}") == before
    assert "HDR10+ dynamic metadata" in summary.kept
    assert summary.left == summary.warnings == ()


def test_a_preview_has_the_hdr10_plus_of_its_frames(hdr_clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = hdr_clip("in.mkv")
    upscaled(source, tmp_path / "out.mkv", encoder="x265", start_s=0.2, duration_s=0.12)
    assert brightness(tmp_path / "out.mkv") == brightness(source)[5:8]


def test_an_output_without_the_metadata_of_one_frame_is_an_error(hdr_clip: Make) -> None:
    with pytest.raises(MuxError, match="expected the HDR10\\+ metadata of 2 frames, got others, of 3"):
        mux.check_hdr10_plus(hdr_clip("in.mkv", frames=3), [b"", b""])


@pytest.mark.parametrize(
    ("read", "written", "options", "reason"),
    [
        ("in.mkv", "out.mkv", {"encoder": "x264"}, "only HEVC carries it here, pass --encoder x265"),
        ("in.mkv", "out_%d.png", {}, "only HEVC carries it here, pass --encoder x265"),
        (
            "in.hevc",
            "out.mkv",
            {"encoder": "x265"},
            "the file has no timestamps .*, rewrap it as Matroska with mkvmerge",
        ),
    ],
)
def test_hdr10_plus_that_would_be_lost_ends_the_job_before_it_begins(
    hdr_clip: Make, upscaled: Upscaled, tmp_path: Path, read: str, written: str, options: dict[str, str], reason: str
) -> None:
    source, output = hdr_clip(read, frames=4), tmp_path / written
    options = {"speed": None, **options} if written.endswith("png") else options
    with pytest.raises(SourceError, match=f"got HDR10\\+ dynamic metadata: {reason}; pass --drop-dynamic-hdr to go on"):
        upscaled(source, output, **options)
    assert not list(tmp_path.glob("out*"))
    left = upscaled(source, output, drop_dynamic_hdr=True, **options).left
    assert "HDR10+ dynamic metadata: describes the source's pixels, so it is not copied to the upscaled video" in left


def test_dolby_vision_ends_the_job_and_hdr10_plus_beside_it_is_kept(
    hdr_clip: Make, upscaled: Upscaled, tmp_path: Path
) -> None:
    source = hdr_clip("in.mkv", frames=3, dolby_vision=True)
    with pytest.raises(SourceError, match="got Dolby Vision metadata: nothing here can adapt it; pass --drop-dyn"):
        upscaled(source, tmp_path / "out.mkv", encoder="x265")
    with pytest.raises(SourceError, match=r"got HDR10\+ dynamic metadata and Dolby Vision metadata: nothing"):
        upscaled(source, tmp_path / "out.mkv", encoder="x264")
    summary = upscaled(source, tmp_path / "out.mkv", encoder="x265", drop_dynamic_hdr=True)
    assert [text.split(":")[0] for text in summary.left] == ["Dolby Vision metadata"]
    assert brightness(tmp_path / "out.mkv") == brightness(source)
