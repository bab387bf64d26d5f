"""Small real files of many kinds, which are then damaged."""

import io
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings

SIZE, FRAMES, PART_FRAMES = "48x32", 12, 8
SOURCE = "h264.mkv"  # of the interrupted job

# By name: the options of ffmpeg. Those with sound have audio in them, too.
_SOUND = ("-c:a", "aac", "-b:a", "32k")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:pools=1")
VIDEOS: Mapping[str, tuple[str, ...]] = {
    "h264.mkv": ("-c:v", "libx264", "-preset", "ultrafast", *_SOUND),
    "hevc.mp4": (*_X265, "-tag:v", "hvc1", *_SOUND),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-movflags", "+faststart"),
    "h264.ts": ("-c:v", "libx264", "-preset", "ultrafast", *_SOUND),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "1"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8"),
}
PIPED: Mapping[str, tuple[str, ...]] = {
    "raw.y4m": ("-pix_fmt", "yuv420p"),
    "ffv1.nut": ("-c:v", "ffv1", *_SOUND),
    "piped.mkv": ("-c:v", "libx264", "-preset", "ultrafast", *_SOUND),
    "piped.ts": ("-c:v", "libx264", "-preset", "ultrafast"),
}
IMAGES: Mapping[str, tuple[str, ...]] = {
    "png": ("-pix_fmt", "rgb24"),
    "exr": ("-pix_fmt", "gbrpf32le", "-format", "half", "-compression", "zip1"),
}

SCENE_LISTS: Mapping[str, bytes] = {
    "cuts.txt": b'{"frame": 0, "time_s": 0.0}\n{"frame": 5, "time_s": 0.2}\n7\n',
    "cuts.csv": b"Timecode List:,00:00:00.200\nScene Number,Start Frame,Start Timecode\n1,1,00:00:00\n2,6,00:00:00\n",
    "cuts.json": b'{"frames": 12, "scenes": [{"start_frame": 0, "end_frame": 5}, {"start_frame": 5, "end_frame": 12}]}',
}


@dataclass(frozen=True)
class Samples:
    """The intact files, by their names. work: what is in the work directory of a job that was interrupted."""

    videos: Mapping[str, bytes]
    piped: Mapping[str, bytes]
    images: Mapping[str, bytes]
    weights: Mapping[str, bytes]
    work: Mapping[str, bytes]


def make_samples(ffmpeg: str, network: VideoNetwork, model: Path, folder: Path) -> Samples:
    """ffmpeg: the path of one. model: `network` as a file."""
    for name, options in {**VIDEOS, **PIPED, **{f"image.{kind}": options for kind, options in IMAGES.items()}}.items():
        sound = ("-f", "lavfi", "-i", "sine=d=0.5") if "-c:a" in options else ()
        frames = ("-frames:v", "1" if name.startswith("image") else str(FRAMES))
        picture = ("-f", "lavfi", "-i", f"testsrc2=s={SIZE}:r=25,format=yuv420p")
        command = [ffmpeg, "-v", "error", "-nostdin", "-y", *picture, *sound, *frames, *options, "-threads", "1", name]
        subprocess.run(command, check=True, cwd=folder, timeout=60)
    videos, piped = ({name: (folder / name).read_bytes() for name in group} for group in (VIDEOS, PIPED))
    images = {kind: (folder / f"image.{kind}").read_bytes() for kind in IMAGES}
    return Samples(videos, piped, images, _weight_files(network, model, folder), _interrupted_work(folder, model))


def _weight_files(network: VideoNetwork, model: Path, folder: Path) -> dict[str, bytes]:
    content = {"meta": {"iter": 3, "time": "today"}, "state_dict": network.state_dict()}
    torch.save(network.state_dict(), folder / "zip.pth")
    torch.save(content, folder / "meta.pth")
    torch.save(content, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    names = ("zip.pth", "meta.pth", "legacy.pth")
    return {"tiny.safetensors": model.read_bytes(), **{name: (folder / name).read_bytes() for name in names}}


def _interrupted_work(folder: Path, model: Path) -> dict[str, bytes]:
    """The work directory of a job that was stopped when the first of its two parts was done."""
    stop = threading.Event()
    settings = Settings(segment=4, context=1, device="cpu", threads=1)
    options = JobOptions(
        folder / SOURCE, folder / "out.mkv", str(model), settings, speed="ultrafast", part_frames=PART_FRAMES
    )
    with pytest.raises(Interrupted):
        run_job(options, _StopAfter(PART_FRAMES + 1, stop), stop)
    return {path.name: path.read_bytes() for path in options.work.iterdir()}


class _StopAfter(PlainProgress):
    """Interrupts the job after so many frames."""

    def __init__(self, frames: int, stop: threading.Event) -> None:
        super().__init__(io.StringIO())
        self._left, self._stop = frames, stop

    def advance(self, segment: int | None = None) -> None:
        del segment
        self._left -= 1
        if self._left == 0:
            self._stop.set()
