"""What goes along with the upscaled video: sound, subtitles, chapters, covers, rotation, HDR metadata."""

import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.stream import Disposition
from hypothesis import given

from ffmpeg_filter.job.execute import damage_warnings
from ffmpeg_filter.job.finalize import JobSummary, finish_earlier_run
from ffmpeg_filter.job.journal import Journal, JournalError
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.media import mux
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import Orientation
from tests.ffmpeg_filter.job.json_values import changed

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


@pytest.fixture
def rich(ffmpeg: Make, tmp_path: Path) -> Make:
    """A clip with two audio tracks, two subtitle tracks, chapters, tags and, in mkv, an attachment and a cover."""

    def make(name: str) -> Path:
        (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nGrüße\n")
        (tmp_path / "font.ttf").write_bytes(b"no real font")
        (tmp_path / "m.txt").write_text(
            ';FFMETADATA1\ntitle=Ein "Titel"\\; mit \\= Zeichen ü\n'
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=eins\n"
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=zwei\n"
        )
        ffmpeg("cover.png", "-f", "lavfi", "-i", "color=red:s=16x16", "-frames:v", "1")
        mkv = name.endswith("mkv")
        subtitles = "srt" if mkv else "mov_text"
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p"]
        inputs += ["-f", "lavfi", "-i", "sine=f=300:d=0.48", "-f", "lavfi", "-i", "sine=f=500:d=0.48"]
        inputs += ["-i", "s.srt", "-i", "s.srt", "-i", "m.txt"]
        maps = ["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", "-map_metadata", "5"]
        if mkv:
            extra = ["-attach", "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font"]
            extra += ["-attach", "cover.png", "-metadata:s:t:1", "mimetype=image/png"]
        else:
            inputs += ["-i", "cover.png"]
            extra = ["-map", "6", "-c:v:1", "png", "-disposition:v:1", "attached_pic"]
        words = ["-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=eng", "-disposition:a:1", "default"]
        words += ["-disposition:a:0", "0", "-metadata:s:s:1", "language=fra", "-metadata:s:v:0", "language=ita"]
        return ffmpeg(
            name,
            *inputs,
            *maps,
            "-frames:v:0",
            "12",
            "-c:v:0",
            "libx264",
            "-c:a",
            "aac",
            "-c:s",
            subtitles,
            *extra,
            *words,
        )

    return make


def packets(path: Path, kind: str) -> list[list[bytes]]:
    with av.open(str(path)) as container:
        streams = list(getattr(container.streams, kind))
        found: list[list[bytes]] = [[] for _ in streams]
        for packet in container.demux(*streams):
            if packet.size:
                found[streams.index(packet.stream)].append(bytes(packet))
    return found


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_sound_is_copied_bit_for_bit(rich: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str) -> None:
    source = rich(name)
    upscaled(source, tmp_path / f"out.{suffix}")
    assert packets(tmp_path / f"out.{suffix}", "audio") == packets(source, "audio")
    assert len(packets(source, "audio")) == 2


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_everything_beside_the_video_is_kept_or_named(
    rich: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str
) -> None:
    source = rich(name)
    summary = upscaled(source, tmp_path / f"out.{suffix}")
    left = " ".join(summary.left)
    with av.open(str(source)) as before, av.open(str(tmp_path / f"out.{suffix}")) as after:
        german = "ger" if suffix == "mov" else "deu"  # QuickTime has codes of its own
        assert [s.metadata.get("language") for s in after.streams.audio] == [german, "eng"]
        assert [bool(s.disposition & Disposition.default) for s in after.streams.audio] == [False, True]
        assert [s.metadata.get("language") for s in after.streams.subtitles][1] == "fra"
        assert after.streams.video[0].metadata["language"] == "ita"
        assert after.metadata["title"] == 'Ein "Titel"; mit = Zeichen ü'
        assert [c["metadata"]["title"] for c in after.chapters()] == ["eins", "zwei"]
        assert [c["start"] * c["time_base"] for c in after.chapters()] == [0, Fraction(1, 5)]
        covers = [s for s in after.streams.video if s.disposition & Disposition.attached_pic]
        assert len(covers) == (0 if suffix == "mov" else 1)
        assert ("cover" in left) == (suffix == "mov")
        if name == "in.mkv":
            fonts = [s for s in after.streams if s.type == "attachment"]
            assert len(fonts) == (1 if suffix == "mkv" else 0)
            assert ("font.ttf" in left) == (suffix != "mkv")
        assert len(before.streams.audio) == 2


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_dry_run_names_what_will_be_kept_and_leaves_nothing_on_the_disk(
    rich: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    source = rich("in.mkv")
    output = tmp_path / f"out.{suffix}"
    planned = upscaled(source, output, dry_run=True)
    assert not output.exists()
    assert not output.with_name(output.name + ".iconvsr").exists()
    done = upscaled(source, output)
    assert (planned.kept, planned.left) == (done.kept, done.left)


def test_a_preview_names_the_chapters_that_it_leaves_out(rich: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    summary = upscaled(rich("in.mkv"), tmp_path / "out.mkv", duration_s=0.2, dry_run=True)
    assert "chapters (2): only part of the video is upscaled" in summary.left
    assert not any("chapter" in text for text in summary.kept)


def test_images_keep_frames_alone(rich: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    summary = upscaled(rich("in.mkv"), tmp_path / "out_%d.png", speed=None, dry_run=True)
    assert summary.kept == ("12 frames",)
    assert any("chapters" in text for text in summary.left)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_text_of_subtitles_survives_the_change_of_container(
    rich: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    upscaled(rich("in.mkv" if suffix == "mp4" else "in.mp4"), tmp_path / f"out.{suffix}")
    assert "Grüße".encode() in packets(tmp_path / f"out.{suffix}", "subtitles")[0][0]


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize(
    ("angle", "mirrored"), [(90, False), (180, False), (270, False), (0, True), (90, True), (180, True), (270, True)]
)
def test_orientation_is_written_back(
    clip: Make,
    ffmpeg: Make,
    executable: Executable,
    upscaled: Upscaled,
    tmp_path: Path,
    suffix: str,
    angle: int,
    mirrored: bool,
) -> None:
    if "display_rotation" not in executable.options:
        pytest.skip("wants an ffmpeg that can make a turned video")
    flat = clip("flat.mp4", "-c:v", "libx264", frames=3)
    turn = ("-display_rotation", str(angle), *(("-display_hflip",) if mirrored else ()))
    source = ffmpeg("in.mp4", *turn, "-i", flat, "-c", "copy")
    assert probe(source).video.orientation == Orientation(angle, mirrored)
    summary = upscaled(source, tmp_path / f"out.{suffix}")
    assert probe(tmp_path / f"out.{suffix}").video.orientation == Orientation(angle, mirrored)
    assert f"orientation: {Orientation(angle, mirrored)} by players" in summary.kept


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("encoder", ["x264", "x265"])
def test_hdr10_metadata_is_kept_or_named(
    clip: Make, executable: Executable, upscaled: Upscaled, tmp_path: Path, encoder: str, suffix: str
) -> None:
    light = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    hdr = ("-pix_fmt", "yuv420p10le", "-x265-params", f"log-level=none:master-display={light}:max-cll=1000,400")
    source = clip("in.mkv", "-c:v", "libx265", *hdr, size="96x64", frames=4)
    summary = upscaled(source, tmp_path / f"out.{suffix}", encoder=encoder)
    after = probe(tmp_path / f"out.{suffix}")
    if encoder == "x264" and "mastering_display" not in executable.options:
        assert any("HDR10 mastering metadata" in text for text in summary.left)
        return
    assert summary.left == ()
    assert (after.video.mastering_display, after.video.content_light) == (light, "1000,400")


def test_a_disk_without_room_for_the_output_ends_the_job_before_it_is_joined_and_keeps_the_parts(
    clip: Make, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = clip("in.mkv", "-c:v", "ffv1"), tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(JobError, match=r"disk full: expected \d+\.\d MiB for .* got 0\.0 MiB .*; make room"):
            upscaled(source, output)
    assert not (tmp_path / "out.mkv.part").exists()
    assert upscaled(source, output).upscaled == 0


def test_the_room_for_other_streams_is_counted(clip: Make, ffmpeg: Make) -> None:
    silent = clip("silent.mkv", "-c:v", "libx264", frames=12)
    loud = ffmpeg(
        "in.mkv", "-i", silent, "-f", "lavfi", "-i", "sine=d=0.48:r=48000", "-c:v", "copy", "-c:a", "pcm_s16le"
    )
    assert probe(silent).other_bytes == 0
    assert probe(loud).other_bytes == 48 * 480 * 2


def test_no_copy_of_the_video_lies_beside_the_parts_and_the_output(
    clip: Make, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    check = mux.check_output

    def measured(*arguments: Any) -> list[str]:
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob("out.mkv*/**/*") if path.is_file()))
        sizes.append((tmp_path / "out.mkv.part").stat().st_size)
        return check(*arguments)

    monkeypatch.setattr(mux, "check_output", measured)
    upscaled(clip("in.mkv", "-c:v", "ffv1", size="96x64", frames=24), tmp_path / "out.mkv", encoder="ffv1", speed=None)
    work, output = sizes
    assert work < 1.2 * output


# ---- whatever an earlier run's notes hold ----

FINISHED_NOTE = {"frames": 2, "size_bytes": 5, "kept": ["2 frames"], "left": [], "warnings": ["a"]}


@given(note=changed(FINISHED_NOTE) | changed({**FINISHED_NOTE, "images": [0, 2]}))
@pytest.mark.parametrize("name", ["out.mkv", "out_%d.png"])
def test_any_note_of_a_finished_job_is_that_of_this_output_or_refused_by_name(
    name: str, note: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("job")
    for output in (name, "out_0.png", "out_1.png"):
        (folder / output).write_bytes(b"whole")
    options = JobOptions(folder / "in.mkv", folder / name)
    with Journal(options.work, "mov").hold() as work:
        work.write_note("finished", note)
        try:
            summary = finish_earlier_run(options, work)
        except JournalError as error:
            assert re.search(r"finished\.json: damaged; pass --restart", str(error))  # noqa: PT017 - either is right
        else:
            assert summary is None or isinstance(summary.frames, int)


@pytest.mark.parametrize(
    "note", [5, {}, {"damaged": [0]}, {"damaged": [9], "missing": []}, {"damaged": "0", "missing": []}]
)
def test_a_note_about_damage_that_no_run_wrote_is_refused_by_name(note: object, tmp_path: Path) -> None:
    work = Journal(tmp_path, "mov")
    work.write_note("damage_000000", {"damaged": [1], "missing": [0]})
    source = SimpleNamespace(num_frames=2, timeline=SimpleNamespace(time_of=float))
    prepared: Any = SimpleNamespace(source=source)
    assert damage_warnings(prepared, work)[0].startswith("input: 1 damaged frame(s)")
    work.write_note("damage_000000", note)
    with pytest.raises(JournalError, match=r"damage_000000\.json: damaged; pass --restart to start over"):
        damage_warnings(prepared, work)
