"""How near an upscaled file, made small again, comes to its source: PSNR, SSIM and VMAF of the luma, by ffmpeg."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.prepare import frame_window
from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.ffmpeg import Child, Executable, FfmpegError
from ffmpeg_filter.media.mux import IMAGES
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError

_LEAST_VMAF_PX = 64  # its coarsest scale is a sixteenth
_BITS = 10
_LOOK_EVERY_S = 0.1
# Nothing may be converted but size and depth, and ffmpeg converts where tags differ.
_SAME_COLOR = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"


@dataclass(frozen=True)
class Quality:
    """Of `frames` frames, luma alone. psnr_db is infinite for equal frames; vmaf is None where it could not be had."""

    frames: int
    psnr_db: float
    ssim: float
    vmaf: float | None

    def __str__(self) -> str:
        vmaf = f", VMAF {self.vmaf:.2f}" if self.vmaf is not None else " (no VMAF: no libvmaf, or too small a picture)"
        return f"made small again and compared with the source: PSNR {self.psnr_db:.2f} dB, SSIM {self.ssim:.4f}{vmaf}"


def check(job: JobOptions) -> None:
    """Raises ValueError, before the work, for a job whose frames have no counterpart in a source file."""
    if job.container == IMAGES or not job.input.is_file():
        raise ValueError("verify: expected a video file in and out, got pictures; leave out --verify")
    if job.deinterlace:
        raise ValueError("verify: expected the source's own frames, got deinterlaced ones; leave out --verify")


def measure(job: JobOptions, num_frames: int, *, stop: threading.Event | None = None) -> Quality:
    """Compares the finished output of the job, num_frames long, with its source, frame by frame.

    Raises SourceError for a source that cannot be compared, FfmpegError where ffmpeg fails or finds other frames,
    Interrupted soon after `stop` is set.
    """
    executable = children.find_executable(job.ffmpeg)
    source = probe(job.input)
    if source.video.layout.format.family != "YUV":
        raise SourceError(f"verify: expected a YUV source, got {source.video.layout.format}")
    said = _run(command(executable, job, source, probe(job.output)), stop or threading.Event())
    frames = int(_last(r"frame=\s*(\d+)", said))
    if frames != num_frames:
        raise FfmpegError(f"verify: expected {num_frames} pairs of frames, got {frames}; source or output has others")
    vmaf = float(_last(r"VMAF score: ([\d.]+)", said)) if _with_vmaf(executable, source) else None
    return Quality(frames, float(_last(r"PSNR y:(\S+)", said)), float(_last(r"SSIM Y:([\d.]+)", said)), vmaf)


def _run(words: Sequence[str | bytes], stop: threading.Event) -> list[str]:
    """What ffmpeg said in the end; it is killed when `stop` is set."""
    child = Child(words)
    try:
        while child.process.poll() is None:
            if stop.wait(_LOOK_EVERY_S):
                raise Interrupted
        child.finish()
    finally:
        child.kill(at_once=True)
    return child.said


def command(executable: Executable, job: JobOptions, source: MediaSource, output: MediaSource) -> list[str | bytes]:
    """Frames are paired by number, not by time: containers round times. Both are brought to one size and depth."""
    window = frame_window(source, job.start_s, job.duration_s)
    filters = {"psnr": "psnr", "ssim": "ssim"} | ({"vmaf": "libvmaf"} if _with_vmaf(executable, source) else {})
    sources, outputs = ("".join(f"[{side}_{name}]" for name in filters) for side in ("source", "output"))
    # Not limited for all: of pixel formats such as yuvj420p ffmpeg knows that they are full, whatever they are tagged.
    video = source.video
    span = "full" if video.properties.get("_Range") == 1 else "limited"
    small = f"scale={video.width}:{video.height}:flags=bicubic+accurate_rnd:out_range={span},format=yuv420p{_BITS}le"
    by_number = f"settb=1/1000,setpts=N,setparams=range={span}:{_SAME_COLOR},{small},setsar=1,split={len(filters)}"
    graph = [
        f"[0:{source.video.index}]trim=start_frame={window.start}:end_frame={window.stop},{by_number}{sources}",
        f"[1:{output.video.index}]{by_number}{outputs}",
        *(f"[output_{name}][source_{name}]{filter_}[{name}]" for name, filter_ in filters.items()),
    ]
    protocols = ("-protocol_whitelist", children.INPUT_PROTOCOLS)
    return [
        *children.start(executable),
        *("-v", "info", "-progress", "pipe:2", "-stats_period", "5"),
        *("-noautorotate", *protocols, "-i", children.safe_url(job.input)),
        *("-noautorotate", *protocols, "-i", children.safe_url(job.output)),
        *("-filter_complex", ";".join(graph)),
        *(word for name in filters for word in ("-map", f"[{name}]")),
        *("-fps_mode", "passthrough", "-f", "null", "-"),
    ]


def _with_vmaf(executable: Executable, source: MediaSource) -> bool:
    return "libvmaf" in executable.filters and min(source.video.width, source.video.height) >= _LEAST_VMAF_PX


def _last(pattern: str, lines: list[str]) -> str:
    found = re.findall(pattern, "\n".join(lines))
    if not found:
        raise FfmpegError(f"verify: expected ffmpeg to say {pattern}, got: {' | '.join(lines[-4:])}")
    return str(found[-1])
