"""From ground truth to what the network gets: BI, BD, blur, and what happens to video: noise and real encoders."""

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from torch import Tensor

from training.resize import (
    BD_SIGMA,
    bicubic_matrix,
    gaussian_matrix,
    separable,
    shifted_gaussian_matrix,
    to_bytes,
)

KINDS = ("bi", "bd", "bd-pfnl", "blur", "x264", "video")

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One way to make lr frames. Ranges are drawn from once per sequence and stay for all its frames.

    kind: one of KINDS. "blur" is a centred Gaussian of sigma; "x264" is BI, then x264 (preset medium), nothing else;
    "video" is BI or a blur of sigma, then noise, then an encoder. share: how often it is chosen, relative to the
    others. sigma: px of the ground truth. noise: standard deviation in 8-bit code values. crf: of x264. quantiser: of
    MPEG-2 and MPEG-4 part 2. encoders: chosen among evenly; a name twice is chosen twice as often.
    """

    kind: str = "bi"
    share: float = 1.0
    sigma: tuple[float, float] = (0.8, 2.0)
    noise: tuple[float, float] = (0.0, 4.0)
    crf: tuple[float, float] = (14.0, 30.0)
    quantiser: tuple[float, float] = (2.0, 8.0)
    encoders: tuple[str, ...] = ("libx264",)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: wanted one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.share <= 0.0:
            raise ValueError(f"share: wanted more than 0, got {self.share}")
        for name in ("sigma", "noise", "crf", "quantiser"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: wanted [lowest, highest], got {[low, high]}")
        if self.sigma[0] <= 0.0:
            raise ValueError(f"sigma: wanted more than 0, got {self.sigma[0]}")
        if unknown := set(self.encoders) - set(_ENCODERS):
            raise ValueError(f"encoders: wanted some of {', '.join(_ENCODERS)}, got {', '.join(sorted(unknown))}")


def degrade(gt: Tensor, degradation: Degradation, scale: int, *, random: Random) -> Tensor:
    """gt (t, 3, H, W) uint8 → lr (t, 3, H/scale, W/scale) uint8; H and W are multiples of scale."""
    h, w = gt.shape[-2:]
    if h % scale or w % scale:
        raise ValueError(f"gt: wanted a height and width that {scale} divides, got {h}x{w}")
    kind = degradation.kind
    if kind == "bi":
        return bi(gt, scale)
    if kind == "bd":
        return centred_blur(gt, scale, BD_SIGMA)
    if kind == "bd-pfnl":
        rows, columns = (shifted_gaussian_matrix(side, scale, BD_SIGMA) for side in (h, w))
        return to_bytes(separable(gt, rows, columns))
    if kind == "x264":
        return encode_decode(bi(gt, scale), replace(degradation, encoders=("libx264",)), random=random)
    # Rounded, so that the matrices can be kept: one is made for each sigma and size.
    sigma = round(random.uniform(*degradation.sigma), 2)
    if kind == "blur":
        return centred_blur(gt, scale, sigma)
    lr = bi(gt, scale) if random.random() < 0.5 else centred_blur(gt, scale, sigma)
    return encode_decode(_noisy(lr, degradation, random), degradation, random=random)


def bi(gt: Tensor, scale: int) -> Tensor:
    """MATLAB's imresize(…, 1/scale, 'bicubic') on uint8."""
    h, w = gt.shape[-2:]
    rows, columns = (bicubic_matrix(side, side // scale, 1.0 / scale) for side in (h, w))
    return to_bytes(separable(gt, rows, columns))


def centred_blur(gt: Tensor, scale: int, sigma: float) -> Tensor:
    """A Gaussian centred on each square of scale px, sampled there; BD with sigma 1.6 and scale 4."""
    h, w = gt.shape[-2:]
    return to_bytes(separable(gt, gaussian_matrix(h, scale, sigma), gaussian_matrix(w, scale, sigma)))


def encode_decode(lr: Tensor, degradation: Degradation, *, random: Random) -> Tensor:
    """lr (t, 3, h, w) uint8 through 4:2:0 and a real encoder and decoder; odd sizes are padded for the encoder."""
    t, _, h, w = lr.shape
    padded = torch.nn.functional.pad(lr.float(), (0, w % 2, 0, h % 2), mode="replicate").to(torch.uint8)
    encoder = degradation.encoders[int(random.integers(len(degradation.encoders)))]
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = w + w % 2, h + h % 2
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.thread_count = 1
    _ENCODERS[encoder](context, degradation, random)

    packets = []  # one thread everywhere: swscale's and the codecs' slices must not make a resumed run another one
    for i, picture in enumerate(padded.permute(0, 2, 3, 1).contiguous().numpy()):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", interpolation="BICUBIC", threads=1
        )
        frame.pts = i
        frame.time_base = context.time_base
        packets += context.encode(frame)
    packets += context.encode(None)
    decoder = av.CodecContext.create(_DECODERS[encoder], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    if len(frames) != t:
        raise RuntimeError(f"{encoder}: wanted {t} frames back, got {len(frames)}")
    pictures = [
        frame.reformat(format="rgb24", src_colorspace="ITU709", interpolation="BICUBIC", threads=1).to_ndarray()
        for frame in frames
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[..., :h, :w].contiguous()


def _noisy(lr: Tensor, degradation: Degradation, random: Random) -> Tensor:
    strength = random.uniform(*degradation.noise)
    if strength <= 0.0 or random.random() < 0.4:
        return lr
    noise = strength * random.standard_normal(lr.shape, dtype=np.float32)
    return to_bytes(lr.float() + torch.from_numpy(noise))


def _x264(context: VideoCodecContext, degradation: Degradation, random: Random) -> None:
    preset = "medium" if degradation.kind == "x264" else ("veryfast", "medium")[int(random.integers(2))]
    context.options = {
        "crf": f"{random.uniform(*degradation.crf):.1f}",
        "preset": preset,
        "x264-params": "log-level=none",
    }


def _mpeg(context: VideoCodecContext, degradation: Degradation, random: Random) -> None:
    context.qmin = context.qmax = max(1, round(random.uniform(*degradation.quantiser)))
    context.gop_size = 12


_ENCODERS = {"libx264": _x264, "mpeg2video": _mpeg, "mpeg4": _mpeg}
_DECODERS = {"libx264": "h264", "mpeg2video": "mpeg2video", "mpeg4": "mpeg4"}
