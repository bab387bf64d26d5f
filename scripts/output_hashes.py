"""Hashes of everything the project writes: run it before and after a change that must not alter a byte.

    .venv/bin/python scripts/output_hashes.py --json before.json
    .venv/bin/python scripts/output_hashes.py --against before.json

Both runs belong on one machine: hashes differ between processors and between versions of torch and ffmpeg. The cases
cover the filter and the command in six formats each, a cut, tiles, two networks, seeks, the three memory strategies,
parts, numbered images and the pipe.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
import vapoursynth as vs

from vs_iconvsr import weights
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.segments import Segment

WIDTH, HEIGHT, FRAMES, CUT = 96, 80, 16, 9
COMMAND = Path(sys.executable).with_name("iconvsr")
FORMATS = {
    "yuv420p8": vs.YUV420P8,
    "yuv420p10": vs.YUV420P10,
    "yuv444p16": vs.YUV444P16,
    "rgb24": vs.RGB24,
    "rgbs": vs.RGBS,
    "gray8": vs.GRAY8,
}
PIXEL_FORMATS = {
    "yuv420p": ("out.mkv", ()),
    "yuv420p10le": ("out.mp4", ("--encoder", "x265")),
    "yuv422p": ("out.mov", ("--encoder", "prores")),
    "yuv444p": ("out.mkv", ("--encoder", "ffv1")),
    "gray": ("out.mkv", ()),
    "bgr0": ("out.mkv", ("--encoder", "ffv1", "--bits", "16")),
}


def picture(n: int) -> np.ndarray:
    """Frame n, uint8 RGB (height, width, 3): two scenes of drifting noise blocks."""
    scene = np.random.default_rng(int(n >= CUT)).integers(30, 220, (HEIGHT // 4, WIDTH // 4, 3))
    moved = np.roll(scene.repeat(4, axis=0).repeat(4, axis=1), (n, 2 * n), axis=(0, 1))
    return (moved + np.random.default_rng([n, 7]).integers(0, 8, moved.shape)).astype(np.uint8)


def source(format_id: int) -> vs.VideoNode:
    core = vs.core
    blank = core.std.BlankClip(format=vs.RGB24, width=WIDTH, height=HEIGHT, length=FRAMES, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane in range(3):
            np.asarray(frame[plane])[...] = picture(n)[..., plane]
        return frame

    rgb = core.std.ModifyFrame(blank, blank, fill)
    if format_id in (vs.RGB24, vs.RGBS):
        return core.resize.Point(rgb, format=format_id)
    return core.resize.Bicubic(rgb, format=format_id, matrix=6)


def frame_bytes(frame: vs.VideoFrame) -> bytes:
    planes = b"".join(np.ascontiguousarray(np.asarray(plane)).tobytes() for plane in frame)
    properties = sorted((key, value) for key, value in frame.props.items() if isinstance(value, int))
    return planes + repr(properties).encode()


def filter_bytes(format_id: int, order: Iterator[int] | range = range(FRAMES), **arguments: object) -> bytes:
    clip = vs.core.iconvsr.Upscale(source(format_id), **({"segment": 6, "context": 2} | arguments))
    frames = {n: frame_bytes(clip.get_frame(n)) for n in order}
    return b"".join(frames[n] for n in sorted(frames))


def engine(network_name: str, strategy: MemoryStrategy) -> bytes:
    network = weights.load(network_name)
    upscaler = Upscaler(network, torch.device("cpu"), Shape(WIDTH, HEIGHT, (64, 64), 8))
    lr = torch.stack([torch.from_numpy(picture(n)).permute(2, 0, 1).float() / 255 for n in range(12)])
    propagation = upscaler.propagate(Segment(range(2, 10), range(12)), lr.__getitem__, strategy=strategy)
    hr = []
    while not propagation.finished:
        if (made := propagation.step()) is not None:
            hr.append(made)
    return torch.stack(hr).numpy().tobytes()


def write_video(path: Path, pixel_format: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for n in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(n), format="rgb24").reformat(format=pixel_format, threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def command(folder: Path, pixel_format: str, name: str, options: tuple[str, ...]) -> bytes:
    video, output = folder / f"{pixel_format}.mkv", folder / name
    if not video.exists():
        write_video(video, pixel_format)
    shaping = ("--segment", "5", "--context", "2", "--part-frames", "5", "--overwrite")
    subprocess.run([COMMAND, "upscale", video, output, *shaping, *options], check=True, capture_output=True)
    if "%" in name:
        return b"".join(path.read_bytes() for path in sorted(folder.glob("images_*.png")))
    return output.read_bytes()


def pipe(folder: Path) -> bytes:
    video = folder / "pipe.mkv"
    write_video(video, "yuv420p")
    call = [COMMAND, "pipe", "--segment", "5", "--context", "2"]
    with video.open("rb") as incoming:
        return subprocess.run(call, stdin=incoming, check=True, capture_output=True).stdout


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    torch.manual_seed(0)
    narrow = folder / "narrow.safetensors"
    weights.save(IconVSR(mid_channels=16, num_blocks=2).eval(), narrow, provenance={"name": "narrow"})
    for name, format_id in FORMATS.items():
        yield f"filter {name}", lambda format_id=format_id: filter_bytes(format_id)
    yield "filter narrow IconVSR", lambda: filter_bytes(vs.YUV420P8, model=str(narrow))
    yield "filter tiles", lambda: filter_bytes(vs.YUV420P8, tile=[64, 64], halo=8)
    yield "filter without cuts", lambda: filter_bytes(vs.YUV420P8, scene_detect=0)
    yield "filter whole scenes", lambda: filter_bytes(vs.YUV420P8, segment=0)
    yield "filter to 10 bit 4:4:4", lambda: filter_bytes(vs.YUV420P8, format=vs.YUV444P10, dither="none")
    yield "filter seeks", lambda: filter_bytes(vs.YUV420P8, order=iter((13, 2, 9, 8, 3, 15, 0)))
    for strategy in MemoryStrategy:
        yield f"engine light {strategy}", lambda strategy=strategy: engine("light", strategy)
        yield f"engine narrow {strategy}", lambda strategy=strategy: engine(str(narrow), strategy)
    for pixel_format, (name, options) in PIXEL_FORMATS.items():
        yield (
            f"command {pixel_format}",
            lambda pixel_format=pixel_format, name=name, options=options: command(folder, pixel_format, name, options),
        )
    model = ("--model", str(narrow), "--tile", "64x64", "--halo", "8")
    yield "command narrow IconVSR, tiles", lambda: command(folder, "yuv420p", "tiles.mkv", model)
    yield "command images", lambda: command(folder, "yuv420p", "images_%03d.png", ())
    yield "pipe", lambda: pipe(folder)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE", help="where the hashes go")
    options.add_argument(
        "--against", type=Path, metavar="FILE", help="hashes to compare with; exit code 1 if any differ"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hashes = {}
        for name, make in cases(Path(folder)):
            hashes[name] = hashlib.sha256(make()).hexdigest()
            print(f"{hashes[name][:16]}  {name}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(hashes, indent=1) + "\n")
    if given.against is None:
        return 0
    before = json.loads(given.against.read_text())
    different = sorted(name for name in before.keys() | hashes.keys() if before.get(name) != hashes.get(name))
    print(f"{len(hashes) - len(different)} of {len(hashes)} equal" + "".join(f"\nDIFFERENT: {n}" for n in different))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
