"""`iconvsr upscale`: its arguments, and how its end is told."""

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

from ffmpeg_filter.job.report import LoggedProgress, Progress, clock, log_file, progress_for
from ffmpeg_filter.media.presets import DEFAULT_ENCODER, PRESETS

if TYPE_CHECKING:
    from ffmpeg_filter.job.execute import Executor
    from ffmpeg_filter.job.finalize import JobSummary
    from ffmpeg_filter.job.options import JobOptions
    from ffmpeg_filter.job.verify import Quality
    from vs_iconvsr.plan import Settings

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "upscale",
        help="upscale a video file x4, with its sound, subtitles, chapters and timestamps",
        description="Upscales a video x4. What an earlier run of the same command has finished is used again.",
        epilog="Options for ffmpeg's encoder may follow after --, for example: -- -tune grain",
    )
    command.add_argument("input", type=Path, metavar="INPUT", help="a video, or pictures: a folder or in_%%05d.png")
    command.add_argument("output", type=Path, metavar="OUTPUT", help="a .mkv, .mp4 or .mov, or pictures: out_%%05d.png")
    add_model_arguments(command)
    encoding = command.add_argument_group("encoding")
    encoding.add_argument("--encoder", default=DEFAULT_ENCODER, metavar="NAME", help=f"auto, {', '.join(PRESETS)}")
    encoding.add_argument("--container", choices=("mkv", "mp4", "mov"), help="(default: as OUTPUT ends)")
    encoding.add_argument("--crf", type=float, help="quality; lower is better and larger (default: visually lossless)")
    encoding.add_argument("--preset", dest="speed", help="the encoder's own speed setting")
    encoding.add_argument("--bits", type=int, help="depth (default: 10, or the source's own if higher)")
    encoding.add_argument(
        "--encoders",
        type=int,
        metavar="N",
        help="encoders at a time, each at a part of its own: 1 or 2 (default: a second one when it would pay)",
    )
    encoding.add_argument("--ffmpeg", metavar="PATH", help="the ffmpeg to encode with")
    which = command.add_argument_group("which frames")
    which.add_argument("--start", type=float, metavar="S", help="begin here, in seconds from the first frame")
    which.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    which.add_argument("--rate", type=_rate, metavar="FPS", help="of numbered pictures: 24, 30000/1001, …")
    which.add_argument(
        "--peak", type=float, metavar="LIGHT", help="of .exr pictures: the light that is white; brighter is clipped"
    )
    which.add_argument("--deinterlace", action="store_true", help="make progressive frames of interlaced ones first")
    which.add_argument("--ignore-interlaced", action="store_true", help="the source's interlaced flag is wrong")
    run_group = command.add_argument_group("the run")
    run_group.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    run_group.add_argument("--restart", action="store_true", help="throw away what earlier runs have finished")
    run_group.add_argument("--allow-mixed", action="store_true", help="resume though machine or versions differ")
    run_group.add_argument("--strict", action="store_true", help="fail at damaged frames")
    run_group.add_argument("--part-frames", type=int, metavar="N", help="frames in a part, what a crash may cost")
    run_group.add_argument(
        "--cluster", metavar="ADDRESS", help="let a Ray cluster make the parts: auto, or ray://HOST:10001"
    )
    run_group.add_argument("--dry-run", action="store_true", help="tell the plan and the commands, do nothing")
    run_group.add_argument(
        "--verify",
        action="store_true",
        help="at the end, make OUTPUT small again and tell PSNR, SSIM and VMAF (where ffmpeg has it) against INPUT",
    )
    run_group.add_argument(
        "--progress", choices=("auto", "bar", "plain", "json"), default="auto", help="json writes to standard output"
    )
    run_group.add_argument(
        "--log-file", type=Path, metavar="FILE", help="add to FILE what was said, and the exact commands of ffmpeg"
    )
    command.set_defaults(run=run)


def add_model_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments that `settings_from` reads, and --model."""
    model = command.add_argument_group("upscaling")
    model.add_argument("--model", help="a name from `iconvsr models list`, or a weight file")
    model.add_argument("--segment", type=int, metavar="N", help="frames kept from one propagation; 0: whole scenes")
    model.add_argument("--context", type=int, metavar="N", help="frames read on either side of a segment")
    model.add_argument("--no-scene-detect", action="store_true", help="propagate across cuts")
    model.add_argument("--sc-threshold", type=float, help="what counts as a cut")
    model.add_argument("--device", help="auto, cpu, cuda, cuda:0,cuda:1, …")
    model.add_argument("--precision", help="auto, fp32, fp16, …")
    model.add_argument("--tile", type=_size, metavar="WxH", help="work on tiles of this size; 0: whole frames")
    model.add_argument("--halo", type=int, metavar="PX", help="margin read round a tile")
    model.add_argument("--memory", type=float, metavar="GIB", help="what the device may use")
    model.add_argument("--threads", type=int, metavar="N", help="threads on the CPU")
    model.add_argument("--dither", choices=("ordered", "none"), help="how values are rounded")
    model.add_argument(
        "--matrix", type=int, metavar="N", help="YUV matrix as H.273 numbers it, where the file says nothing"
    )


def _size(text: str) -> tuple[int, int]:
    """'640x360' → (640, 360); '0' → (0, 0)."""
    parts = ["0", "0"] if text == "0" else text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT or 0, got {text}")
    return int(parts[0]), int(parts[1])


def settings_from(options: argparse.Namespace) -> "Settings":
    """What was said about upscaling; what was not keeps the settings' own defaults."""
    from vs_iconvsr.plan import Settings

    names = ("segment", "context", "sc_threshold", "device", "precision", "tile", "halo", "threads", "dither", "matrix")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.no_scene_detect:
        given["scene_detect"] = False
    if options.memory is not None:
        if not 0 < options.memory < math.inf:
            raise ValueError(f"memory: expected more than 0 GiB, got {options.memory:g}")
        given["memory_bytes"] = round(options.memory * 2**30)
    return Settings(**given)


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"expected frames per second, as 24 or 30000/1001, got {text}") from error
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 frames per second, got {text}")
    return rate


def job_from(options: argparse.Namespace) -> "JobOptions":
    """The job that the options ask for; what they leave open keeps the job's defaults."""
    from ffmpeg_filter.job.options import JobOptions

    coding = ("input", "output", "encoder", "crf", "speed", "bits", "ffmpeg", "deinterlace", "ignore_interlaced")
    running = ("overwrite", "restart", "allow_mixed", "strict", "dry_run", "rate", "peak", "encoders")
    values = {name: getattr(options, name) for name in coding + running}
    values |= {name: value for name in ("model", "part_frames") if (value := getattr(options, name)) is not None}
    return JobOptions(
        **values,
        extra=tuple(options.extra),
        settings=settings_from(options),
        container_name=options.container,
        start_s=options.start,
        duration_s=options.duration,
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted; everything else is raised."""
    with log_file(options.log_file):
        try:
            return _run(options)
        except Exception as error:
            logger.info("ended by: %s", error)  # only for the file: who called says it on the terminal
            raise


def _run(options: argparse.Namespace) -> int:
    from ffmpeg_filter.job import verify
    from ffmpeg_filter.job.pipeline import Interrupted
    from ffmpeg_filter.job.run import run_job

    stop = options.stop()
    progress = LoggedProgress(progress_for(options.progress, sys.stdout if options.progress == "json" else sys.stderr))
    job = job_from(options)
    if options.verify:
        verify.check(job)
    try:
        with _crew(options.cluster, progress, stop) as executor:
            summary = run_job(job, progress, stop, executor=executor)
    except Interrupted:
        progress.note(f"stopped; finished parts are kept in {job.work}. Run the same command to go on.")
        return EXIT_INTERRUPTED
    quality = None
    if options.verify and not job.dry_run:
        quality, summary = _verified(job, summary, stop)
    code = EXIT_INTERRUPTED if stop.is_set() and options.verify and quality is None else 0
    if options.progress == "json":
        values = {**dataclasses.asdict(summary), "output": str(summary.output), "fps": summary.fps}
        values["stages"] = summary.stages.rates()
        if quality is not None:
            psnr_db = quality.psnr_db if math.isfinite(quality.psnr_db) else None  # JSON knows no infinity
            values["quality"] = {**dataclasses.asdict(quality), "psnr_db": psnr_db}
        options.say(json.dumps({"event": "summary", **values}))
        return code
    for line in lines_of(summary, dry_run=job.dry_run):
        progress.note(line)
    if quality is not None:
        progress.note(f"verified: {quality}")
    return code


def _crew(
    address: str | None, progress: Progress, stop: threading.Event
) -> "contextlib.AbstractContextManager[Executor | None]":
    if address is None:
        return contextlib.nullcontext()
    from ffmpeg_filter.job.cluster import Cluster

    return Cluster(address, progress, stop)


def _verified(job: "JobOptions", summary: "JobSummary", stop: threading.Event) -> "tuple[Quality | None, JobSummary]":
    """The quality, or a warning more: the output is whole, whether or not it could be compared."""
    from ffmpeg_filter.job import verify
    from ffmpeg_filter.job.pipeline import Interrupted
    from ffmpeg_filter.media.ffmpeg import FfmpegError
    from ffmpeg_filter.media.source import SourceError
    from ffmpeg_filter.media.timestamps import DiscontinuityError

    try:
        return verify.measure(job, summary.frames, stop=stop), summary
    except Interrupted:
        why = "stopped; the output is whole"
    except (FfmpegError, SourceError, DiscontinuityError) as error:
        why = str(error)
    return None, dataclasses.replace(summary, warnings=(*summary.warnings, f"not verified: {why}"))


def lines_of(summary: "JobSummary", *, dry_run: bool = False) -> list[str]:
    """The end of a run, in lines."""
    lines = []
    if not dry_run:
        lines.append(
            f"{summary.output}: {summary.frames} frames, {summary.size_bytes / 2**20:.1f} MiB, "
            f"{clock(summary.seconds)}, {summary.fps:.2f} fps"
        )
        if rates := summary.stages.rates():
            told = ", ".join(f"{name} {fps:.2f}" for name, fps in rates.items())
            lines.append(
                f"fps that each stage could do alone: {told}; {min(rates, key=rates.__getitem__)} sets the pace"
            )
    lines += [f"kept: {text}" for text in summary.kept]
    lines += [f"NOT kept: {text}" for text in summary.left]
    lines += [f"WARNING: {text}" for text in summary.warnings]
    return lines
