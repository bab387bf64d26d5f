"""make_pictures.py [FOLDER]: the pictures of the documentation, made by the command itself; docs/pictures by default.

The photographs come with scikit-image and are free: astronaut (NASA, public domain) and coffee (Rachel Michetti, CC0).
A slow camera movement over each is reduced to a quarter of its size, encoded, and upscaled by `iconvsr upscale`.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch.nn import functional as F

from training.degrade.resize import imresize
from training.metrics import luma, psnr

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
FRAMES, SHOWN, SCALE = 15, 7, 4
STEP_PX = (1.7, 0.9)  # movement from frame to frame, in hr pixels
GAP_PX, LABEL_PX = 4, 26


@dataclass(frozen=True)
class Shot:
    """A movement over a photograph. left, top, width, height: of the first hr frame. crf: of the lr frames, or None."""

    photograph: str
    left: int
    top: int
    width: int
    height: int
    model: str
    crf: int | None


SHOTS = {
    "astronaut": Shot("astronaut", 60, 0, 320, 240, "light", 20),
    "coffee": Shot("coffee", 130, 60, 320, 240, "light-bi", None),
}


def ground_truth(shot: Shot) -> torch.Tensor:
    """The hr frames (t, 3, h, w) in 0..1: the photograph behind a moving window, between pixels by bicubic sampling."""
    whole = torch.from_numpy(getattr(data, shot.photograph)().copy()).permute(2, 0, 1)[None] / 255
    height, width = whole.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(shot.height), torch.arange(shot.width), indexing="ij")
    frames = []
    for n in range(FRAMES):
        x, y = columns + shot.left + n * STEP_PX[0], rows + shot.top + n * STEP_PX[1]
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)[None].float()
        frames.append(F.grid_sample(whole, grid, mode="bicubic", align_corners=False).clamp(0, 1))
    return torch.cat(frames)


def to_picture(frame: torch.Tensor) -> np.ndarray:
    return (frame * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def write_video(frames: torch.Tensor, path: Path, crf: int | None) -> None:
    """Lossless RGB without a crf, else H.264."""
    with av.open(str(path), "w") as container:
        options = {} if crf is None else {"crf": str(crf)}
        stream = container.add_stream("ffv1" if crf is None else "libx264", rate=24, options=options)
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "bgr0" if crf is None else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(to_picture(frame), format="rgb24")))
        container.mux(stream.encode(None))


def frame_of(path: Path, number: int) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[number]


def make(name: str, shot: Shot, folder: Path) -> None:
    """One picture: the lr frame enlarged by bicubic interpolation, upscaled, and as it was; luma PSNR on the labels."""
    truth = ground_truth(shot)
    with tempfile.TemporaryDirectory() as work:
        source, target = Path(work) / "lr.mkv", Path(work) / "hr_%05d.png"
        write_video(imresize(truth, 1 / SCALE).clamp(0, 1), source, shot.crf)
        command = [sys.executable, "-m", "ffmpeg_filter.cli", "upscale", str(source), str(target)]
        subprocess.run([*command, "--model", shot.model], check=True)
        made = np.asarray(Image.open(sorted(Path(work).glob("hr_*.png"))[SHOWN]).convert("RGB"))
        small = Image.fromarray(frame_of(source, SHOWN))
    original = to_picture(truth[SHOWN])
    size = original.shape[1], original.shape[0]
    enlarged = np.asarray(small.resize(size, Image.Resampling.BICUBIC))
    panels = [(enlarged, "bicubic"), (made, shot.model), (original, "original")]
    sheet(panels, original).save(folder / f"{name}.png", optimize=True)


def sheet(panels: list[tuple[np.ndarray, str]], original: np.ndarray) -> Image.Image:
    """Panels side by side, each with its name and, where it is not the original, its PSNR on luma."""
    height, width = original.shape[:2]
    whole = Image.new("RGB", (len(panels) * (width + GAP_PX) - GAP_PX, height + LABEL_PX), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(16)
    for i, (panel, label) in enumerate(panels):
        x = i * (width + GAP_PX)
        whole.paste(Image.fromarray(panel), (x, LABEL_PX))
        text = label if panel is original else f"{label}: {luma_psnr(panel, original):.2f} dB"
        draw.text((x + 2, 3), text, "black", font)
    return whole


def luma_psnr(panel: np.ndarray, original: np.ndarray) -> float:
    tensors = [torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double() for picture in (panel, original)]
    return psnr(luma(tensors[0]), luma(tensors[1]))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for name, shot in SHOTS.items():
        make(name, shot, target)
