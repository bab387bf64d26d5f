"""`iconvsr models`: list, download, verify, convert and describe weight files."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vs_iconvsr import weights
from vs_iconvsr.weights.catalogue import BASE_URL, OFFICIAL, OFFICIAL_TERMS
from vs_iconvsr.weights.download import STALL_S

PrintLine = Callable[[str], object]

OK = 0
FAILED = 1
PROGRESS_EVERY_S = 0.5
LONGEST_VALUE = 200  # characters; a recipe in the metadata has thousands


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `models` with its own subcommands; the namespace then goes to `run`."""
    parser = subparsers.add_parser(
        "models",
        help="list, download, verify, convert and describe weight files",
        description="Lists, downloads, verifies, converts and describes weight files. Without COMMAND: list.",
    )
    commands = parser.add_subparsers(dest="models_command", metavar="COMMAND")
    commands.add_parser("list", help="list bundled and official models (default)")

    download = commands.add_parser("download", help="download the authors' published weights")
    download.add_argument(
        "name", nargs="+", choices=[*OFFICIAL, "all"], metavar="NAME", help=f"{', '.join(OFFICIAL)}, all"
    )
    download.add_argument(
        "--mirror", default=BASE_URL, metavar="URL", help="where to download from (default: %(default)s)"
    )
    download.add_argument(
        "--stall",
        type=float,
        default=STALL_S,
        metavar="S",
        help="give up if the server sends nothing for S seconds (default: %(default)g)",
    )

    verify = commands.add_parser("verify", help="load weight files and check every value")
    verify.add_argument("model", nargs="*", metavar="MODEL", help="names or paths (default: all that are installed)")

    convert = commands.add_parser("convert", help="convert a weight file of any layout to .safetensors")
    convert.add_argument("source", metavar="IN", help="name or path of a model")
    convert.add_argument("target", type=Path, metavar="OUT.safetensors", help="the file to write")

    info = commands.add_parser("info", help="describe a weight file")
    info.add_argument("model", metavar="MODEL", help="name or path of a model")


def run(arguments: argparse.Namespace, *, print_line: PrintLine | None = None) -> int:
    """Returns the exit code. print_line: called with each line of output."""
    print_line = print_line or (lambda line: sys.stdout.write(line + "\n"))
    match arguments.models_command:
        case "download":
            return download_models(arguments, print_line)
        case "verify":
            return verify_models(arguments.model, print_line)
        case "convert":
            weights.convert(arguments.source, arguments.target)
            print_line(f"{arguments.target}: {describe(arguments.target)}")
        case "info":
            print_info(arguments.model, print_line)
        case _:
            list_models(print_line)
    return OK


def list_models(print_line: PrintLine) -> None:
    models = weights.available()
    width = max(len(model.name) for model in models)
    for model in models:
        state = "bundled" if model.origin == "bundled" else "downloaded" if model.path else "not downloaded"
        default = " (default)" if model.name == weights.DEFAULT_MODEL else ""
        print_line(f"{model.name:{width}}  {state:14}  {model.description}{default}")
    try:
        print_line(f"Downloads are stored in {weights.models_directory()}")
    except weights.WeightsError as error:
        print_line(str(error))
    print_line(OFFICIAL_TERMS)


def download_models(arguments: argparse.Namespace, print_line: PrintLine) -> int:
    for name in OFFICIAL if "all" in arguments.name else arguments.name:
        path = weights.download(
            name, progress=Meter(name, print_line), base_url=arguments.mirror, stall_s=arguments.stall
        )
        print_line(f"{name}: {path}")
    return OK


class Meter:
    """Prints the progress of a download, a few times a second at most."""

    def __init__(self, name: str, print_line: PrintLine) -> None:
        self.name = name
        self.print_line = print_line
        self.due_s = time.monotonic() + PROGRESS_EVERY_S

    def __call__(self, done: int, whole: int | None) -> None:
        if time.monotonic() >= self.due_s:
            of_whole = f" of {whole / 1e6:.1f} MB ({100 * done // max(whole, 1)} %)" if whole is not None else " MB"
            self.print_line(f"{self.name}: {done / 1e6:.1f}{of_whole}")
            self.due_s = time.monotonic() + PROGRESS_EVERY_S


def verify_models(models: list[str], print_line: PrintLine) -> int:
    """Checks every model, even after one has failed."""
    failures = 0
    for model in models or [model.name for model in weights.available() if model.path]:
        try:
            weights.verify(model)
            print_line(f"{model}: OK, {describe(model)}")
        except weights.WeightsError as error:
            failures += 1
            print_line(f"{model}: FAILED: {error}")
    return FAILED if failures else OK


def print_info(model: str, print_line: PrintLine) -> None:
    info = weights.info(model)
    print_line(f"file: {info.path}")
    print_line(f"size: {info.size_bytes} bytes")
    print_line(f"sha256: {info.sha256}")
    print_line(f"layout: {info.layout}, {info.container}")
    print_line(f"network: {info.architecture}, {info.parameters} parameters")
    for name, value in info.hyper_parameters.items():
        print_line(f"  {name}: {value}")
    for name, text in info.metadata.items():
        if name not in ("architecture", "hyper_parameters"):
            print_line(f"{name}: {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}")


def describe(model: str | Path) -> str:
    info = weights.info(model)
    return (
        f"{info.architecture}, {info.parameters} parameters, {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256[:8]}…"
    )
