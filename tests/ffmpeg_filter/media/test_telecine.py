"""The frames of film come back from its telecined form, each at its time, wherever a reader starts."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ffmpeg_filter.media import decode, telecine
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError, Timeline

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]

MOVING = "testsrc2=s=96x80:r=24000/1001,format=yuv420p"
NOISY = f"{MOVING},noise=alls=20:allf=t:all_seed=1"
LOSSY = ("-c:v", "mpeg2video", "-q:v", "5", "-flags", "+ildct+ilme", "-bf", "2", "-g", "7")
FRAME = Fraction(1001, 24000)


@pytest.fixture
def telecined(ffmpeg: Make) -> Callable[..., MediaSource]:
    """telecined(phase, frames=…): film in its telecined form, of which the first `phase` frames are cut off."""

    def make(phase: int = 0, *codec: str, frames: int = 50, film: str = MOVING, name: str = "in.nut") -> MediaSource:
        pulldown = f"telecine=pattern=23,trim=start_frame={phase},settb=1001/30000,setpts=N,fps=30000/1001,setfield=tff"
        given = ("-f", "lavfi", "-i", f"{film},{pulldown}", "-fps_mode", "passthrough", "-frames:v", str(frames))
        return probe(ffmpeg(name, *given, *(codec or ("-c:v", "ffv1"))))

    return make


def luma(source: MediaSource, first: int = 0) -> list[np.ndarray]:
    return [frame.planes[0].numpy() for frame in decode_frames(source, first, Damage())]


@pytest.mark.parametrize(("phase", "order"), [(0, "tff"), (1, "tff"), (2, "auto"), (3, "tff"), (4, "auto")])
def test_the_film_comes_back_in_each_phase(telecined: Make, ffmpeg: Make, phase: int, order: str) -> None:
    original = luma(probe(ffmpeg("film.nut", "-f", "lavfi", "-i", MOVING, "-frames:v", "50", "-c:v", "ffv1")))
    found = luma(telecine.film_of(telecined(phase), order))
    assert len(found) == 40
    first = (0, 1, 2, 2, 3)[phase]
    # In the fourth phase only one field of the first frame is left, woven with the next one.
    whole = slice(1 if phase == 3 else 0, 40)
    assert np.array_equal(found[whole], original[first : first + 40][whole])


@pytest.mark.parametrize("rest", range(1, 5))
def test_no_frame_of_a_last_shorter_cycle_is_lost(telecined: Make, ffmpeg: Make, rest: int) -> None:
    stored = telecined(frames=10 + rest)
    film = telecine.film_of(stored, "tff")
    original = luma(probe(ffmpeg("film.nut", "-f", "lavfi", "-i", MOVING, "-frames:v", "12", "-c:v", "ffv1")))
    found = luma(film)
    assert len(found) == film.num_frames == 8 + rest
    assert all(any(np.array_equal(frame, shown) for shown in found) for frame in original[: 8 + (1, 2, 2, 3)[rest - 1]])
    assert film.timeline.seconds == pytest.approx(stored.timeline.seconds)


@pytest.mark.parametrize(("phase", "codec"), [(0, LOSSY), (3, LOSSY), (3, ("-c:v", "ffv1"))])
def test_a_reader_that_starts_anywhere_gives_the_same_frames(
    telecined: Make, phase: int, codec: tuple[str, ...]
) -> None:
    film = telecine.film_of(telecined(phase, *codec, frames=33, film=NOISY, name="in.mkv"), "tff")
    whole = luma(film)
    for first in range(len(whole)):
        assert np.array_equal(luma(film, first), whole[first:]), first


def test_packed_frames_are_unpacked_and_colors_kept(telecined: Make) -> None:
    tagged = f"{MOVING},format=uyvy422,setparams=colorspace=smpte170m:color_primaries=smpte170m:range=tv"
    packed = telecined(0, "-c:v", "rawvideo", film=tagged, frames=10)
    film = telecine.film_of(packed, "tff")
    (frame,) = itertools.islice(decode_frames(film, 4, Damage()), 1)
    (stored,) = itertools.islice(decode_frames(packed, 5, Damage(), ignore_interlaced=True), 1)
    assert packed.video.pixel_format == "uyvy422"
    assert frame.properties == stored.properties
    assert all(np.array_equal(a, b) for a, b in zip(frame.planes, stored.planes, strict=True))


def test_damage_is_counted_in_frames_of_film(telecined: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = telecined(frames=20)
    whole = decode._indexed_frames

    def gappy(*arguments: object) -> object:
        return ((n, frame) for n, frame in whole(*arguments) if n not in (7, 14))  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "_indexed_frames", gappy)
    damage = Damage()
    assert len(list(decode_frames(telecine.film_of(stored, "tff"), 0, damage))) == 16
    assert damage == Damage([], [6, 11])


# ---- times ----


def test_film_is_shown_at_its_own_rate() -> None:
    stored = Timeline(Fraction(1001, 30000), tuple(range(100, 111)), 1)
    film = telecine.film_timeline(stored)
    times = [pts * film.time_base for pts in film.pts]
    assert [b - a for a, b in itertools.pairwise(times[:9])] == [FRAME] * 8
    assert times[0] == 100 * stored.time_base
    assert (times[8], film.seconds) == (110 * stored.time_base, stored.seconds)


def test_a_pause_stays_where_it_is() -> None:
    stored = Timeline(Fraction(1, 30), (0, 1, 2, 3, 4, 5, 6, 107, 108, 109), 1)
    film = telecine.film_timeline(stored)
    assert [float(pts * film.time_base * 30) for pts in film.pts] == [0, 1.25, 2.5, 3.75, 5, 31.25, 107.5, 108.75]
    assert film.seconds == stored.seconds


# ---- refusals ----


@pytest.mark.parametrize(
    ("vf", "rate", "message"),
    [
        ("setfield=tff", "25", r"telecined video, 29\.97 frames a second, got 25: .*in\.nut; leave out --ivtc"),
        ("select=mod(n\\,5)", "30", r"got 30 and a rate that varies \(78% of the frames at 29\.97\)"),
        ("null", "30000/1001", "expected telecined video, got progressive frames"),
        ("format=yuv422p10,setfield=tff", "30", r"YUV of 8 bits .*got yuv422p10le: .*format=yuv422p -c:v ffv1"),
        ("format=yuvj420p,setfield=tff", "30", r"got yuvj420p: .*format=yuv420p"),
    ],
)
def test_what_cannot_be_telecined_film_is_refused(ffmpeg: Make, vf: str, rate: str, message: str) -> None:
    clip = ("-f", "lavfi", "-i", f"testsrc2=s=96x80:r={rate},format=yuv420p,{vf}", "-frames:v", "18")
    codec = "mjpeg" if "yuvj" in vf else "ffv1"
    source = probe(ffmpeg("in.nut", *clip, "-fps_mode", "passthrough", "-c:v", codec))
    with pytest.raises(SourceError, match=message):
        telecine.check_telecined(source, interlaced="setfield" in vf)
