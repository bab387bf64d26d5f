"""How close an upscaled file, scaled back down, comes to its source: PSNR, SSIM and VMAF of the luma, by ffmpeg."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.prepare import frame_window
from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.ffmpeg import Child, Executable, FfmpegError
from ffmpeg_filter.media.mapping import IMAGES
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError

_LEAST_VMAF_PX = 64  # its coarsest scale is 1/16
_BITS = 10
_LOOK_EVERY_S = 0.1
# Only size and depth may be converted, and ffmpeg converts colors where the tags of two inputs differ.
_SAME_COLOR = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"


@dataclass(frozen=True)
class Quality:
    """Of the luma of `frames` frames. psnr_db is infinite for equal frames; vmaf is None if it cannot be measured."""

    frames: int
    psnr_db: float
    ssim: float
    vmaf: float | None

    def __str__(self) -> str:
        vmaf = (
            f", VMAF {self.vmaf:.2f}"
            if self.vmaf is not None
            else " (no VMAF: ffmpeg lacks libvmaf, or frames are too small)"
        )
        return f"scaled down and compared with the source: PSNR {self.psnr_db:.2f} dB, SSIM {self.ssim:.4f}{vmaf}"


def check(options: JobOptions) -> None:
    """Raises ValueError, before the work begins, for a job whose frames have no counterpart in a source file."""
    if options.container == IMAGES or not options.input.is_file():
        raise ValueError("verify: expected a video file in and out, got images; leave out --verify")
    if options.deinterlace or options.ivtc:
        made = "those of film (--ivtc)" if options.ivtc else "deinterlaced ones"
        raise ValueError(f"verify: expected the source's own frames, got {made}; leave out --verify")


def measure(options: JobOptions, num_frames: int, *, stop: threading.Event | None = None) -> Quality:
    """Compares the finished output of the job, num_frames long, with its source, frame by frame.

    Raises SourceError for a source that cannot be compared, FfmpegError if ffmpeg fails or finds another number of
    frames, and Interrupted soon after `stop` is set.
    """
    executable = ffmpeg.find_executable(options.ffmpeg)
    source = probe(options.input)
    if source.video.layout.format.family != "YUV":
        raise SourceError(f"verify: expected a YUV source, got {source.video.layout.format}")
    log = _run(command(executable, options, source, probe(options.output)), stop or threading.Event())
    frames = int(_last(r"frame=\s*(\d+)", log))
    if frames != num_frames:
        raise FfmpegError(
            f"verify: expected {num_frames} pairs of frames, got {frames}; source and output differ in length"
        )
    vmaf = float(_last(r"VMAF score: ([\d.]+)", log)) if _with_vmaf(executable, source) else None
    return Quality(frames, float(_last(r"PSNR y:(\S+)", log)), float(_last(r"SSIM Y:([\d.]+)", log)), vmaf)


def _run(arguments: Sequence[str | bytes], stop: threading.Event) -> list[str]:
    """The last lines that ffmpeg printed; it is killed when `stop` is set."""
    child = Child(arguments)
    try:
        while child.process.poll() is None:
            if stop.wait(_LOOK_EVERY_S):
                raise Interrupted
        child.finish()
    finally:
        child.kill(at_once=True)
    return child.stderr_tail


def command(executable: Executable, options: JobOptions, source: MediaSource, output: MediaSource) -> list[str | bytes]:
    """Frames are paired by number, not by time: containers round times. Both are brought to one size and depth."""
    window = frame_window(source, options.start_s, options.duration_s)
    filters = {"psnr": "psnr", "ssim": "ssim"} | ({"vmaf": "libvmaf"} if _with_vmaf(executable, source) else {})
    sources, outputs = ("".join(f"[{side}_{name}]" for name in filters) for side in ("source", "output"))
    # Not "limited" for all: ffmpeg takes pixel formats such as yuvj420p as full range whatever their tag.
    video = source.video
    span = "full" if video.properties.get("_Range") == 1 else "limited"
    small = f"scale={video.width}:{video.height}:flags=bicubic+accurate_rnd:out_range={span},format=yuv420p{_BITS}le"
    by_number = f"settb=1/1000,setpts=N,setparams=range={span}:{_SAME_COLOR},{small},setsar=1,split={len(filters)}"
    graph = [
        f"[0:{source.video.index}]trim=start_frame={window.start}:end_frame={window.stop},{by_number}{sources}",
        f"[1:{output.video.index}]{by_number}{outputs}",
        *(f"[output_{name}][source_{name}]{filter_}[{name}]" for name, filter_ in filters.items()),
    ]
    protocols = ("-protocol_whitelist", ffmpeg.INPUT_PROTOCOLS)
    return [
        *ffmpeg.command_prefix(executable),
        *("-v", "info", "-progress", "pipe:2", "-stats_period", "5"),
        *("-noautorotate", *protocols, "-i", ffmpeg.safe_url(options.input)),
        *("-noautorotate", *protocols, "-i", ffmpeg.safe_url(options.output)),
        *("-filter_complex", ";".join(graph)),
        *(word for name in filters for word in ("-map", f"[{name}]")),
        *("-fps_mode", "passthrough", "-f", "null", "-"),
    ]


def _with_vmaf(executable: Executable, source: MediaSource) -> bool:
    return "libvmaf" in executable.filters and min(source.video.width, source.video.height) >= _LEAST_VMAF_PX


def _last(pattern: str, lines: list[str]) -> str:
    found = re.findall(pattern, "\n".join(lines))
    if not found:
        raise FfmpegError(f"verify: expected ffmpeg to print {pattern}, got: {' | '.join(lines[-4:])}")
    return str(found[-1])
