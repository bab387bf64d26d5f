import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.media.container import exact
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError
from ffmpeg_filter.media.timestamps import DiscontinuityError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]

# File names that mean something else to a shell, to ffmpeg, to PyAV or to a terminal.
# fmt: off
HOSTILE_NAMES = [
    "-weird.mkv", "-i.mkv", "a:b.mkv", "concat:x|y.mkv", "http:foo.mkv", "pipe:1.mkv", "data:x.mkv", "file:z.mkv",
    "%04d.mkv", "[a-z]*.mkv", " leading.mkv", "trailing .mkv", "new\nline.mkv", "it's \"quoted\".mkv", "$(id).mkv",
    "back\\slash.mkv", "ünïcode 日本.mkv", "a;b&c|d.mkv", "~.mkv",
]
# fmt: on


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_file_name_is_treated_as_a_name_only(clip: Make, tmp_path: Path, name: str) -> None:
    hostile = tmp_path / name
    clip("plain.mkv", "-c:v", "libx264", frames=3).rename(hostile)
    source = probe(hostile)
    assert source.num_frames == 3
    assert len(list(decode_frames(source, 0, Damage()))) == 3


def test_a_file_name_that_is_not_unicode_works(clip: Make, tmp_path: Path) -> None:
    hostile = Path(str(tmp_path) + "/\udcff\udcfe.mkv")
    clip("plain.mkv", "-c:v", "libx264", frames=3).rename(hostile)
    assert probe(hostile).num_frames == 3


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile 'secret.mkv'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mkv\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://localhost:1/secret.ts\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["concat", "hls", "hls-http", "dash", "sdp"],
)
@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ffconcat", "video.m3u8"])
def test_a_playlist_is_not_followed(clip: Make, tmp_path: Path, script: str, name: str) -> None:
    clip("secret.mkv", "-c:v", "libx264", frames=2)
    (tmp_path / name).write_text(script)
    with pytest.raises(SourceError, match="cannot be read as such"):
        probe(tmp_path / name)


def test_the_video_is_the_default_one_and_no_cover(ffmpeg: Make, tmp_path: Path) -> None:
    del tmp_path
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=32x32:d=0.2", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.2")
    source = probe(
        ffmpeg("in.mkv", *inputs, "-map", "0", "-map", "1", "-c:v", "libx264", "-disposition:v:1", "default")
    )
    assert (source.video.index, source.video.width, source.video.height) == (1, 64, 48)
    assert [str(t) for t in source.tracks] == ["video 0 h264"]


def test_edit_lists_and_negative_starts_give_the_frames_that_are_shown(ffmpeg: Make, clip: Make) -> None:
    whole = clip("whole.mp4", "-c:v", "libx264", "-g", "5", "-bf", "2", frames=25)
    source = probe(ffmpeg("cut.mp4", "-ss", "0.3", "-i", whole, "-c", "copy"))
    damage = Damage()
    decoded = [p.index for p in decode_frames(source, 0, damage)]
    assert decoded == list(range(source.num_frames))
    assert source.num_frames < 25
    assert not damage


def test_timestamps_that_run_backwards_are_refused(clip: Make, tmp_path: Path) -> None:
    once = clip("once.ts", "-c:v", "libx264").read_bytes()
    (tmp_path / "twice.ts").write_bytes(once * 2)
    with pytest.raises(DiscontinuityError, match="timestamps jump backwards 1 time"):
        probe(tmp_path / "twice.ts")


def test_vp8_frames_that_are_never_shown_are_not_counted(clip: Make) -> None:
    hidden = ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10", "-b:v", "200k")
    source = probe(clip("in.webm", *hidden, frames=40))
    with av.open(str(source.path)) as container:
        assert source.num_frames == len(list(container.decode(video=0))) == 40


def test_interlacing_after_a_progressive_start_is_found(ffmpeg: Make) -> None:
    graph = "testsrc2=s=64x64:r=25:d=4,format=yuv420p,setfield=tff"
    coded = ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-f", "mpegts")
    interlaced = ffmpeg("b.ts", "-f", "lavfi", "-i", graph, *coded)
    progressive = ffmpeg(
        "a.ts", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=1,format=yuv420p", "-c:v", "mpeg2video", "-f", "mpegts"
    )
    both = ffmpeg("both.mkv", "-i", f"concat:{progressive}|{interlaced}", "-c", "copy")
    assert not probe(progressive).video.interlaced
    assert probe(both).video.interlaced


def test_frames_without_timestamps_have_a_remedy_that_works(clip: Make, ffmpeg: Make) -> None:
    early = ("-vf", "setpts=PTS-0.2/TB", "-fps_mode", "passthrough", "-avoid_negative_ts", "disabled")
    source = clip("in.mkv", "-c:v", "libx264", *early)  # Matroska's reader does not give times before 0
    with pytest.raises(SourceError, match=r"\d of 12 frames carry no timestamp; .* -map 0:v:0 -c copy OUT\.h264$"):
        probe(source)
    assert probe(ffmpeg("out.h264", "-i", source, "-map", "0:v:0", "-c", "copy")).num_frames == 12


def test_a_size_that_changes_later_is_found_by_the_samples(clip: Make, ffmpeg: Make) -> None:
    small = clip("a.ts", "-c:v", "mpeg2video", "-bf", "0", frames=40)
    large = clip("b.ts", "-c:v", "mpeg2video", "-bf", "0", frames=40, size="64x48")
    both = ffmpeg("both.mkv", "-i", f"concat:{small}|{large}", "-c", "copy")
    with pytest.raises(SourceError, match=r"expected 48x32 to the end, got 64x48 at [12]\.\d+ s; split the file there"):
        probe(both)


def test_unknown_ratios_are_zero() -> None:
    assert exact(None) == 0
    assert exact(Fraction(3, 2)) == Fraction(3, 2)


@pytest.mark.parametrize("cases", [100, pytest.param(3000, marks=[pytest.mark.long, pytest.mark.timeout(5000)])])
def test_broken_files_give_an_error_or_every_frame_but_never_hang(clip: Make, tmp_path: Path, cases: int) -> None:
    """Truncated and bit-flipped files: a clear error, or exactly as many pictures as the table says."""
    dice = random.Random(cases)
    wholes = [
        clip("a.mkv", "-c:v", "libx264", frames=20),
        clip("a.mp4", "-c:v", "libx264", "-movflags", "+faststart", frames=20),
        clip("a.ts", "-c:v", "mpeg2video", frames=20),
        clip("a.webm", "-c:v", "libvpx-vp9", frames=20),
        clip("a.avi", "-c:v", "mpeg4", frames=20),
    ]
    outcomes = set()
    for case in range(cases):
        whole = wholes[case % len(wholes)]
        content = bytearray(whole.read_bytes())
        if dice.random() < 0.4:
            content = content[: dice.randrange(1, len(content))]
        for _ in range(dice.randrange(12)):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        broken = tmp_path / f"broken{whole.suffix}"
        broken.write_bytes(content)
        try:
            source = probe(broken)
            shown = [p.index for p in decode_frames(source, 0, Damage())]
            assert shown == list(range(source.num_frames))
            outcomes.add("read")
        except SourceError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
