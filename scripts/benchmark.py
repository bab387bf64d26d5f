"""How fast this machine upscales: the engine beside the same network in plain float32 PyTorch, growth, and the doors.

Only ratios within one run say anything: what is compared runs in turns, and the fastest turn of each counts.
benchmark.md explains every column and keeps the table of what was tried.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from vs_iconvsr.stream import Stream

import vs_iconvsr
from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.colorspace import Format
from vs_iconvsr.engine import MemoryStrategy, Propagation, Shape, Upscaler, uses_fast_convolutions
from vs_iconvsr.networks import edvr
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings, plan_for
from vs_iconvsr.segments import Segment

YUV420P8 = Format("YUV", "integer", 8, 1, 1)
PROPERTIES = {"_Matrix": 1, "_Range": 0}


@dataclass(frozen=True)
class Case:
    """A model at an lr size, over so many frames."""

    model: str
    width: int
    height: int
    frames: int


@dataclass(frozen=True)
class Row:
    """One line of the table; psnr_db, speedup: against the plain path of the same case.

    cpu_speedup: the same of processor time, which says more than the clock when others use the machine, too.
    """

    model: str
    size: str
    frames: int
    path: str
    ms_per_frame: float
    fps: float
    gflop_per_s: float
    percent_of_peak: float
    speedup: float
    cpu_speedup: float
    psnr_db: float
    peak_mib: float


QUICK = [Case("light", 48, 32, 3), Case("IconVSR-16x1", 32, 32, 3)]
ON_CPU = [
    Case("light", 320, 240, 10),
    Case("IconVSR-64x30", 64, 64, 10),
    Case("IconVSR-64x30", 320, 180, 10),
    Case("BasicVSR-64x30", 320, 180, 5),
]
ON_GPU = [
    Case("light", 320, 180, 30),
    Case("IconVSR-64x30", 320, 180, 30),
    Case("BasicVSR-64x30", 320, 180, 30),
    Case("IconVSR-64x30", 640, 360, 15),
]


def network_named(model: str) -> VideoNetwork:
    """ "light" is the bundled model; "IconVSR-64x30" a network of that width and depth with weights from a formula."""
    if model == "light":
        try:
            from vs_iconvsr import weights

            return weights.load("light")
        except ImportError:  # a machine with nothing but torch: another network that does the same work
            torch.manual_seed(0)
            return LightVSR().eval().requires_grad_(False)
    kind, _, size = model.partition("-")
    channels, blocks = (int(number) for number in size.split("x"))
    if kind == "IconVSR":
        return filled(IconVSR(mid_channels=channels, num_blocks=blocks, edvr_channels=channels))
    return filled(BasicVSR(mid_channels=channels, num_blocks=blocks))


@dataclass
class StageTime:
    """What something took in s: by the clock, and of the processors."""

    clock: float = math.inf
    cpu: float = math.inf


def interleaved(paths: Mapping[str, Callable[[], Tensor]], device: torch.device, turns: int) -> dict[str, StageTime]:
    """What each takes; on a GPU after one turn that does not count."""
    best = {name: StageTime() for name in paths}
    for turn in range(turns + (device.type == "cuda")):
        for name, path in paths.items():
            _wait(device)
            start, cpu_start = time.perf_counter(), time.process_time()
            path()
            _wait(device)
            clock, cpu = time.perf_counter() - start, time.process_time() - cpu_start
            if turn >= (device.type == "cuda"):
                best[name] = StageTime(min(best[name].clock, clock), min(best[name].cpu, cpu))
    return best


def speed_rows(case: Case, device: torch.device, turns: int) -> list[Row]:
    """The plain path and the engine's of one case."""
    network = network_named(case.model)
    lr = sequence(case.frames, case.height, case.width).to(device)
    plain = network_named(case.model).to(device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        plain(lr[:, : min(case.frames, 5)])
    flop = counter.get_total_flops() / min(case.frames, 5)

    paths = {"plain float32": lambda: _plain(plain, lr)}
    for name, upscaler in _upscalers(network, case, device).items():
        paths[name] = lambda upscaler=upscaler: _engine(upscaler, lr[0])
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=_peak_type(device)) for _ in range(2))
    spent = interleaved({"peak": lambda: a @ b, **paths}, device, turns)
    peak = 2 * side**3 / spent.pop("peak").clock

    reference = _plain(plain, lr).cpu()
    rows = []
    for name, path in paths.items():
        _forget_peak(device)
        hr = path().cpu()
        each = spent[name].clock / case.frames
        rows.append(
            Row(
                model=case.model,
                size=f"{case.width}x{case.height}",
                frames=case.frames,
                path=name,
                ms_per_frame=each * 1e3,
                fps=1 / each,
                gflop_per_s=flop / each / 1e9,
                percent_of_peak=100 * flop / each / peak,
                speedup=spent["plain float32"].clock / spent[name].clock,
                cpu_speedup=spent["plain float32"].cpu / spent[name].cpu,
                psnr_db=psnr(hr, reference),
                peak_mib=peak_memory(device) / 2**20,
            )
        )
    return rows


def psnr(hr: Tensor, reference: Tensor) -> float:
    """In dB, of values in [0, 1]; infinite for equal pictures."""
    error = (hr.double() - reference.double()).square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def growth(model: str, device: torch.device, sizes: Sequence[int], lengths: Sequence[int], turns: int) -> dict:
    """Time over frames and over pixels; exponent 1 is linear. On the CPU it is processor time, all threads'."""
    network = network_named(model)
    found: dict = {"model": model}
    for over, cases in (
        ("frames", [Case(model, sizes[0], sizes[0], t) for t in lengths]),
        ("pixels", [Case(model, side, side, lengths[0]) for side in sizes]),
    ):
        paths = {}
        for case in cases:
            upscaler = next(iter(_upscalers(network, case, device).values()))
            lr = sequence(case.frames, case.height, case.width)[0].to(device)
            paths[str(case)] = lambda upscaler=upscaler, lr=lr: _engine(upscaler, lr)
        spent = interleaved(paths, device, turns)
        amounts = [case.frames if over == "frames" else case.width * case.height for case in cases]
        times = [spent[str(case)].cpu if device.type == "cpu" else spent[str(case)].clock for case in cases]
        found[over] = {"amount": amounts, "seconds": times, "exponent": exponent(amounts, times)}
    return found


def exponent(amounts: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(amount), least squares."""
    xs, ys = [math.log(a) for a in amounts], [math.log(v) for v in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def doors(case: Case, settings: Settings, *, programs: bool, turns: int) -> dict[str, StageTime]:
    """What a kept frame of the same clip and plan takes: the engine alone, the stream, decoder, engine and
    writer of iconvsr upscale with an encoder that throws all away, vspipe, and the whole command with x264 ultrafast.

    case.frames are whole segments. programs: also those that need VapourSynth, PyAV and ffmpeg. What a start takes is
    measured with a clip of half the length and taken off: a difference of two, so that the median of the turns counts.
    """
    network = network_named("light")
    plan = plan_for(settings, network, case.width, case.height)
    torch.set_num_threads(plan.threads)
    device = torch.device(plan.devices[0])
    rgb = sequence(case.frames, case.height, case.width)[0].to(device)
    clip = _clip(rgb)
    upscaler = Upscaler(network, device, plan.shape(case.width, case.height))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths: dict[str, Callable[[int], object]] = {
            "engine": lambda n: _segments(upscaler, rgb[:n], plan.segment, plan.context),
            "stream": lambda n: _through_stream(network, settings, case, clip[:n]),
        }
        if programs:
            paths["upscale to nowhere"] = lambda n: _to_nowhere(network, settings, _video(case, clip[:n], folder))
            paths["vspipe"] = lambda n: _vspipe(case, settings, n, folder)
            paths["iconvsr upscale"] = lambda n: _command(case, settings, clip[:n], folder)
        found: dict[str, list[StageTime]] = {name: [] for name in paths}
        half = case.frames // 2
        for _ in range(turns):
            for name, path in paths.items():
                whole, part = (_spent(lambda path=path, n=n: path(n)) for n in (case.frames, half))
                count = case.frames - half
                found[name].append(StageTime((whole.clock - part.clock) / count, (whole.cpu - part.cpu) / count))
    return {
        name: StageTime(statistics.median(each.clock for each in spent), statistics.median(each.cpu for each in spent))
        for name, spent in found.items()
    }


def own_time(case: Case, settings: Settings, *, programs: bool, turns: int) -> dict[str, float]:
    """What a door takes by the clock over what the engine's steps take in the same run: 1 is a door that costs nothing.

    On the CPU, where a step has done its work when it returns. Unlike `doors` this stands machines whose speed changes
    from run to run, but it does not see a step that a busy door slows down: their processor time tells of that.
    """
    network = network_named("light")
    clip = _clip(sequence(case.frames, case.height, case.width)[0])
    steps_s = 0.0
    step = Propagation.step

    def timed(propagation: Propagation) -> Tensor | None:
        nonlocal steps_s
        start = time.perf_counter()
        hr = step(propagation)
        steps_s += time.perf_counter() - start
        return hr

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, mock.patch.object(Propagation, "step", timed):
        paths: dict[str, Callable[[], object]] = {"stream": lambda: _through_stream(network, settings, case, clip)}
        if programs:
            video = _video(case, clip, Path(name))
            paths["upscale to nowhere"] = lambda: _to_nowhere(network, settings, video)
            paths["core.iconvsr"] = lambda: _in_a_core(case, settings)
        for _ in range(turns):
            for door, path in paths.items():
                steps_s = 0.0
                start = time.perf_counter()
                path()
                found.setdefault(door, []).append((time.perf_counter() - start) / steps_s)
    return {door: statistics.median(ratios) for door, ratios in found.items()}


def _clip(rgb: Tensor) -> list[tuple[Tensor, ...]]:
    return [tuple(_u8(plane) for plane in _planes(frame)) for frame in rgb.cpu()]


def _spent(work: Callable[[], object]) -> StageTime:
    """Of this process and of its children."""
    start, cpu_start = time.perf_counter(), _cpu_s()
    work()
    return StageTime(time.perf_counter() - start, _cpu_s() - cpu_start)


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def machine(device: torch.device) -> dict[str, str | int]:
    """What the figures depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "kind": device.type,
        "threads": torch.get_num_threads(),
        "load": f"{_load():.1f}",
        "fast_convolutions": uses_fast_convolutions(device, torch.float32),
        "vs_iconvsr": vs_iconvsr.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cuda": str(torch.version.cuda),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| model | lr size | frames | path | ms/frame | fps | GFLOP/s | % of peak | x plain | in CPU time | PSNR dB "
        "| peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.size} | {r.frames} | {r.path} | {r.ms_per_frame:.1f} | {r.fps:.2f} | {r.gflop_per_s:.0f} "
        f"| {r.percent_of_peak:.0f} | {r.speedup:.2f} | {r.cpu_speedup:.2f} | {r.psnr_db:.1f} | {r.peak_mib:.0f} |"
        for r in rows
    ]
    return lines


def plot(path: Path, grown: dict) -> None:
    """Time over frames and over pixels, as bars of s per unit: level bars are linear growth."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (760, 320), "white")
    draw = ImageDraw.Draw(picture)
    for i, over in enumerate(("frames", "pixels")):
        measured, left = grown[over], 20 + 380 * i
        each = [s / a for s, a in zip(measured["seconds"], measured["amount"], strict=True)]
        draw.text(
            (left, 10), f"{grown['model']}: time per {over[:-1]}; time ~ {over}^{measured['exponent']:.2f}", "black"
        )
        for k, (amount, value) in enumerate(zip(measured["amount"], each, strict=True)):
            x, top = left + 90 * k, 270 - round(210 * value / max(each))
            draw.rectangle((x, top, x + 60, 270), fill=(70, 110, 180))
            draw.text((x, 275), f"{amount} {over}\n{1e6 * value:.4g} us", "black")
    picture.save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, within a minute: whether it runs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: OMP_NUM_THREADS, else all)")
    parser.add_argument("--turns", type=int, default=3, help="how often each is run (default: %(default)s)")
    parser.add_argument("--case", action="append", metavar="MODEL:WxH:FRAMES", help="instead of the usual ones")
    parser.add_argument("--no-doors", action="store_true", help="the engine only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    options = parser.parse_args(arguments)

    plan = plan_for(Settings(device=options.device, threads=options.threads), network_named("light"), 64, 64)
    device = torch.device(plan.devices[0])
    torch.set_num_threads(plan.threads)
    cases = QUICK if options.quick else ON_CPU if device.type == "cpu" else ON_GPU
    if options.case:
        cases = [_case(text) for text in options.case]
    result: dict = {
        "machine": machine(device),
        "command": " ".join(["scripts/benchmark", *(arguments or sys.argv[1:])]),
    }
    for key, value in result["machine"].items():
        print(f"{key}: {value}", flush=True)
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
    if not options.no_doors:
        case, settings = _doors_case(options.quick, options.device, plan.threads)
        found = doors(case, settings, programs=not options.quick, turns=options.turns)
        result["doors"] = {name: asdict(spent) for name, spent in found.items()}
        for name, spent in found.items():
            more = 100 * (spent.cpu / found["engine"].cpu - 1)
            print(
                f"{name}: {1e3 * spent.clock:.1f} ms per kept frame of {case.width}x{case.height}, "
                f"{1e3 * spent.cpu:.1f} ms of processor time ({more:+.0f} %)"
            )
        if device.type == "cpu":
            result["own_time"] = own_time(case, settings, programs=not options.quick, turns=options.turns)
            for name, ratio in result["own_time"].items():
                print(f"{name}: {ratio:.3f} of the time of the engine's steps in the same run")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.plot:
        plot(options.plot, result["growth"])
    return 0


def _doors_case(quick: bool, device: str, threads: int) -> tuple[Case, Settings]:
    settings = Settings(segment=4 if quick else 10, context=1 if quick else 5, device=device, threads=threads)
    return (Case("light", 48, 32, 8) if quick else Case("light", 320, 240, 40)), settings


def _case(text: str) -> Case:
    model, size, frames = text.split(":")
    width, height = (int(side) for side in size.split("x"))
    return Case(model, width, height, int(frames))


def _upscalers(network: VideoNetwork, case: Case, device: torch.device) -> dict[str, Upscaler]:
    precisions = ("float32", "float16", "bfloat16") if device.type == "cuda" else ("float32",)
    made = {
        f"engine {precision}": Upscaler(network, device, Shape(case.width, case.height, precision=precision))
        for precision in precisions
    }
    if device.type == "cuda":  # not the engine's way before it has been measured
        last = Upscaler(network, device, Shape(case.width, case.height, precision="float16"))
        last.network.to(memory_format=torch.channels_last)
        made["engine float16, weights channels_last"] = last
    return made


def _plain(network: VideoNetwork, lr: Tensor) -> Tensor:
    """As the authors' code does it, with torchvision's deformable convolution on the CPU, too."""
    with torch.inference_mode(), mock.patch.object(edvr, "sampled_deform_conv", edvr.torchvision_deform_conv):
        return network(lr)[0]


def _engine(upscaler: Upscaler, lr: Tensor) -> Tensor:
    return _segments(upscaler, lr, 0, 0)


def _segments(upscaler: Upscaler, lr: Tensor, segment: int, context: int) -> Tensor:
    """Every frame, in segments with context as the stream makes them."""
    t = len(lr)
    hr = []
    for start in range(0, t, segment or t):
        kept = range(start, min(start + (segment or t), t))
        read = range(max(kept.start - context, 0), min(kept.stop + context, t))
        propagation = upscaler.propagate(Segment(kept, read), lambda n: lr[n], strategy=MemoryStrategy.KEEP)
        while not propagation.finished:
            frame = propagation.step()
            if frame is not None:
                hr.append(frame)
    return torch.stack(hr)


def _through_stream(network: VideoNetwork, settings: Settings, case: Case, clip: Sequence[tuple[Tensor, ...]]) -> None:
    with Stream(
        network,
        settings,
        source=YUV420P8,
        width=case.width,
        height=case.height,
        num_frames=len(clip),
        target=Format("YUV", "integer", 10, 1, 1),
    ) as stream:
        for n in range(len(clip)):
            while wanted := stream.missing(n):
                for k in wanted:
                    stream.put(k, clip[k], PROPERTIES)
            for k in stream.ahead(n):
                stream.put(k, clip[k], PROPERTIES)
            stream.frame(n)


def _in_a_core(case: Case, settings: Settings) -> None:
    import vapoursynth as vs

    clip = vs.core.std.BlankClip(
        format=vs.YUV420P8,
        width=case.width,
        height=case.height,
        length=case.frames,
        color=[90, 110, 140],
        keep=True,
    ).std.SetFrameProps(_Matrix=1, _Range=0)
    clip = clip.iconvsr.Upscale(
        segment=settings.segment, context=settings.context, device=settings.device, format=vs.YUV420P10
    )
    for _ in clip.frames(close=True):
        pass


def _vspipe(case: Case, settings: Settings, num_frames: int, folder: Path) -> None:
    script = folder / "benchmark.vpy"
    script.write_text(
        "import vapoursynth as vs\n"
        f"clip = vs.core.std.BlankClip(format=vs.YUV420P8, width={case.width}, height={case.height}, "
        f"length={num_frames}, color=[90, 110, 140], keep=True)\n"
        "clip = clip.std.SetFrameProps(_Matrix=1, _Range=0)\n"
        f"clip.iconvsr.Upscale(segment={settings.segment}, context={settings.context}, "
        f"device='{settings.device}', format=vs.YUV420P10).set_output()\n"
    )
    _run([str(Path(sys.executable).with_name("vspipe")), str(script), "--"], settings)


def _command(case: Case, settings: Settings, clip: Sequence[tuple[Tensor, ...]], folder: Path) -> None:
    source = _video(case, clip, folder)
    words = [str(Path(sys.executable).with_name("iconvsr")), "upscale", str(source), str(folder / "upscaled.mkv")]
    words += ["--overwrite", "--segment", str(settings.segment), "--context", str(settings.context)]
    words += ["--device", settings.device, "--no-scene-detect", "--preset", "ultrafast"]
    _run(words, settings)


def _run(words: Sequence[str], settings: Settings) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")


class _Nowhere:
    """PartSink of which nothing is kept, and their encoder, which takes what a real one is given."""

    path = Path(os.devnull)
    count = 0

    def open(self, part: object) -> "_Nowhere":
        del part
        return self

    def commit(self, part: object, encoder: object) -> None:
        del part, encoder

    def put(self, planes: Sequence[Tensor], pts: int) -> None:
        del pts
        torch.cat([plane.contiguous().view(torch.uint8).flatten() for plane in planes])
        self.count += 1

    def finish(self) -> None:
        return

    def kill(self) -> None:
        return


def _to_nowhere(network: VideoNetwork, settings: Settings, path: Path) -> None:
    from threading import Event

    from ffmpeg_filter.job.lines import Line, Lines

    from ffmpeg_filter.job.pipeline import FrameReader, Part, PartWriter
    from ffmpeg_filter.media import decode
    from ffmpeg_filter.media.probe import probe

    source = probe(path)

    def opened(sharers: int) -> Line:
        stream = Stream(
            network,
            settings,
            source=source.video.layout.format,
            width=source.video.width,
            height=source.video.height,
            num_frames=source.num_frames,
            target=Format("YUV", "integer", 10, 1, 1),
            sharers=sharers,
        )
        feed = FrameReader(lambda first: decode.pictures(source, first, decode.Damage()))
        return Line(stream, feed, PartWriter(_Nowhere(), source.timeline.pts))

    parts = [Part(0, range(source.num_frames))]
    Lines(parts, opened, encoders=1, stop=Event(), delivered=lambda _: None).run()


def _video(case: Case, clip: Sequence[tuple[Tensor, ...]], folder: Path) -> Path:
    """The clip as a file, written once."""
    import av
    import numpy as np

    path = folder / f"benchmark-{len(clip)}.mkv"
    if path.exists():
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = case.width, case.height, "yuv420p"
        for planes in clip:
            whole = np.concatenate([plane.numpy().reshape(-1) for plane in planes]).reshape(-1, case.width)
            for packet in stream.encode(av.VideoFrame.from_ndarray(whole, format="yuv420p")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def _planes(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Something like YUV 4:2:0 of a frame (3, h, w): only its size and that it moves matter here."""
    return rgb.mean(dim=0), rgb[2, ::2, ::2], rgb[0, ::2, ::2]


def _u8(plane: Tensor) -> Tensor:
    return (16 + 219 * plane).to(torch.uint8).contiguous()


def _peak_type(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """In bytes: of the GPU since the last _forget_peak; of the whole process so far on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _load() -> float:
    return os.getloadavg()[0]


if __name__ == "__main__":
    sys.exit(main())
