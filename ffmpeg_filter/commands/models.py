"""`iconvsr models`: list, download, verify, convert and describe weights."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vs_iconvsr import weights
from vs_iconvsr.weights.catalogue import BASE_URL, OFFICIAL
from vs_iconvsr.weights.download import STALL_S

Say = Callable[[str], object]

OK = 0
FAILED = 1
PROGRESS_EVERY_S = 0.5
LONGEST_VALUE = 200  # characters; a recipe in the metadata has thousands


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `models` with its own subcommands; the namespace then goes to `run`."""
    parser = subparsers.add_parser("models", help="list, download, verify, convert and describe weights")
    commands = parser.add_subparsers(dest="models_command", metavar="COMMAND")
    commands.add_parser("list", help="list the models that have a name (the default)")

    download = commands.add_parser("download", help="download weights that the authors published")
    download.add_argument(
        "name", nargs="+", choices=[*OFFICIAL, "all"], metavar="NAME", help=f"{', '.join(OFFICIAL)}, all"
    )
    download.add_argument("--mirror", default=BASE_URL, metavar="URL", help="download from here (default: %(default)s)")
    download.add_argument(
        "--stall",
        type=float,
        default=STALL_S,
        metavar="S",
        help="give up when a server sends nothing for S seconds (default: %(default)g)",
    )

    verify = commands.add_parser("verify", help="load weights and check every value")
    verify.add_argument(
        "model", nargs="*", metavar="MODEL", help="names or paths (default: all that are on this machine)"
    )

    convert = commands.add_parser("convert", help="write weights of any layout as .safetensors")
    convert.add_argument("source", metavar="IN", help="name or path")
    convert.add_argument("target", type=Path, metavar="OUT.safetensors")

    info = commands.add_parser("info", help="describe a weight file")
    info.add_argument("model", metavar="MODEL", help="name or path")


def run(arguments: argparse.Namespace, *, say: Say | None = None) -> int:
    """Returns the exit code. say: takes one line of output at a time."""
    say = say or (lambda line: sys.stdout.write(line + "\n"))
    match arguments.models_command:
        case "download":
            return download_models(arguments, say)
        case "verify":
            return verify_models(arguments.model, say)
        case "convert":
            weights.convert(arguments.source, arguments.target)
            say(f"{arguments.target}: {describe(arguments.target)}")
        case "info":
            print_info(arguments.model, say)
        case _:
            list_models(say)
    return OK


def list_models(say: Say) -> None:
    models = weights.available()
    width = max(len(model.name) for model in models)
    for model in models:
        state = "bundled" if model.origin == "bundled" else "here" if model.path else "to download"
        default = " (default)" if model.name == weights.DEFAULT_MODEL else ""
        say(f"{model.name:{width}}  {state:11}  {model.description}{default}")
    try:
        say(f"Downloaded models lie in {weights.models_directory()}")
    except weights.WeightsError as error:
        say(str(error))


def download_models(arguments: argparse.Namespace, say: Say) -> int:
    for name in OFFICIAL if "all" in arguments.name else arguments.name:
        path = weights.download(name, progress=Meter(name, say), base_url=arguments.mirror, stall_s=arguments.stall)
        say(f"{name}: {path}")
    return OK


class Meter:
    """Prints the progress of a download, a few times a second at most."""

    def __init__(self, name: str, say: Say) -> None:
        self.name = name
        self.say = say
        self.due_s = time.monotonic() + PROGRESS_EVERY_S

    def __call__(self, done: int, whole: int | None) -> None:
        if time.monotonic() >= self.due_s:
            of_whole = f" of {whole / 1e6:.1f} MB ({100 * done // max(whole, 1)} %)" if whole is not None else " MB"
            self.say(f"{self.name}: {done / 1e6:.1f}{of_whole}")
            self.due_s = time.monotonic() + PROGRESS_EVERY_S


def verify_models(models: list[str], say: Say) -> int:
    """Every model is checked, even after one has failed."""
    failures = 0
    for model in models or [model.name for model in weights.available() if model.path]:
        try:
            weights.verify(model)
            say(f"{model}: good, {describe(model)}")
        except weights.WeightsError as error:
            failures += 1
            say(f"{model}: BAD: {error}")
    return FAILED if failures else OK


def print_info(model: str, say: Say) -> None:
    info = weights.info(model)
    say(f"file: {info.path}")
    say(f"size: {info.size_bytes} bytes")
    say(f"sha256: {info.sha256}")
    say(f"layout: {info.layout}, {info.container}")
    say(f"network: {info.architecture}, {info.parameters} parameters")
    for name, value in info.hyper_parameters.items():
        say(f"  {name}: {value}")
    for name, text in info.metadata.items():
        if name not in ("architecture", "hyper_parameters"):
            say(f"{name}: {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}")


def describe(model: str | Path) -> str:
    info = weights.info(model)
    return (
        f"{info.architecture}, {info.parameters} parameters, {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256[:8]}…"
    )
