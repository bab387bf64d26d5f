"""seams.py MODEL CLIP...: what joints of segments and tiles cost, as Markdown tables.

Each CLIP is a folder of PNG frames, read as lr, or generated:FRAMES for footage of our own. In time: by how much the
difference between neighbouring hr frames is another than without segments, at joints and elsewhere, for several
contexts. In space: by how much tiled hr frames differ from whole ones within 4 lr px of a joint, for several halos.
All in code values of 255.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.synthesise import Generator, clips
from training.degrade.resize import imresize
from vs_iconvsr import weights
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Grid, Segment

CONTEXTS = (0, 2, 5, 10, 15)
HALOS = (0, 8, 16, 32, 48)
JOINT_PX = 4


def read(name: str, largest: int) -> Tensor:
    """lr frames (t, 3, h, w), no side longer than `largest`: cropped in the middle."""
    if name.startswith("generated:"):
        frames = int(name.removeprefix("generated:"))
        generator = Generator(seed=11, clips=1, frames=frames, size=4 * largest, canvases=3, canvas_px=12 * largest)
        lr = imresize(next(iter(clips(generator)))[0], 0.25).clamp(0, 1).float()
    else:
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(name).glob("*.png"))]
        lr = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    top, left = (max(0, (side - largest) // 2) for side in lr.shape[-2:])
    return lr[..., top : top + largest, left : left + largest].contiguous()


def upscale(upscaler: Upscaler, lr: Tensor, segments: list[Segment]) -> Iterator[Tensor]:
    for segment in segments:
        propagation = upscaler.propagate(segment, lambda n: lr[n], strategy=MemoryStrategy.KEEP)
        while not propagation.finished:
            hr = propagation.step()
            if hr is not None:
                yield hr.clamp(0, 1) * 255


def seam_row(upscaler: Upscaler, lr: Tensor, segment: int, context: int, whole: list[Tensor]) -> str:
    grid = Grid(len(lr), segment, context)
    starts = range(0, len(lr), segment)
    parts = upscale(upscaler, lr, [grid.segment_with(n, lambda _: False) for n in starts])
    changes = []
    for n, (before, after) in enumerate(itertools.pairwise(parts), start=1):
        change = (after - before) - (whole[n] - whole[n - 1])
        changes.append((n in starts, float(change.abs().mean()), float(change.abs().max())))
    joints = [change for change in changes if change[0]]
    others = [change for change in changes if not change[0]]
    share = 1.5 * context / segment
    mean_joint, mean_other = (float(np.mean([c[1] for c in group])) for group in (joints, others))
    worst = max(c[1] for c in joints)
    return f"| {segment} | {context} | {share:.0%} | {mean_joint:.3f} | {worst:.3f} | {mean_other:.3f} |"


def halo_row(network: VideoNetwork, lr: Tensor, tile: int, halo: int, whole: list[Tensor]) -> str:
    height, width = lr.shape[-2:]
    upscaler = Upscaler(network, torch.device("cpu"), Shape(width, height, (tile, tile), halo))
    near = torch.zeros(height, width, dtype=torch.bool)
    for part in upscaler.tiles:
        for joint in (part.kept_columns.start, part.kept_rows.start):
            if joint and joint == part.kept_columns.start:
                near[:, max(joint - JOINT_PX, 0) : joint + JOINT_PX] = True
            if joint and joint == part.kept_rows.start:
                near[max(joint - JOINT_PX, 0) : joint + JOINT_PX] = True
    near = near.repeat_interleave(network.scale, 0).repeat_interleave(network.scale, 1)
    segment = Segment(range(len(lr)), range(len(lr)))
    differences = [
        (tiled - one).abs().amax(dim=0)[near]
        for tiled, one in zip(upscale(upscaler, lr, [segment]), whole, strict=True)
    ]
    all_of_them = torch.cat(differences)
    quantile = float(np.quantile(all_of_them.numpy(), 0.999))
    return f"| {tile} | {halo} | {float(all_of_them.mean()):.4f} | {quantile:.3f} | {float(all_of_them.max()):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--largest", type=int, default=160, help="crop to this many lr px")
    parser.add_argument("--segments", type=int, nargs="+", default=[30])
    parser.add_argument("--contexts", type=int, nargs="*", default=CONTEXTS)
    parser.add_argument("--halos", type=int, nargs="*", default=HALOS)
    parser.add_argument("--tile", type=int, default=80)
    parser.add_argument("--tile-frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = weights.load(options.model)
    for name in options.clips:
        lr = read(name, options.largest)
        print(f"\n### {Path(name).name}: {len(lr)} frames of {lr.shape[3]}x{lr.shape[2]}, {options.model}\n")
        upscaler = Upscaler(network, torch.device("cpu"), Shape(lr.shape[3], lr.shape[2]))
        whole = list(upscale(upscaler, lr, [Segment(range(len(lr)), range(len(lr)))]))
        print(
            "| segment | context | trunk time | mean at joints | worst joint | elsewhere |\n|---|---|---|---|---|---|"
        )
        for segment in options.segments:
            for context in options.contexts:
                print(seam_row(upscaler, lr, segment, context, whole), flush=True)
        if not options.halos:
            continue
        few = lr[: options.tile_frames]
        if len(few) < len(lr):
            whole = list(upscale(upscaler, few, [Segment(range(len(few)), range(len(few)))]))
        print("\n| tile | halo | mean near joints | 99.9 % | largest |\n|---|---|---|---|---|")
        for halo in options.halos:
            print(halo_row(network, few, options.tile, halo, whole), flush=True)


if __name__ == "__main__":
    main()
