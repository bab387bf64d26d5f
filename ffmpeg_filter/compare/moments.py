"""Which moments of a video are hard to upscale and worth comparing: motion, detail, darkness."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ffmpeg_filter.media.decode import Damage, DecodedFrame, decode_frames
from ffmpeg_filter.media.source import MediaSource

# Places examined to pick moments: more take longer, and adjacent ones look alike anyway.
PLACES = 60

# Moments are at least this fraction (1/12) of the video apart: adjacent ones look alike.
_APART = 12

_BLACK, _DARK = 20, 70  # mean luma of 255: below the first nothing can be seen, above the second it is not dark


@dataclass(frozen=True)
class Moment:
    """A frame worth comparing, and why."""

    frame: int
    why: str


@dataclass(frozen=True)
class FrameMeasures:
    """Measures on 8-bit luma: mean change to the next frame, mean difference of horizontal neighbors, mean."""

    frame: int
    motion: float
    detail: float
    brightness: float


def measure(source: MediaSource, places: int = PLACES) -> list[FrameMeasures]:
    """Measures evenly spread places of the video, two frames each."""
    step = max(1, source.num_frames // places)
    found = []
    for n in range(0, source.num_frames, step):
        pair = list(itertools.islice(decode_frames(source, n, Damage(), ignore_interlaced=True), 2))
        luma = [_luma(source, picture) for picture in pair]
        motion = float((luma[-1] - luma[0]).abs().mean())
        detail = float((luma[0][:, 1:] - luma[0][:, :-1]).abs().mean())
        found.append(FrameMeasures(n, motion, detail, float(luma[0].mean())))
    return found


def pick(measured: Sequence[FrameMeasures], count: int = 2) -> list[Moment]:
    """Up to `count` moments of each kind: most motion, most detail, dark but not black; none close to another."""
    seen = [m for m in measured if m.brightness >= _BLACK] or list(measured)
    kinds = (
        ("motion", sorted(seen, key=lambda m: -m.motion)),
        ("detail", sorted(seen, key=lambda m: -m.detail)),
        ("darkness", sorted((m for m in seen if m.brightness <= _DARK), key=lambda m: -m.detail)),
    )
    frames = [m.frame for m in measured]
    apart = max(1, (max(frames) - min(frames)) // _APART)
    moments: list[Moment] = []
    for why, ranked in kinds:
        limit = len(moments) + count
        for m in ranked:
            if len(moments) < limit and all(abs(m.frame - other.frame) >= apart for other in moments):
                moments.append(Moment(m.frame, why))
    return sorted(moments, key=lambda moment: moment.frame)


def _luma(source: MediaSource, picture: DecodedFrame) -> torch.Tensor:
    """Luma, or green, as float of 0 to 255."""
    layout = source.video.layout.format
    plane = picture.planes[1 if layout.family == "RGB" else 0].to(torch.float32)
    return plane * (255.0 if layout.sample == "float" else 1 / (1 << (layout.bits - 8)))
