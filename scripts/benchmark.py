"""How fast this machine upscales: the engine beside the same network in plain float32 PyTorch, growth, the frontends.

Only ratios within one run are meaningful: what is compared runs in turns, and the fastest turn of each counts.
benchmark.md explains every column and keeps the table of what was tried.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from benchmarking.cases import ON_CPU, ON_GPU, QUICK, Case, load_network
from benchmarking.frontends import frontends, own_time
from benchmarking.report import environment, plot, table
from benchmarking.roofline import CARDS, PREDICTED, prediction
from benchmarking.speed import Row, growth, speed_rows

from vs_iconvsr.plan import Settings, plan_for


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    asked = [_case(text) for text in options.case or ()]
    if options.predict:
        print("\n".join(prediction(options.predict, asked or PREDICTED)))
        return 0
    plan = plan_for(Settings(device=options.device, threads=options.threads), load_network("light"), 64, 64)
    device = torch.device(plan.devices[0])
    torch.set_num_threads(plan.threads)
    result: dict = {
        "machine": environment(device),
        "command": " ".join(["scripts/benchmark", *(arguments or sys.argv[1:])]),
    }
    for key, value in result["machine"].items():
        print(f"{key}: {value}", flush=True)
    cases = asked or (QUICK if options.quick else ON_CPU if device.type == "cpu" else ON_GPU)
    rows: list[Row] = []
    for case in cases:
        new = speed_rows(case, device, options.turns)
        print("\n".join(table(new)[2 if rows else 0 :]), flush=True)
        rows += new
    result["rows"] = [asdict(row) for row in rows]

    lengths, sizes = ((2, 4), (32, 64)) if options.quick else ((5, 10, 20, 40), (64, 128, 192, 256))
    result["growth"] = growth("light", device, sizes, lengths, options.turns)
    for over in ("frames", "pixels"):
        print(f"time grows with {over} to the power of {result['growth'][over]['exponent']:.2f}", flush=True)
    if not options.no_frontends:
        result |= _measure_frontends(options, device, plan.threads)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.plot:
        plot(options.plot, result["growth"])
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, within a minute: to see that it runs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: OMP_NUM_THREADS, else all)")
    parser.add_argument("--turns", type=int, default=3, help="how often each is run (default: %(default)s)")
    parser.add_argument("--case", action="append", metavar="MODEL:WxH:FRAMES", help="instead of the usual ones")
    parser.add_argument("--no-frontends", action="store_true", help="the engine only")
    parser.add_argument(
        "--predict",
        choices=list(CARDS),
        metavar="CARD",
        help=f"print what a GPU would take, and stop: {', '.join(CARDS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    return parser.parse_args(arguments)


def _measure_frontends(options: argparse.Namespace, device: torch.device, threads: int) -> dict:
    case, settings = _frontends_case(options.quick, options.device, threads)
    found = frontends(case, settings, programs=not options.quick, turns=options.turns)
    for name, elapsed in found.items():
        more = 100 * (elapsed.cpu / found["engine"].cpu - 1)
        print(
            f"{name}: {1e3 * elapsed.clock:.1f} ms per kept frame of {case.width}x{case.height}, "
            f"{1e3 * elapsed.cpu:.1f} ms of processor time ({more:+.0f} %)"
        )
    result: dict = {"frontends": {name: asdict(elapsed) for name, elapsed in found.items()}}
    if device.type == "cpu":
        result["own_time"] = own_time(case, settings, programs=not options.quick, turns=options.turns)
        for name, ratio in result["own_time"].items():
            print(f"{name}: {ratio:.3f} of the time of the engine's steps in the same run")
    return result


def _frontends_case(quick: bool, device: str, threads: int) -> tuple[Case, Settings]:
    settings = Settings(segment=4 if quick else 10, context=1 if quick else 5, device=device, threads=threads)
    return (Case("light", 48, 32, 8) if quick else Case("light", 320, 240, 40)), settings


def _case(text: str) -> Case:
    model, size, frames = text.split(":")
    width, height = (int(side) for side in size.split("x"))
    return Case(model, width, height, int(frames))


if __name__ == "__main__":
    sys.exit(main())
