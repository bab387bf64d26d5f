"""--ivtc through whole jobs: the film that was telecined, with its sound, also after kills."""

import hashlib
import itertools
import shlex
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from ffmpeg_filter.job import verify
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import JournalError
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.scene_list import SceneList
from tests.ffmpeg_filter.conftest import SMALL
from tests.ffmpeg_filter.job.group_leader import GroupLeader
from tests.ffmpeg_filter.job.test_killed import StopAfter

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]

FILM = "testsrc=s=64x48:r=24000/1001,format=yuv420p"
FRAMES = 24
ENCODED = ("-frames:v", str(FRAMES), "-c:v", "libx264", "-qp", "0", "-g", "9")


@pytest.fixture
def film(ffmpeg: Make) -> Path:
    return ffmpeg("film.mp4", "-f", "lavfi", "-i", FILM, *ENCODED)


@pytest.fixture
def telecined(ffmpeg: Make, tmp_path: Path) -> Path:
    """The film in 30000/1001 fps, with sound that does not begin with it, and with subtitles."""
    pulldown = (
        f"{FILM},trim=end_frame={FRAMES},telecine=pattern=23,settb=1001/30000,setpts=N,fps=30000/1001,setfield=tff"
    )
    (tmp_path / "words.srt").write_text("1\n00:00:00,300 --> 00:00:00,600\nin time\n")
    inputs = ("-f", "lavfi", "-i", pulldown, "-itsoffset", "0.25", "-f", "lavfi", "-i", "sine=d=0.7", "-i", "words.srt")
    video = ("-c:v", "libx264", "-qp", "0", "-g", "9", "-flags", "+ildct+ilme", "-frames:v", str(FRAMES * 5 // 4))
    return ffmpeg("telecined.mp4", *inputs, *video, "-c:a", "aac", "-c:s", "mov_text")


def planes(path: Path) -> list[bytes]:
    """Of every frame."""
    decoded = decode_frames(probe(path), 0, Damage())
    return [b"".join(plane.numpy().tobytes() for plane in frame.planes) for frame in decoded]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_telecined_film_gives_what_the_film_gives_and_keeps_its_sound(
    film: Path,
    telecined: Path,
    upscaled: Upscaled,
    packet_times: Callable[[Path, str], Sequence[Sequence[float]]],
    tmp_path: Path,
) -> None:
    upscaled(film, tmp_path / "film_out.mkv", encoder="ffv1", speed=None)
    summary = upscaled(telecined, tmp_path / "out.mkv", encoder="ffv1", speed=None, ivtc=True)
    assert summary.frames == FRAMES
    assert summary.kept[0] == "24 frames of film, evenly over the time of those with 3:2 pulldown"
    assert planes(tmp_path / "out.mkv") == planes(tmp_path / "film_out.mkv")
    upscaled(telecined, tmp_path / "out.mp4", ivtc=True)
    for kind in ("audio", "subtitles"):
        (times,), (before,) = packet_times(tmp_path / "out.mp4", kind), packet_times(telecined, kind)
        assert times == pytest.approx(before, abs=1e-4), kind
    after, stored = probe(tmp_path / "out.mp4").timeline, probe(telecined).timeline
    times = [pts * after.time_base for pts in after.pts]
    assert {b - a for a, b in itertools.pairwise(times)} == {Fraction(1001, 24000)}
    assert times[0] == stored.pts[0] * stored.time_base


def test_a_preview_is_cut_from_the_film(film: Path, telecined: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    for source, name, ivtc in ((film, "film_out.mkv", False), (telecined, "out.mkv", True)):
        part = {"start_s": 0.5, "duration_s": 0.3}
        assert upscaled(source, tmp_path / name, encoder="ffv1", speed=None, ivtc=ivtc, **part).frames == 8
    assert planes(tmp_path / "out.mkv") == planes(tmp_path / "film_out.mkv")


def test_an_interrupted_job_ends_with_the_file_of_an_undisturbed_one(
    telecined: Path, upscaled: Upscaled, tiny_model: Path, tmp_path: Path
) -> None:
    output, part = tmp_path / "out.mkv", {"duration_s": 0.6, "encoder": "ffv1", "speed": None}
    upscaled(telecined, tmp_path / "undisturbed.mkv", ivtc=True, **part)
    job = JobOptions(
        telecined, output, str(tiny_model), SMALL, encoder="ffv1", duration_s=0.6, part_frames=8, ivtc=True
    )
    stop = threading.Event()
    with pytest.raises(Interrupted):
        run_job(job, StopAfter(11, stop), stop)
    with pytest.raises(JournalError, match=r"settings frames: the parts have .* this run has"):
        upscaled(telecined, output, ignore_interlaced=True, **part)
    assert upscaled(telecined, output, ivtc=True, **part).upscaled == 7
    assert sha(output) == sha(tmp_path / "undisturbed.mkv")


@pytest.mark.long
def test_a_job_killed_again_and_again_ends_with_the_file_of_an_undisturbed_one(
    telecined: Path, upscaled: Upscaled, tiny_model: Path, tmp_path: Path
) -> None:
    upscaled(telecined, tmp_path / "undisturbed.mp4", ivtc=True)
    output = tmp_path / "out.mp4"
    fixed = "--ivtc --device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --part-frames 8 --encoders 1"
    words = ["upscale", str(telecined), str(output), "--model", str(tiny_model), *shlex.split(fixed)]
    kills = 0
    for count in itertools.count(1):
        leader = GroupLeader(words)
        while leader.ended(0.02) is None:
            if len(list(output.with_name("out.mp4.iconvsr").glob("part_??????.mov"))) >= count:
                break
        if leader.ended(0) == 0:
            break
        leader.kill()
        kills += 1
    assert kills >= 2
    assert sha(output) == sha(tmp_path / "undisturbed.mp4")


def test_ivtc_excludes_what_treats_fields_otherwise() -> None:
    names = Path("a.mkv"), Path("b.mkv")
    with pytest.raises(ValueError, match=r"ivtc: expected alone, got it with --deinterlace; pass --ivtc for film"):
        JobOptions(*names, ivtc=True, deinterlace=True)
    with pytest.raises(ValueError, match="ivtc: expected alone, got it with --ignore-interlaced"):
        JobOptions(*names, ivtc=True, ignore_interlaced=True)
    with pytest.raises(ValueError, match=r"ivtc: expected without a list of cuts.*--scenes"):
        JobOptions(*names, ivtc=True, scenes=SceneList("cuts.txt", (0, 4)))


def test_film_cannot_be_compared_with_the_stored_frames(telecined: Path) -> None:
    with pytest.raises(ValueError, match=r"verify: expected the source's own frames, got those of film \(--ivtc\)"):
        verify.check(JobOptions(telecined, Path("b.mkv"), ivtc=True))
