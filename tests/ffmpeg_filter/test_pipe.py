import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError
from ffmpeg_filter.pipe import Delivered, upscale_pipe
from vs_iconvsr import system, weights
from vs_iconvsr.colorspace import Format
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, Session, iterate

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
SMALL = Settings(segment=4, context=1, device="cpu", threads=1)


@pytest.fixture
def piped(tiny_model: Path, tmp_path: Path) -> Callable[..., tuple[Delivered, Path]]:
    """piped(source): sends the file through a real pipe; what came out, and where it lies."""

    def send(source: Path, settings: Settings = SMALL) -> tuple[Delivered, Path]:
        reading, writing = os.pipe()

        def write() -> None:
            with os.fdopen(writing, "wb") as end:
                try:
                    end.write(source.read_bytes())
                except BrokenPipeError:
                    return

        writer = threading.Thread(target=write)
        writer.start()
        out = tmp_path / "piped.nut"
        try:
            with os.fdopen(reading, "rb") as incoming, out.open("wb") as outgoing:
                return upscale_pipe(weights.load(tiny_model), settings, incoming, lambda _: outgoing), out
        finally:
            writer.join()

    return send


Piped = Callable[..., tuple[Delivered, Path]]


def test_a_pipe_without_a_descriptor_gives_the_same_bytes(
    clip: Make, piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", frames=5)
    by_descriptor = piped(source)[1].read_bytes()
    monkeypatch.setattr(system, "DESCRIPTORS_ARE_SHARED", False)  # as on Windows
    assert piped(source)[1].read_bytes() == by_descriptor


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9, 23])
def test_a_pipe_gives_the_pixels_of_a_session_that_knows_its_length(
    clip: Make, piped: Piped, tiny_model: Path, frames: int
) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", frames=frames)
    delivered, out = piped(source)
    assert delivered.frames == frames
    known = probe(source)
    here = list(decode_frames(known, 0, Damage()))
    with (
        Session(
            weights.load(tiny_model),
            SMALL,
            source=known.video.layout.format,
            width=48,
            height=32,
            num_frames=frames,
            target=Format("YUV", "integer", 10, 1, 1),
        ) as session,
        av.open(str(out)) as container,
    ):
        expected = iterate(session, lambda n: Fetched(here[n].planes, here[n].properties), range(frames))
        for (_, hr), frame in zip(expected, container.decode(video=0), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(hr.planes, planes_of(frame), strict=True))


def test_timestamps_and_sound_go_through(ffmpeg: Make, piped: Piped) -> None:
    video = "testsrc2=s=48x32:r=30,format=yuv420p,settb=1/90000,setpts=N*3003+mod(N\\,3)*1201+90000"
    inputs = ("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "sine=d=0.6")
    exact = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-c:v", "rawvideo", "-c:a", "flac")
    source = ffmpeg("in.nut", *inputs, *exact, "-frames:v", "14")
    _, out = piped(source)
    with av.open(str(source)) as before, av.open(str(out)) as after:
        wanted = [p.pts * p.time_base for p in before.demux(video=0) if p.size and p.pts is not None]
        assert [p.pts * p.time_base for p in after.demux(video=0) if p.size and p.pts is not None] == wanted
    with av.open(str(source)) as before, av.open(str(out)) as after:
        sound = [bytes(p) for p in before.demux(audio=0) if p.size]
        assert [bytes(p) for p in after.demux(audio=0) if p.size] == sound


def test_the_color_options_for_the_next_command_are_printed(clip: Make, piped: Piped) -> None:
    tags = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    delivered, _ = piped(clip("in.mkv", "-vf", tags, "-c:v", "libx264"))
    assert delivered.next_options() == "-vf setparams=range=1:colorspace=1:color_primaries=1:color_trc=1"


def test_files_without_video_are_refused(piped: Piped, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"no video" * 1000)
    with pytest.raises(SourceError, match="pipe: expected a video on standard input"):
        piped(tmp_path / "in")


def rewritten(source: Path, target: Path, change: Callable[[int, av.Packet], object]) -> Path:
    """A copy of the packets, as NUT; change: given the number of each packet of video and the packet."""
    count = 0
    with av.open(str(source)) as before, av.open(str(target), "w", format="nut") as after:
        copies = {stream.index: after.add_stream_from_template(stream, opaque=True) for stream in before.streams}
        for packet in before.demux():
            if packet.size:
                if packet.stream.type == "video":
                    change(count, packet)
                    count += 1
                packet.stream = copies[packet.stream.index]
                after.mux(packet)
    return target


def test_a_damaged_frame_ends_the_pipe_with_the_reason(clip: Make, piped: Piped, tmp_path: Path) -> None:
    def damage(count: int, packet: av.Packet) -> None:
        if count == 3:
            packet.update(bytes(packet.size))

    source = rewritten(clip("in.mkv", "-c:v", "mjpeg"), tmp_path / "in.nut", damage)
    with pytest.raises(
        SourceError, match="pipe: expected frames that can be decoded, got a damaged one after 3: Inval"
    ):
        piped(source)


def test_timestamps_that_do_not_ascend_are_refused(clip: Make, piped: Piped, tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    ts = [clip(f"{name}.ts", "-c:v", "libx264", "-bf", "0", frames=4) for name in "ab"]
    joined.write_bytes(b"".join(path.read_bytes() for path in ts))
    with pytest.raises(SourceError, match=r"pipe: expected ascending timestamps, got \d+ after \d+ on frame 4; make"):
        piped(joined)


def test_another_size_in_the_middle_is_refused(clip: Make, piped: Piped, tmp_path: Path) -> None:
    small, large = (clip(f"{w}.ts", "-c:v", "libx264", "-bf", "0", frames=4, size=f"{w}x32") for w in (48, 64))
    (tmp_path / "joined.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(SourceError, match="pipe: expected 48x32 yuv420p to the end, got 64x32 yuv420p from frame 4 on"):
        piped(tmp_path / "joined.ts")


def test_whole_scenes_cannot_be_kept_in_a_pipe(clip: Make, piped: Piped) -> None:
    with pytest.raises(ValueError, match="segment: expected at least 1 in a pipe"):
        piped(clip("in.mkv", "-c:v", "ffv1"), Settings(segment=0, device="cpu", threads=1))


def test_the_pipe_works_between_two_ffmpeg_processes(
    clip: Make, executable: Executable, tiny_model: Path, tmp_path: Path
) -> None:
    source, out = clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv"
    before = [executable.path, "-v", "error", "-i", str(source), "-c", "copy", "-f", "nut", "-"]
    ours = [sys.executable, "-m", "ffmpeg_filter.cli", "pipe", "--model", str(tiny_model), "--device", "cpu"]
    ours += ["--threads", "1", "--segment", "4", "--context", "1"]
    after = [executable.path, "-v", "error", "-f", "nut", "-i", "-", "-c:v", "ffv1", str(out)]
    with (
        subprocess.Popen(before, stdout=subprocess.PIPE) as first,
        subprocess.Popen(ours, stdin=first.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as middle,
        subprocess.Popen(after, stdin=middle.stdout) as last,
    ):
        assert first.stdout is not None
        assert middle.stdout is not None
        first.stdout.close()
        middle.stdout.close()
        assert last.wait(60) == 0
        assert middle.wait(60) == 0
    assert (probe(out).num_frames, probe(out).video.width) == (12, 192)
