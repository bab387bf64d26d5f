"""`iconvsr upscale`: its arguments, and what it prints at the end."""

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ffmpeg_filter.commands import queue
from ffmpeg_filter.commands.arguments import (
    PATHS,
    add_size_arguments,
    add_upscaling_arguments,
    help_with_default,
    settings_from,
    target_size_from,
)
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.report import LoggedProgress, Progress, clock, log_file, progress_for
from ffmpeg_filter.media.presets import PRESETS
from ffmpeg_filter.media.scene_list import read_scene_list

if TYPE_CHECKING:
    from ffmpeg_filter.job.execute import Executor
    from ffmpeg_filter.job.finalize import JobSummary, Published
    from ffmpeg_filter.job.verify import Quality

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "upscale",
        help="upscale a video file, with its sound, subtitles, chapters and timestamps",
        usage="iconvsr upscale [options] INPUT OUTPUT [-- FFMPEG-OPTIONS]\n"
        "       iconvsr upscale [options] INPUT... --output-dir DIR [-- FFMPEG-OPTIONS]",
        description="Upscales a video, x4 with the default model. Continues an earlier, unfinished run of the same "
        "command.",
        epilog="Options for ffmpeg's encoder may follow after --, for example: -- -tune grain",
    )
    add_arguments(command)
    command.set_defaults(run=run, refuse=command.error)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """All that the command takes; `iconvsr serve` takes the same."""
    command.add_argument(
        PATHS,
        type=Path,
        nargs="+",
        metavar="INPUT OUTPUT",
        help="INPUT: a video, or images: a folder or in_%%05d.png. OUTPUT: a .mkv, .mp4, .mov or .webm file, or "
        "images: out_%%05d.png. With --output-dir: videos, folders of them, and patterns",
    )
    add_upscaling_arguments(command)
    add_size_arguments(command)
    _add_encoding_arguments(command)
    _add_source_arguments(command)
    _add_run_arguments(command)
    queue.add_arguments(command)


def _add_encoding_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("encoding")
    group.add_argument(
        "--encoder",
        default=JobOptions.encoder,
        metavar="NAME",
        help=help_with_default(f"auto, {', '.join(PRESETS)}", JobOptions.encoder),
    )
    group.add_argument(
        "--container",
        choices=("mkv", "mp4", "mov", "webm"),
        help=help_with_default("container", "by the name of OUTPUT"),
    )
    group.add_argument(
        "--crf",
        type=float,
        metavar="QUALITY",
        help=help_with_default("quality; lower is better and larger", "visually lossless"),
    )
    group.add_argument(
        "--preset",
        dest="speed",
        metavar="NAME",
        help=help_with_default("the encoder's own speed setting", "by encoder, medium for x264 and x265"),
    )
    group.add_argument(
        "--bits", type=int, metavar="N", help=help_with_default("bit depth", "10, or the source's if that is higher")
    )
    group.add_argument(
        "--encoders",
        type=int,
        metavar="N",
        help=help_with_default("encoders at a time, each on its own part: 1 or 2", "2 where that is faster"),
    )
    group.add_argument(
        "--ffmpeg",
        metavar="PATH",
        help=help_with_default("the ffmpeg to encode with", "ICONVSR_FFMPEG, else on PATH, else the bundled one"),
    )


def _add_source_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("source")
    group.add_argument(
        "--start", type=float, metavar="S", help=help_with_default("begin S seconds after the first frame", "0")
    )
    group.add_argument(
        "--duration", type=float, metavar="S", help=help_with_default("end after S seconds", "the whole video")
    )
    group.add_argument(
        "--rate",
        type=_rate,
        metavar="FPS",
        help="frame rate of numbered images, which have none of their own: 24, 30000/1001, …",
    )
    group.add_argument(
        "--peak",
        type=float,
        metavar="LIGHT",
        help=help_with_default("light in .exr images that is white; brighter is clipped", "1; brighter is refused"),
    )
    group.add_argument(
        "--scenes",
        type=Path,
        metavar="FILE",
        help=help_with_default(
            "cuts, and strengths by scene, from iconvsr scenes; or cuts from PySceneDetect (CSV) or Av1an (JSON)",
            "detected",
        ),
    )
    group.add_argument(
        "--deinterlace",
        action="store_true",
        help=help_with_default("deinterlace first", "refuse interlaced video"),
    )
    group.add_argument(
        "--ivtc",
        action="store_true",
        help=help_with_default("undo 3:2 pulldown first: 29.97 fps of telecined film become 23.976", "no"),
    )
    group.add_argument(
        "--ignore-interlaced",
        action="store_true",
        help=help_with_default("treat video that is flagged as interlaced as progressive", "refuse it"),
    )
    group.add_argument(
        "--drop-dynamic-hdr",
        action="store_true",
        help=help_with_default("go on without HDR10+ or Dolby Vision that the output cannot carry", "refuse"),
    )


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("run")
    group.add_argument("--overwrite", action="store_true", help=help_with_default("replace OUTPUT if it exists", "no"))
    group.add_argument(
        "--restart", action="store_true", help=help_with_default("discard the finished parts of earlier runs", "no")
    )
    group.add_argument(
        "--allow-mixed",
        action="store_true",
        help=help_with_default("resume even if machine or versions differ", "no"),
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help=help_with_default("fail at damaged frames", "warn"),
    )
    group.add_argument(
        "--part-frames",
        type=int,
        metavar="N",
        help=help_with_default("least number of frames in a part, which is what a crash costs", JobOptions.part_frames),
    )
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=help_with_default("upscale on a Ray cluster: auto, or ray://HOST:10001", "on this machine"),
    )
    group.add_argument(
        "--dry-run", action="store_true", help=help_with_default("print the plan and the commands, do nothing", "no")
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help=help_with_default(
            "at the end, scale OUTPUT down and print PSNR, SSIM and, where ffmpeg has it, VMAF against INPUT", "no"
        ),
    )
    group.add_argument(
        "--progress",
        choices=("auto", "bar", "plain", "json"),
        default="auto",
        help="a bar on a terminal, plain lines, or JSON lines on standard output (default: %(default)s)",
    )
    group.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help=help_with_default("append messages and the exact ffmpeg commands to FILE", "no file"),
    )


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"expected frames per second, such as 24 or 30000/1001, got {text}") from error
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 frames per second, got {text}")
    return rate


def job_from(options: argparse.Namespace) -> JobOptions:
    """The job that the options ask for; what they leave open keeps the job's defaults."""
    coding = ("input", "output", "encoder", "crf", "speed", "bits", "ffmpeg")
    sourced = ("deinterlace", "ivtc", "ignore_interlaced", "drop_dynamic_hdr")
    running = ("overwrite", "restart", "allow_mixed", "strict", "dry_run", "rate", "peak", "encoders")
    values = {name: getattr(options, name) for name in coding + sourced + running}
    values |= {name: value for name in ("model", "part_frames") if (value := getattr(options, name)) is not None}
    return JobOptions(
        **values,
        extra=tuple(options.extra),
        settings=settings_from(options),
        target_size=target_size_from(options),
        scenes=None if options.scenes is None else read_scene_list(options.scenes),
        container_name=options.container,
        start_s=options.start,
        duration_s=options.duration,
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, 130 when interrupted, 1 when a file of several failed; everything else is raised."""
    if options.output_dir is None:
        options.input, options.output = _two_paths(options)
    with log_file(options.log_file):
        try:
            return _upscale(options) if options.output_dir is None else _upscale_all(options)
        except Exception as error:
            logger.info("ended by: %s", error)  # only for the file: the caller prints it on the terminal
            raise


def _two_paths(options: argparse.Namespace) -> tuple[Path, Path]:
    """INPUT and OUTPUT. Anything else ends the program, as argparse does."""
    if len(options.paths) == 1:
        options.refuse("the following arguments are required: OUTPUT, or --output-dir")
    if len(options.paths) > 2:
        options.refuse(
            f"expected INPUT and OUTPUT, got {len(options.paths)} paths; pass --output-dir for several inputs"
        )
    queue.refuse_arguments(options)
    return options.paths[0], options.paths[1]


def _upscale(options: argparse.Namespace) -> int:
    from ffmpeg_filter.job.pipeline import Interrupted

    stop = options.stop()
    progress = progress_for(options.progress, sys.stdout if options.progress == "json" else sys.stderr)
    job = job_from(options)
    try:
        finished = _upscale_one(options, job, progress, stop)
    except Interrupted:
        text = f"stopped; finished parts are kept in {job.work}. Run the same command to go on."
        LoggedProgress(progress).note(text)
        return EXIT_INTERRUPTED
    return 0 if finished else EXIT_INTERRUPTED


def _upscale_all(options: argparse.Namespace) -> int:
    stop = options.stop()
    options.input, options.output = Path(), Path()  # each file has its own
    if options.scenes is not None:
        raise ValueError("scenes: expected with one INPUT and OUTPUT, whose cuts they are, got it with --output-dir")

    def make(job: JobOptions, progress: Progress, published: "Published") -> None:
        _upscale_one(options, job, progress, stop, published)

    return queue.run(options, job_from(options), make, stop)


def _upscale_one(
    options: argparse.Namespace,
    job: JobOptions,
    shown: Progress,
    stop: threading.Event,
    published: "Published | None" = None,
) -> bool:
    """Upscales a file and reports what came of it. False if only the verification was interrupted."""
    from ffmpeg_filter.job import verify
    from ffmpeg_filter.job.finalize import ignore
    from ffmpeg_filter.job.run import run_job

    progress = LoggedProgress(shown)
    if options.verify:
        verify.check(job)
    with _executor(options.cluster, progress, stop) as executor:
        summary = run_job(job, progress, stop, executor=executor, published=published or ignore)
    quality = None
    if options.verify and not job.dry_run:
        quality, summary = _measure_quality(job, summary, stop)
    if options.progress == "json":
        options.print_line(json.dumps(summary_event(summary, quality)))
    else:
        for line in summary_lines(summary, quality, dry_run=job.dry_run):
            progress.note(line)
    return not (stop.is_set() and options.verify and quality is None)


def _executor(
    address: str | None, progress: Progress, stop: threading.Event
) -> "contextlib.AbstractContextManager[Executor | None]":
    """None: the job uses this machine."""
    if address is None:
        return contextlib.nullcontext()
    from ffmpeg_filter.job.cluster import Cluster

    return Cluster(address, progress, stop)


def _measure_quality(
    job: JobOptions, summary: "JobSummary", stop: threading.Event
) -> "tuple[Quality | None, JobSummary]":
    """The quality, or one more warning: the output is whole, whether or not it could be compared."""
    from ffmpeg_filter.job import verify
    from ffmpeg_filter.job.pipeline import Interrupted
    from ffmpeg_filter.media.ffmpeg import FfmpegError
    from ffmpeg_filter.media.source import SourceError
    from ffmpeg_filter.media.timestamps import DiscontinuityError

    try:
        return verify.measure(job, summary.frames, stop=stop), summary
    except Interrupted:
        reason = "stopped; the output is whole"
    except (FfmpegError, SourceError, DiscontinuityError) as error:
        reason = str(error)
    return None, dataclasses.replace(summary, warnings=(*summary.warnings, f"not verified: {reason}"))


def summary_event(summary: "JobSummary", quality: "Quality | None") -> dict[str, object]:
    """The last line of --progress json."""
    values = {**dataclasses.asdict(summary), "output": str(summary.output), "fps": summary.fps}
    values["stages"] = summary.stages.rates()
    if quality is not None:
        psnr_db = quality.psnr_db if math.isfinite(quality.psnr_db) else None  # JSON knows no infinity
        values["quality"] = {**dataclasses.asdict(quality), "psnr_db": psnr_db}
    return {"event": "summary", **values}


def summary_lines(summary: "JobSummary", quality: "Quality | None" = None, *, dry_run: bool = False) -> list[str]:
    """What is printed at the end of a run."""
    lines = []
    if not dry_run:
        lines.append(
            f"{summary.output}: {summary.frames} frames, {summary.size_bytes / 2**20:.1f} MiB, "
            f"{clock(summary.seconds)}, {summary.fps:.2f} fps"
        )
        if rates := summary.stages.rates():
            speeds = ", ".join(f"{name} {fps:.2f}" for name, fps in rates.items())
            slowest = min(rates, key=rates.__getitem__)
            lines.append(f"fps that each stage could reach alone: {speeds}; {slowest} sets the pace")
    lines += [f"kept: {text}" for text in summary.kept]
    lines += [f"NOT kept: {text}" for text in summary.left]
    lines += [f"WARNING: {text}" for text in summary.warnings]
    if quality is not None:
        lines.append(f"verified: {quality}")
    return lines
