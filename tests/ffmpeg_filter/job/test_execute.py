"""Parts count only when they are whole: encoders that fail or report success too early, and damaged sources."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


FRAME_BYTES = 192 * 128 * 3  # 4:2:0, 10 bits


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"head -c {FRAME_BYTES * 3} >/dev/null; echo 'encoder: boom' >&2; exit 3", r"exit code 3\): encoder: boom"),
        ("echo 'no such encoder' >&2; exit 1", r"exit code 1\): no such encoder"),
        (
            f"head -c {FRAME_BYTES * 3} >/dev/null; exit 0",
            r"stopped before its input ended \(exit code 0\)|the trial is not",
        ),
        ("cat >/dev/null; exit 0", r"reported success, but the trial is not complete"),
        (
            f'head -c {FRAME_BYTES * 4 + 900} | "$real" "$@"; cat >/dev/null; exit 0',
            r"part 0 holds \d frames instead of 8",
        ),
        ("head -c 5000 >/dev/null; kill -9 $$", r"ended by SIGKILL"),
    ],
)
def test_an_encoder_that_fails_is_quoted_and_its_part_does_not_count(
    clip: Make, upscaled: Upscaled, fake_ffmpeg: Callable[[str], str], tmp_path: Path, script: str, message: str
) -> None:
    with pytest.raises(FfmpegError, match=message):
        upscaled(clip("in.mkv", "-c:v", "ffv1", frames=16), tmp_path / "out.mp4", ffmpeg=fake_ffmpeg(script))
    assert list((tmp_path / "out.mp4.iconvsr").glob("part_??????.mov")) == []
    assert not (tmp_path / "out.mp4").exists()


@pytest.fixture
def damaged(clip: Make, tmp_path: Path) -> Path:
    """A video of 30 intra frames with noise written over some in the middle."""
    content = bytearray(clip("whole.mkv", "-c:v", "libx264", "-g", "5", "-bf", "0", frames=30).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = random.Random(3).randbytes(300)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    return path


def test_damaged_frames_are_counted_and_strict_refuses_them(damaged: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    summary = upscaled(damaged, tmp_path / "out.mkv")
    assert len(summary.warnings) == 1
    assert "frame(s)" in summary.warnings[0]
    assert " s" in summary.warnings[0]
    assert probe(tmp_path / "out.mkv").num_frames == probe(damaged).num_frames
    with pytest.raises(SourceError, match=r"frame\(s\).*leave out --strict to accept that"):
        upscaled(damaged, tmp_path / "strict.mkv", strict=True)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "webm"])
def test_a_cut_off_file_gives_the_frames_that_are_there(
    clip: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    whole = clip(f"whole.{suffix}", "-c:v", "libvpx" if suffix == "webm" else "libx264", frames=30, size="128x96")
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    summary = upscaled(cut, tmp_path / "out.mkv")
    assert 5 <= summary.frames < 30
