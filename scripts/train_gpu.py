"""Train in sessions of a few minutes on a machine with a GPU and nothing installed, possibly a new one each time.

A session generates the clips of the recipe unless they exist, trains, saves before its time is up or on SIGTERM, and
exits: with 3 if another session has to continue, with 0 once the model is exported. With --shards, the run is also
stored in that folder as files of limited size that can be copied to the next machine: they are joined before training
and written again afterwards.
"""

import argparse
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import sys
import tarfile
import time
import types
from collections.abc import Sequence
from pathlib import Path

import torch

STATE = ("last.pt", "average.safetensors", "metrics.jsonl", "recipe.json", "flow.safetensors", "flow/last.pt")
INDEX = "index.json"
SAVING_S = 15.0  # reserved at the end of a session
WITHOUT_ENCODERS = ("bi", "bd", "bd-pfnl", "blur")


class MissingModule(types.ModuleType):
    """Stands in for a package that is not installed and will not be used."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class MissingPackageFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages of these names, including their submodules."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in self.names else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return MissingModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        del module


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one session; returns the exit codes of `python -m training`."""
    began = time.monotonic()
    options = parser().parse_args(arguments)
    missing = [name for name in ("av", "torchvision") if importlib.util.find_spec(name) is None]
    sys.meta_path.append(MissingPackageFinder(missing))
    from training.cli import main as train_command
    from training.commands import recipe_path
    from training.loop.recipe import read_recipe

    recipe = read_recipe(recipe_path(options.recipe), overrides=tuple(options.set))
    kinds = {degradation.kind for degradation in recipe.degradations}
    if "av" in missing and not kinds <= set(WITHOUT_ENCODERS):
        print(f"train_gpu: degradations: expected only {', '.join(WITHOUT_ENCODERS)} without PyAV, got {kinds}")
        return 1
    if options.shards and (options.shards / INDEX).exists() and not (options.run / "last.pt").exists():
        join(options.shards, options.run)
    common = [str(options.recipe), "--data", str(options.data), "--device", options.device]
    common += [word for override in options.set for word in ("--set", override)]
    code = train_command(["synthesise", *common])
    synthesis_s = time.monotonic() - began
    if code:
        return code
    left = options.minutes - (synthesis_s + SAVING_S) / 60.0
    limits = ["--workers", str(options.workers), "--minutes", str(max(left, 0.01))]
    code = train_command(["train", *common, "--out", str(options.run), *limits])
    if options.shards and code in (0, 3):
        split(options.run, options.shards, limit_bytes=int(options.shard_mib * 2**20))
    if code == 0:
        file = options.run / f"{Path(options.recipe).stem}.safetensors"
        code = train_command(["export", *common, "--out", str(options.run), "--file", str(file)])
    print(json.dumps(session_report(options.run, synthesis_s=synthesis_s, session_s=time.monotonic() - began)))
    return code


def session_report(run: Path, *, synthesis_s: float, session_s: float) -> dict[str, float]:
    """Figures of a session: progress of the run, time spent, peak GPU memory."""
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    last: dict[str, float] = {key: value for line in lines for key, value in line.items()}
    last |= {"synthesis_s": round(synthesis_s, 1), "sitting_s": round(session_s, 1)}
    if torch.cuda.is_available():
        last["gpu_peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return last


def split(run: Path, folder: Path, *, limit_bytes: int) -> list[Path]:
    """Pack what the next session needs into files of at most this many bytes, with an index of checksums."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in STATE:
            if (run / name).exists():
                archive.add(run / name, arcname=name)
    content = packed.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    # Until all files are written there is no state at all, rather than a mixed one.
    (folder / INDEX).unlink(missing_ok=True)
    for old in folder.glob("shard.*"):
        old.unlink()
    pieces = [content[at : at + limit_bytes] for at in range(0, len(content), limit_bytes)]
    written = [folder / f"shard.{i:03d}" for i in range(len(pieces))]
    for path, piece in zip(written, pieces, strict=True):
        path.write_bytes(piece)
    sums = {path.name: hashlib.sha256(piece).hexdigest() for path, piece in zip(written, pieces, strict=True)}
    (folder / INDEX).write_text(json.dumps(sums, indent=1) + "\n")
    return written


def join(folder: Path, run: Path) -> None:
    """Unpack what `split` wrote; ValueError names the files that are missing or damaged."""
    sums: dict[str, str] = json.loads((folder / INDEX).read_text())
    pieces = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in sums}
    if wrong := [name for name, digest in sums.items() if hashlib.sha256(pieces[name]).hexdigest() != digest]:
        raise ValueError(
            f"{folder}: expected the checksums in {INDEX}, got others for {', '.join(wrong)}; copy them again"
        )
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces.values()))) as archive:
        archive.extractall(run, filter="data")


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="scripts/train_gpu", description=__doc__)
    arguments.add_argument("recipe", help="name or file of a recipe")
    arguments.add_argument("--data", type=Path, required=True, help="folder for the recipe's clips")
    arguments.add_argument("--run", type=Path, required=True, help="folder of the run")
    arguments.add_argument("--minutes", type=float, required=True, help="duration of the whole session")
    arguments.add_argument(
        "--set", action="append", default=[], metavar="KEY.KEY=VALUE", help="override a value of the recipe"
    )
    arguments.add_argument("--device", default="cuda", help="cuda, or cpu for a trial")
    arguments.add_argument("--workers", type=int, default=12, help="number of processes that prepare batches")
    arguments.add_argument("--shards", type=Path, help="folder for the run in files of limited size")
    arguments.add_argument("--shard-mib", type=float, default=15.0, help="largest size of such a file")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
