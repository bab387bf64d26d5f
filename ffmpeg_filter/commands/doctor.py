"""`iconvsr doctor`: what works on this machine, as text or JSON; also runs vspipe and ffmpeg."""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ffmpeg_filter.media import ffmpeg
from vs_iconvsr import doctor, system
from vs_iconvsr.doctor import FAIL, OK, WARN, Check

VSPIPE_TIMEOUT_S = 60.0
ENCODERS = ("libx264", "libx265")

# Options that the oldest supported ffmpeg lacks, and what is lost without them.
NEWER = {"display_rotation": "rotation in .mkv", "mastering_display": "HDR10 metadata (except with x265)"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `doctor`; the namespace then goes to `run`."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine and print a remedy for what does not work",
        description="Checks Python, VapourSynth, the plugin, torch, memory, models and ffmpeg. Exit code 1 if "
        "any check fails.",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object: ok, and the checks with their remedies (default: text)",
    )
    parser.add_argument("--ffmpeg", metavar="PATH", help="the ffmpeg to check (default: the one that upscale uses)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the findings with options.print_line. Exit code 1 if anything failed, else 0."""
    print_line: Callable[[str], object] = options.print_line
    found = [
        *doctor.checks(),
        doctor.run_check("vspipe", vspipe),
        doctor.run_check("ffmpeg", lambda: ffmpeg_check(options.ffmpeg)),
    ]
    well = doctor.all_well(found)
    if options.json:
        print_line(json.dumps({"ok": well, "checks": [asdict(check) for check in found]}, indent=2))
        return 0 if well else 1
    for check in found:
        print_line(f"{check.status:4}  {check.name}: {check.detail}")
        if check.remedy:
            print_line(f"      → {check.remedy}")
    return 0 if well else 1


def vspipe(folder: Path | None = None) -> Check:
    """Whether this environment's vspipe runs, which depends on its configuration, and is the one on PATH."""
    folder = folder or system.scripts_folder()
    program = folder / system.program_name("vspipe")
    if not program.is_file():
        return Check("vspipe", WARN, f"{program}: no such file; scripts still run in Python", "pip install vapoursynth")
    try:
        answer = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VSPIPE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("vspipe", FAIL, f"{program} cannot be run: {error}", "pip install --force-reinstall vapoursynth")
    if answer.returncode != 0:
        cause = " ".join((answer.stderr or answer.stdout).split())
        return Check("vspipe", FAIL, f"{program}: {cause}", f"{folder / 'vapoursynth'} config")
    core = next((line.strip() for line in answer.stdout.splitlines() if "Core" in line), "core version unknown")
    on_path = shutil.which("vspipe")
    if on_path and Path(on_path).resolve() != program.resolve():
        detail = f"{program} ({core}) works, but the one on PATH is {on_path}, which may belong to another environment"
        return Check("vspipe", WARN, detail, system.remedy_for_path(folder))
    return Check("vspipe", OK, f"{program}, {core}")


def ffmpeg_check(named: str | None = None) -> Check:
    """Which ffmpeg `iconvsr upscale` uses, and whether it has the usual encoders."""
    try:
        found = ffmpeg.find_executable(named)
    except ffmpeg.FfmpegError as error:
        remedy = f"pip install imageio-ffmpeg, or install ffmpeg {ffmpeg.OLDEST} or newer"
        return Check("ffmpeg", FAIL, str(error), remedy)
    text = f"{found.version} from {found.origin}, {found.path}"
    absent = [encoder for encoder in ENCODERS if encoder not in found.encoders]
    if absent:
        return Check(
            "ffmpeg", WARN, f"{text}, without {', '.join(absent)}", "choose another with --ffmpeg or --encoder"
        )
    if missing := [loss for option, loss in NEWER.items() if option not in found.options]:
        return Check(
            "ffmpeg",
            WARN,
            f"{text}, works, but cannot write {' and '.join(missing)}",
            f"pass a newer one with --ffmpeg; {ffmpeg.OLDEST} is the oldest that works",
        )
    return Check("ffmpeg", OK, text)
