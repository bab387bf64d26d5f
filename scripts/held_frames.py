"""held_frames.py CLIP...: what it brings to give held frames one place in the propagation, as Markdown tables.

Each CLIP is a folder of PNG frames, or generated:FRAMES for footage of our own, cropped to a square in the middle. Its
frames are shown on twos and on threes: of each two or three all show the first. The networks get lr frames, bicubic,
once as they are shown and once without the repetitions; PSNR of luma against the frames that are shown. The last table
says which share of the repetitions on twos is still exact after an encoder, at the full size of the frames.
"""

import argparse
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ffmpeg_filter.media.ffmpeg import find_executable
from training.data.synthesise import Generator, clips
from training.degrade.degradation import bi
from training.metrics import luma, psnr
from vs_iconvsr import weights
from vs_iconvsr.networks.propagation import VideoNetwork

MODELS = ("light", "light-bi")
HOLDS = (2, 3)
ENCODED = {
    "x264, CRF 16": "-c:v libx264 -crf 16 -pix_fmt yuv420p",
    "x265, CRF 18": "-c:v libx265 -crf 18 -pix_fmt yuv420p",
    "AV1, CRF 25": "-c:v libsvtav1 -crf 25 -preset 8 -pix_fmt yuv420p",
    "MPEG-2": "-c:v mpeg2video -q:v 3 -pix_fmt yuv420p",
    "Motion JPEG": "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p",
    "ProRes HQ": "-c:v prores_ks -profile:v hq -pix_fmt yuv422p10le",
    "FFV1": "-c:v ffv1 -pix_fmt yuv420p",
}
BORDER_PX = 8
GENERATED_PX = 384


def read(name: str, side: int) -> Tensor:
    """gt frames (t, 3, side, side), uint8; of a folder those of full size where side is 0."""
    if name.startswith("generated:"):
        frames = int(name.removeprefix("generated:"))
        size = side or GENERATED_PX
        generator = Generator(seed=11, clips=1, frames=frames, size=size, canvases=3, canvas_px=3 * size)
        return (next(iter(clips(generator)))[0] * 255).round().to(torch.uint8)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(name).glob("*.png"))]
    gt = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    if not side:
        return gt.contiguous()
    top, left = ((length - side) // 2 for length in gt.shape[-2:])
    return gt[..., top : top + side, left : left + side].contiguous()


def upscale(network: VideoNetwork, lr: Tensor) -> tuple[Tensor, float]:
    """hr frames in 0..255, and the processor seconds that they took."""
    began = time.process_time()
    with torch.inference_mode():
        hr = network(lr[None].float() / 255)[0].clamp(0, 1) * 255
    return hr, time.process_time() - began


def mean_psnr(hr: Tensor, gt: Tensor) -> float:
    inner = (..., slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    return float(np.mean([psnr(luma(a[inner]), luma(b[inner])) for a, b in zip(hr, gt, strict=True)]))


def propagation_row(network: VideoNetwork, gt: Tensor, hold: int) -> str:
    """Held as they are, and without the repetitions, which then show the same hr frame."""
    drawings = gt[: len(gt) // hold * hold : hold]
    held = drawings.repeat_interleave(hold, dim=0)
    as_shown, seconds = upscale(network, bi(held, network.scale))
    collapsed, fewer_seconds = upscale(network, bi(drawings, network.scale))
    shown_db = mean_psnr(as_shown, held)
    collapsed_db = mean_psnr(collapsed, drawings)
    flicker = float((as_shown[1:] - as_shown[:-1]).abs().mean(dim=(1, 2, 3))[0::hold].mean())
    saved = 1 - fewer_seconds / seconds
    return f"{shown_db:.3f} | {collapsed_db:.3f} | {collapsed_db - shown_db:+.3f} | {flicker:.2f} | {saved:.0%} |"


def exact_share(gt: Tensor, arguments: str) -> float:
    """Of the repetitions on twos, how many are equal to the frame before when encoded and decoded."""
    held = gt.repeat_interleave(2, dim=0).permute(0, 2, 3, 1).contiguous()
    _, height, width, _ = held.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoded.mkv"
        raw = f"-v error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r 24 -i pipe:0"
        command = [find_executable().path, *shlex.split(f"{raw} {arguments}"), str(path)]
        subprocess.run(command, input=held.numpy().tobytes(), check=True)
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray() for frame in container.decode(video=0)]
    pairs = list(zip(decoded[::2], decoded[1::2], strict=True))
    return sum(bool(np.array_equal(one, other)) for one, other in pairs) / len(pairs)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument(
        "--side", type=int, default=GENERATED_PX, metavar="PX", help="of gt frames (default: %(default)s)"
    )
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    footage = {name: read(name, options.side) for name in options.clips}
    print(
        "| clip | on | model | as shown, dB | one place, dB | difference | between repetitions, of 255 | time saved |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, gt in footage.items():
        for hold in HOLDS:
            for model in MODELS:
                print(f"| {name} | {hold} | {model} | {propagation_row(weights.load(model), gt, hold)}", flush=True)
    print(f"\n| clip | {' | '.join(ENCODED)} |")
    print("|" + "---|" * (1 + len(ENCODED)))
    for name in options.clips:
        gt = read(name, 0)
        print(f"| {name} | {' | '.join(f'{exact_share(gt, coded):.0%}' for coded in ENCODED.values())} |", flush=True)


if __name__ == "__main__":
    main()
