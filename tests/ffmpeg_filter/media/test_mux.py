from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.media import mux
from ffmpeg_filter.media.encode import container_options
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError, command_prefix, safe_url
from ffmpeg_filter.media.join import MuxError, PacketTable, join_parts, mux_joined
from ffmpeg_filter.media.mapping import stream_mapping
from ffmpeg_filter.media.orientation import check_orientation
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


@pytest.fixture
def joined(executable: Executable, tmp_path: Path) -> Callable[..., Path]:
    """joined(parts, pts, 999, "video.mp4"): the parts in one file, by ffmpeg."""

    def make(parts: list[Path], pts: list[int], last_duration: int, name: str) -> Path:
        base = Fraction(1, 90000)
        video = join_parts(parts, pts, last_duration, base)
        options = container_options(name[-3:], base)
        command = [*command_prefix(executable), "-copyts", *video.input_options(), "-c", "copy", *options]
        mux_joined([*command, safe_url(tmp_path / name)], video)
        return tmp_path / name

    return make


@pytest.mark.parametrize("first", [100, 0, (1 << 33) + 5])
@pytest.mark.parametrize("name", ["video.mp4", "video.mov", "video.mkv"])
def test_joined_parts_have_the_timestamps_of_the_table(
    parts: list[Path], joined: Callable[..., Path], name: str, first: int
) -> None:
    pts = [first + n * 3003 + n % 4 * 700 for n in range(20)]
    with av.open(str(joined(parts, pts, 999, name))) as container:
        stream = container.streams.video[0]
        stamps = [p.pts * Fraction(stream.time_base) for p in container.demux(stream) if p.size and p.pts is not None]
    wrong = max(abs(a - b * Fraction(1, 90000)) for a, b in zip(sorted(stamps), pts, strict=True))
    assert wrong <= (Fraction(1, 2000) if name.endswith("mkv") else 0)


@pytest.mark.parametrize(
    ("coded", "part", "name"),
    [
        (("-c:v", "prores_ks", "-profile:v", "3", "-pix_fmt", "yuv422p10le"), "mov", "video.mov"),
        (("-c:v", "prores_ks", "-profile:v", "3", "-pix_fmt", "yuv422p10le"), "mov", "video.mkv"),
        (("-c:v", "ffv1", "-color_range", "pc"), "mkv", "video.mkv"),
    ],
)
def test_every_frame_of_joined_parts_is_decoded_as_it_was(
    clip: Make, joined: Callable[..., Path], coded: tuple[str, ...], part: str, name: str
) -> None:
    parts = [clip(f"p{i}.{part}", *coded, frames=n) for i, n in enumerate((3, 1, 4))]
    separate = [picture for path in parts for picture in decoded(path)]
    assert decoded(joined(parts, list(range(0, 8 * 3600, 3600)), 3600, name)) == separate


def decoded(path: Path) -> list[tuple[str, int, bytes]]:
    with av.open(str(path)) as container:
        return [(f.format.name, int(f.color_range), bytes(f.planes[0])) for f in container.decode(video=0)]


def test_the_last_frame_is_shown(parts: list[Path], joined: Callable[..., Path]) -> None:
    pts = [100 + n * 3003 for n in range(20)]
    with av.open(str(joined(parts, pts, 999, "video.mov"))) as container:
        assert [frame.pts for frame in container.decode(video=0)] == pts  # an edit list that is too short would cut it


def test_a_muxer_that_fails_is_quoted(parts: list[Path], executable: Executable) -> None:
    video = join_parts(parts, list(range(20)), 1, Fraction(1, 25))
    with pytest.raises(FfmpegError, match="no_such_muxer"):
        mux_joined(
            [*command_prefix(executable), *video.input_options(), "-c", "copy", "-f", "no_such_muxer", "-"], video
        )
    with pytest.raises(FfmpegError, match=r"disk full: .*; finished parts are kept"):
        mux_joined([*command_prefix(executable), *video.input_options(), "-c", "copy", "-f", "mov", "/dev/full"], video)


def test_parts_that_lack_a_frame_are_not_joined(parts: list[Path]) -> None:
    with pytest.raises(MuxError, match="expected 21 frames together, got 20"):
        join_parts(parts, list(range(21)), 1, Fraction(1, 25))


def test_parts_of_different_encoders_are_not_joined(parts: list[Path], clip: Make) -> None:
    other = clip("other.mov", "-c:v", "libx264", "-profile:v", "baseline", frames=12)
    with pytest.raises(MuxError, match=r"other\.mov: its codec header differs from that of p0\.mov"):
        join_parts([*parts[:2], other], list(range(20)), 1, Fraction(1, 25))


def test_a_part_that_cannot_be_read_is_named(parts: list[Path]) -> None:
    parts[1].write_bytes(b"nothing")
    with pytest.raises(MuxError, match=r"p1\.mov: cannot be read back"):
        join_parts(parts, list(range(20)), 1, Fraction(1, 25))


@pytest.fixture
def with_tracks(clip: Make) -> Callable[..., MediaSource]:
    def make(*tracks: Track) -> MediaSource:
        return replace(probe(clip("in.mkv", "-c:v", "libx264", frames=2)), tracks=tracks)

    return make


def test_styled_subtitles_that_lose_their_styles_are_named(with_tracks: Callable[..., MediaSource]) -> None:
    kept = stream_mapping(with_tracks(Track(2, "subtitle", "ass")), "mp4")
    assert kept.changed == ("subtitle 2 ass: stored as mov_text, styles are lost",)
    assert stream_mapping(with_tracks(Track(2, "subtitle", "ass")), "mkv").changed == ()


def test_other_videos_and_the_unknown_stay_behind_by_name(with_tracks: Callable[..., MediaSource]) -> None:
    kept = stream_mapping(with_tracks(Track(1, "video", "h264"), Track(2, "what", "unknown")), "mkv")
    assert kept.left == (
        "video 1 h264: only one video stream is upscaled",
        "what 2 unknown: ffmpeg does not recognize it",
    )


def test_an_old_ffmpeg_that_cannot_write_the_rotation_is_refused(
    with_tracks: Callable[..., MediaSource], executable: Executable
) -> None:
    upright = with_tracks()
    turned = replace(upright, video=replace(upright.video, rotation=90))
    old = replace(executable, version="5.1.9", options=executable.options - {"display_rotation"})
    check_orientation(turned.video.orientation, "mp4", old)
    check_orientation(turned.video.orientation, "mkv", executable)
    with pytest.raises(ValueError, match=r"ffmpeg 5\.1\.9 cannot say in \.mkv .* turned by 90°; name the output \.mp4"):
        check_orientation(turned.video.orientation, "mkv", old)


def test_an_output_that_lacks_a_frame_is_refused(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", frames=5))
    short = clip("short.mkv", "-c:v", "libx264", frames=4)
    keep = stream_mapping(source, "mkv")
    with pytest.raises(MuxError, match="output: expected 5 frames, got 4"):
        mux.check_output(short, source, keep, "mkv", range(5), 48, 32)


def test_another_pixel_aspect_ratio_in_the_output_is_a_warning(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", "-vf", "setsar=2"))
    flat = probe(clip("flat.mkv", "-c:v", "libx264", "-vf", "setsar=1"))
    keep = stream_mapping(source, "mkv")
    assert mux.check_output(source.path, source, keep, "mkv", range(12), 48, 32) == []
    assert mux.check_output(flat.path, source, keep, "mkv", range(12), 48, 32) == [
        "output: expected a pixel aspect ratio of 2, got 1"
    ]


def test_an_output_with_other_timestamps_is_refused(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", frames=5))
    fast = clip("fast.mkv", "-c:v", "libx264", frames=5, rate="26")
    with pytest.raises(MuxError, match=r"expected the source's timestamps, got some that are off by \d+ µs"):
        mux.check_output(fast, source, stream_mapping(source, "mkv"), "mkv", range(5), 48, 32)
