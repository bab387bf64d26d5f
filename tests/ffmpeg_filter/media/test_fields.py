"""Field order and pulldown are seen in the frames, whatever their flags say."""

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.prepare import prepare_job
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.fields import FieldFinding, examine_fields
from ffmpeg_filter.media.images import probe_images
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
MOVING = "testsrc2=s=96x80:r=50,format=yuv420p"
SETTINGS = Settings(segment=4, context=2, device="cpu", threads=1)


@pytest.fixture
def interlaced(ffmpeg: Make) -> Make:
    """interlaced("in.mkv", shot="top", flag="tff"): fields of a moving picture, flagged with an order."""

    def make(name: str, *, shot: str, flag: str) -> Path:
        fields = f"{MOVING},tinterlace=interleave_{shot},setfield={flag}"
        return ffmpeg(name, "-f", "lavfi", "-i", fields, "-frames:v", "40", "-c:v", "ffv1")

    return make


@pytest.fixture
def telecined(ffmpeg: Make) -> Path:
    film = "testsrc2=s=96x80:r=24000/1001,format=yuv420p,telecine=pattern=23,setfield=tff"
    return ffmpeg("film.mkv", "-f", "lavfi", "-i", film, "-frames:v", "60", "-c:v", "ffv1")


@pytest.mark.parametrize("flag", ["tff", "bff"])
@pytest.mark.parametrize(("shot", "order"), [("top", "tff"), ("bottom", "bff")])
def test_the_order_is_that_in_which_the_fields_were_shot(interlaced: Make, shot: str, order: str, flag: str) -> None:
    assert examine_fields(probe(interlaced("in.mkv", shot=shot, flag=flag))) == FieldFinding(order, pulldown=False)


def test_still_and_progressive_frames_are_taken_as_flagged(ffmpeg: Make) -> None:
    still = ffmpeg(
        "still.mkv", "-f", "lavfi", "-i", "color=gray:s=96x80,setfield=bff", "-frames:v", "20", "-c:v", "ffv1"
    )
    film = "testsrc2=s=96x80:r=25,format=yuv420p,setfield=tff"
    progressive = ffmpeg("film.mkv", "-f", "lavfi", "-i", film, "-frames:v", "60", "-c:v", "ffv1")
    for path in (still, progressive):
        assert examine_fields(probe(path)) == FieldFinding("auto", pulldown=False)


def test_a_wrong_flag_is_noted_and_costs_no_quality(interlaced: Make, tiny_model: Path, tmp_path: Path) -> None:
    honest, lying = interlaced("a.mkv", shot="top", flag="tff"), interlaced("b.mkv", shot="top", flag="bff")
    notes = {}
    for path in (honest, lying):
        job = JobOptions(path, tmp_path / "out.mkv", str(tiny_model), SETTINGS, deinterlace=True)
        prepared = prepare_job(job, probe(path))
        notes[path] = [note for note in prepared.notes if note.startswith("fields: ")]
        assert prepared.parity == "tff"
        assert prepared.manifest.settings["deinterlace"] == "tff"
    assert notes == {
        honest: [],
        lying: [
            "fields: flagged as bottom field first, but the frames are top field first; deinterlaced in that order"
        ],
    }

    def luma(path: Path, parity: str) -> np.ndarray:
        frames = decode_frames(probe(path), 0, Damage(), parity=parity)
        return np.stack([frame.planes[0].numpy() for frame in frames])

    assert np.array_equal(luma(lying, "tff"), luma(honest, "auto"))
    assert not np.array_equal(luma(lying, "auto"), luma(honest, "auto"))


def test_the_finished_file_is_the_same_whatever_the_flag_says(
    interlaced: Make, tiny_model: Path, tmp_path: Path
) -> None:
    made = []
    for flag in ("tff", "bff"):
        source = interlaced("in.mkv", shot="bottom", flag=flag)
        job = JobOptions(source, tmp_path / f"{flag}.mkv", str(tiny_model), SETTINGS, encoder="ffv1", deinterlace=True)
        run_job(replace(job, duration_s=0.3), PlainProgress(io.StringIO()), threading.Event())
        made.append(decode(job.output))
    assert np.array_equal(*made)


def decode(path: Path) -> np.ndarray:
    return np.stack([frame.planes[0].numpy() for frame in decode_frames(probe(path), 0, Damage())])


def test_pulldown_is_named_with_the_remedy(telecined: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert examine_fields(probe(telecined)).pulldown
    job = JobOptions(telecined, tmp_path / "out.mkv", str(tiny_model), SETTINGS)
    with pytest.raises(SourceError, match=r"got interlaced: .*--deinterlace.*3:2 pulldown.*better: --ivtc"):
        prepare_job(job, probe(telecined))
    notes = prepare_job(replace(job, deinterlace=True), probe(telecined)).notes
    assert [note for note in notes if "3:2 pulldown (telecine)" in note]


def test_images_are_not_deinterlaced(ffmpeg: Make, tiny_model: Path, tmp_path: Path) -> None:
    ffmpeg("i_%02d.png", "-f", "lavfi", "-i", MOVING, "-frames:v", "3")
    job = JobOptions(tmp_path / "i_%02d.png", tmp_path / "out.mkv", str(tiny_model), SETTINGS, deinterlace=True)
    with pytest.raises(ValueError, match="deinterlace, ivtc: expected a video, got images; leave it out"):
        prepare_job(job, probe_images(job.input, Fraction(25)))
