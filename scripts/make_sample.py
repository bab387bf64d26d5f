"""make_sample.py OUTPUT: a short clip of generated footage with sound, small enough to upscale on any machine."""

import sys
from pathlib import Path

import av
import numpy as np
import torch

from training.data.synthesise import Generator, clips
from training.degrade.resize import imresize

SIZE_PX, FRAMES, RATE, SAMPLE_RATE = 128, 12, 12, 48000


def pictures() -> list[np.ndarray]:
    """Two scenes as a camera of few pixels would have filmed them: uint8 RGB (h, w, 3)."""
    generator = Generator(seed=3, clips=2, frames=FRAMES, size=4 * SIZE_PX, canvases=2, canvas_px=10 * SIZE_PX)
    scenes = torch.cat([clip for clip, _ in clips(generator)])
    small = imresize(scenes, 0.25).clamp(0, 1)
    return [(frame * 255).round().byte().permute(1, 2, 0).contiguous().numpy() for frame in small]


def write(path: Path) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "14", "preset": "medium"})
        video.width = video.height = SIZE_PX
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        made = pictures()
        for picture in made:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        seconds = len(made) / RATE
        times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tone = (0.2 * np.sin(2 * np.pi * np.where(times < seconds / 2, 440.0, 554.37) * times)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: {2 * FRAMES} frames of {SIZE_PX}x{SIZE_PX} with sound, generated", file=sys.stderr)
