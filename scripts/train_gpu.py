"""Training in sittings: a machine with a GPU for some minutes, nothing installed, perhaps another machine each time.

A sitting synthesises the clips that the recipe names (where they are not there yet), trains, saves before its time is
over or when it gets SIGTERM, and ends; exit code 3 says that the next one goes on, 0 that the model is exported.
With --shards the run also lies in that folder as files of limited size, which travel to the next machine: they are
put together there before training, and written again after it.
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
SAVING_S = 15.0  # kept back at the end of a sitting
WITHOUT_ENCODERS = ("bi", "bd", "bd-pfnl", "blur")


class Absent(types.ModuleType):
    """Stands for a package that is not here and will not be used."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class AbsentFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages of these names, everything below them included."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in self.names else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        del module


def main(arguments: Sequence[str] | None = None) -> int:
    """One sitting; the exit codes of `python -m training`."""
    began = time.monotonic()
    options = parser().parse_args(arguments)
    absent = [name for name in ("av", "torchvision") if importlib.util.find_spec(name) is None]
    sys.meta_path.append(AbsentFinder(absent))
    from training import cli, commands
    from training.loop.recipe import read_recipe

    recipe = read_recipe(commands.recipe_path(options.recipe), overrides=tuple(options.set))
    kinds = {degradation.kind for degradation in recipe.degradations}
    if "av" in absent and not kinds <= set(WITHOUT_ENCODERS):
        print(f"train_gpu: degradations: expected some of {', '.join(WITHOUT_ENCODERS)} without PyAV, got {kinds}")
        return 1
    if options.shards and (options.shards / INDEX).exists() and not (options.run / "last.pt").exists():
        join(options.shards, options.run)
    common = [str(options.recipe), "--data", str(options.data), "--device", options.device]
    common += [word for override in options.set for word in ("--set", override)]
    code = cli.main(["synthesise", *common])
    made_s = time.monotonic() - began
    if code:
        return code
    left = options.minutes - (made_s + SAVING_S) / 60.0
    means = ["--workers", str(options.workers), "--minutes", str(max(left, 0.01))]
    code = cli.main(["train", *common, "--out", str(options.run), *means])
    if options.shards and code in (0, 3):
        split(options.run, options.shards, limit_bytes=int(options.shard_mib * 2**20))
    if code == 0:
        file = options.run / f"{Path(options.recipe).stem}.safetensors"
        code = cli.main(["export", *common, "--out", str(options.run), "--file", str(file)])
    print(json.dumps(summary(options.run, made_s=made_s, took_s=time.monotonic() - began)))
    return code


def summary(run: Path, *, made_s: float, took_s: float) -> dict[str, float]:
    """What there is to know of a sitting: where it stands, the time, the memory of the GPU."""
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    last: dict[str, float] = {key: value for line in lines for key, value in line.items()}
    last |= {"synthesis_s": round(made_s, 1), "sitting_s": round(took_s, 1)}
    if torch.cuda.is_available():
        last["gpu_peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return last


def split(run: Path, folder: Path, *, limit_bytes: int) -> list[Path]:
    """The files of a run that the next sitting needs, as pieces of at most so many bytes and an index with sums."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in STATE:
            if (run / name).exists():
                archive.add(run / name, arcname=name)
    content = packed.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)  # from here to the end there is no state, rather than a mixed one
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
    """What `split` made, back into files; ValueError names the pieces that are not as they were."""
    sums: dict[str, str] = json.loads((folder / INDEX).read_text())
    pieces = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in sums}
    if wrong := [name for name, wanted in sums.items() if hashlib.sha256(pieces[name]).hexdigest() != wanted]:
        raise ValueError(f"{folder}: expected every piece as {INDEX} has it, got others for {', '.join(wrong)}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces.values()))) as archive:
        archive.extractall(run, filter="data")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/train_gpu", description=__doc__)
    made.add_argument("recipe", help="a recipe's name or file")
    made.add_argument("--data", type=Path, required=True, help="the folder for the recipe's clips")
    made.add_argument("--run", type=Path, required=True, help="the run's folder")
    made.add_argument("--minutes", type=float, required=True, help="of the whole sitting")
    made.add_argument("--set", action="append", default=[], metavar="KEY.KEY=VALUE", help="instead of the recipe's")
    made.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    made.add_argument("--workers", type=int, default=12, help="processes that prepare batches")
    made.add_argument("--shards", type=Path, help="a folder for the run in pieces")
    made.add_argument("--shard-mib", type=float, default=15.0, help="largest size of a piece")
    return made


if __name__ == "__main__":
    sys.exit(main())
