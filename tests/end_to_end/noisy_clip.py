"""A clip of two noisy scenes for a real VapourSynth core, and what tests compare of frames."""

import hashlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import vapoursynth as vs

core = vs.core
WIDTH, HEIGHT, NUM_FRAMES, CUT = 32, 24, 41, 17
ARGUMENTS = {"segment": 8, "context": 2}
VSPIPE = Path(sys.executable).with_name("vspipe")


def samples(n: int, plane: int, shape: tuple[int, ...]) -> np.ndarray:
    scene = np.random.default_rng([n >= CUT, plane]).uniform(30, 220, (shape[0] // 2, shape[1] // 2))
    grain = np.random.default_rng([n, plane]).uniform(0, 8, shape)
    return (scene.repeat(2, axis=0).repeat(2, axis=1) + grain).astype(np.uint8)


def make_source(calls: Counter[int] | None = None, num_frames: int = NUM_FRAMES, **properties: int) -> vs.VideoNode:
    """A clip of two noisy scenes; calls counts how often each of its frames was made."""
    blank = core.std.BlankClip(
        format=vs.YUV420P8, width=WIDTH, height=HEIGHT, length=num_frames, fpsnum=24000, fpsden=1001, keep=True
    )

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if calls is not None:
            calls[n] += 1
        frame = f.copy()
        for plane in range(3):
            view = np.asarray(frame[plane])
            view[...] = samples(n, plane, view.shape)
        frame.props.update({"_Matrix": 6, "_Range": 0, "_DurationNum": 1001, "_DurationDen": 24000} | properties)
        return frame

    return core.std.ModifyFrame(blank, blank, fill)


def digest(frame: vs.VideoFrame) -> str:
    made = hashlib.md5()
    for plane in range(frame.format.num_planes):
        made.update(np.ascontiguousarray(np.asarray(frame[plane])).tobytes())
    properties = {k: v for k, v in frame.props.items() if isinstance(v, int)}
    return made.hexdigest() + str(sorted(properties.items()))
