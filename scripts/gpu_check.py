"""What a GPU must show, in stages of their own, each within nine minutes: docs/gpu.md says how to run them.

Every check runs even if another fails, and is in the file of results at once; the same command again goes on where it
stopped. The exit code is 1 if a check of the stage failed.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from benchmarking.report import environment
from gpu_checking import pixels, pressure, speed
from gpu_checking.machine import Machine, engine_hash
from gpu_checking.results import Check, Results, run_checks

from vs_iconvsr.networks import edvr

STAGES: dict[str, Callable[[Machine], Iterator[Check]]] = {
    "smoke": pixels.smoke,
    "correctness": pixels.correctness,
    "profile": speed.profiled,
    "levers": speed.levers,
    "pressure": pressure.pressure,
    "training": pressure.training,
}
DO_NOT_IDENTIFY = ("load", "date", "threads")  # of a machine


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    machine = Machine(torch.device(options.device), options.quick)
    if machine.is_gpu and not torch.cuda.is_available():
        print(
            f"gpu_check: expected a GPU, got none that torch {torch.__version__} can use; "
            "--device cpu tries the script itself"
        )
        return 2
    has_torchvision = importlib.util.find_spec("torchvision") is not None
    if not has_torchvision:  # our own sampling replaces its deformable convolution
        edvr.torchvision_deform_conv = edvr.sampled_deform_conv
    if options.stage == "hash":
        print(engine_hash(machine, options.precision))
        return 0
    here = environment(machine.device) | {"torchvision": has_torchvision, "quick": machine.quick}
    print(", ".join(f"{key} {value}" for key, value in here.items()))
    try:
        results = Results(options.json, {k: v for k, v in here.items() if k not in DO_NOT_IDENTIFY})
    except ValueError as error:
        print(f"gpu_check: {error}")
        return 2
    run_checks(STAGES[options.stage](machine), results, limit_s=options.limit, again=options.again)
    failed = [key for key in results.failed() if key.startswith(f"{options.stage}:")]
    print(f"{options.json}: {len(failed)} of stage {options.stage} failed" + "".join(f"\n  {key}" for key in failed))
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=[*STAGES, "hash"], help="in this order; hash is for the script itself")
    parser.add_argument("--device", default="cuda:0", help="default: %(default)s; cpu to try the script itself")
    parser.add_argument(
        "--json", type=Path, default=Path("gpu_check.json"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes")
    parser.add_argument("--again", action="store_true", help="also what passed before")
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument(
        "--limit", type=float, default=420, metavar="S", help="start no check after this time (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
