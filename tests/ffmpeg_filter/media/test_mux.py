from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.media import mux
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.join import MuxError, PacketTable, join_parts
from ffmpeg_filter.media.mux import check_rotation
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, Track

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
CODED = ("-c:v", "libx264", "-bf", "3", "-preset", "ultrafast", "-x264-params", "b-adapt=0:bframes=3")


def test_ranks_are_places_in_presentation_order() -> None:
    assert PacketTable((0, 4, 2, 1, 3), None).ranks() == [0, 4, 2, 1, 3]
    assert PacketTable((7,), None).ranks() == [0]


@pytest.fixture
def parts(clip: Make) -> list[Path]:
    return [clip(f"p{i}.mov", *CODED, frames=n) for i, n in enumerate((7, 1, 12))]


def test_joined_parts_have_the_timestamps_of_the_table(parts: list[Path], tmp_path: Path) -> None:
    pts = [100 + n * 3003 + n % 4 * 700 for n in range(20)]
    join_parts(parts, pts, 999, Fraction(1, 90000), tmp_path / "video.mov")
    joined = probe(tmp_path / "video.mov")
    assert joined.timeline.time_base == Fraction(1, 90000)
    assert list(joined.timeline.pts) == pts
    with av.open(str(tmp_path / "video.mov")) as container:  # an edit list that is too short would cut the last one
        assert [frame.pts for frame in container.decode(video=0)] == pts


def test_parts_that_lack_a_frame_are_not_joined(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MuxError, match="expected 21 frames together, got 20"):
        join_parts(parts, list(range(21)), 1, Fraction(1, 25), tmp_path / "video.mov")


def test_parts_of_different_encoders_are_not_joined(parts: list[Path], clip: Make, tmp_path: Path) -> None:
    other = clip("other.mov", "-c:v", "libx264", "-profile:v", "baseline", frames=12)
    with pytest.raises(MuxError, match=r"other\.mov: its codec header differs from that of p0\.mov"):
        join_parts([*parts[:2], other], list(range(20)), 1, Fraction(1, 25), tmp_path / "video.mov")


def test_a_part_that_cannot_be_read_is_named(parts: list[Path], tmp_path: Path) -> None:
    parts[1].write_bytes(b"nothing")
    with pytest.raises(MuxError, match=r"p1\.mov: cannot be read back"):
        join_parts(parts, list(range(20)), 1, Fraction(1, 25), tmp_path / "video.mov")


@pytest.fixture
def with_tracks(clip: Make) -> Callable[..., MediaSource]:
    def make(*tracks: Track) -> MediaSource:
        return replace(probe(clip("in.mkv", "-c:v", "libx264", frames=2)), tracks=tracks)

    return make


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_bitmap_subtitles_stay_behind_by_name(with_tracks: Callable[..., MediaSource], container: str) -> None:
    source = with_tracks(Track(2, "subtitle", "hdmv_pgs_subtitle", "eng"), Track(3, "subtitle", "subrip"))
    kept = mux.stream_mapping(source, container)
    assert kept.left == (f"subtitle 2 hdmv_pgs_subtitle eng: .{container} holds text subtitles only; .mkv keeps it",)
    assert [(t.index, codec) for t, codec in kept.subtitles] == [(3, "mov_text")]


def test_styled_subtitles_that_lose_their_styles_are_named(with_tracks: Callable[..., MediaSource]) -> None:
    kept = mux.stream_mapping(with_tracks(Track(2, "subtitle", "ass")), "mp4")
    assert kept.changed == ("subtitle 2 ass: stored as mov_text, styles are lost",)
    assert mux.stream_mapping(with_tracks(Track(2, "subtitle", "ass")), "mkv").changed == ()


def test_other_videos_and_data_stay_behind_by_name(with_tracks: Callable[..., MediaSource]) -> None:
    kept = mux.stream_mapping(with_tracks(Track(1, "video", "h264"), Track(2, "data", "klv")), "mkv")
    assert kept.left == (
        "video 1 h264: only one video stream is upscaled",
        "data 2 klv: a data stream, which ffmpeg cannot copy into .mkv",
    )


def test_an_old_ffmpeg_that_cannot_write_the_rotation_is_refused(
    with_tracks: Callable[..., MediaSource], executable: Executable
) -> None:
    upright = with_tracks()
    turned = replace(upright, video=replace(upright.video, rotation=90))
    old = replace(executable, version="5.1.9", options=executable.options - {"display_rotation"})
    check_rotation(turned, "mp4", old)
    check_rotation(turned, "mkv", executable)
    with pytest.raises(ValueError, match=r"ffmpeg 5\.1\.9 cannot say in \.mkv .* turned by 90°; name the output \.mp4"):
        check_rotation(turned, "mkv", old)


def test_an_output_that_lacks_a_frame_is_refused(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", frames=5))
    short = clip("short.mkv", "-c:v", "libx264", frames=4)
    keep = mux.stream_mapping(source, "mkv")
    with pytest.raises(MuxError, match="output: expected 5 frames, got 4"):
        mux.check_output(short, source, keep, "mkv", range(5), 48, 32)


def test_another_pixel_aspect_ratio_in_the_output_is_a_warning(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", "-vf", "setsar=2"))
    flat = probe(clip("flat.mkv", "-c:v", "libx264", "-vf", "setsar=1"))
    keep = mux.stream_mapping(source, "mkv")
    assert mux.check_output(source.path, source, keep, "mkv", range(12), 48, 32) == []
    assert mux.check_output(flat.path, source, keep, "mkv", range(12), 48, 32) == [
        "output: expected a pixel aspect ratio of 2, got 1"
    ]


def test_an_output_with_other_timestamps_is_refused(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", frames=5))
    fast = clip("fast.mkv", "-c:v", "libx264", frames=5, rate="26")
    with pytest.raises(MuxError, match=r"expected the source's timestamps, got some that are off by \d+ µs"):
        mux.check_output(fast, source, mux.stream_mapping(source, "mkv"), "mkv", range(5), 48, 32)
