"""Encoding and decoding lr frames in memory with real codecs, as compression does to video."""

import platform
import struct
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.sidedata.sidedata import Type
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

DECODERS = {"libx264": "h264", "mpeg2video": "mpeg2video", "mpeg4": "mpeg4", "mjpeg": "mjpeg"}
ENCODERS = tuple(DECODERS)
X86 = ("x86_64", "amd64", "i686")
# What x264's macroblock tree adds to the CRF, and takes off again for blocks that are referenced: (1 - qcomp) * 13.5.
TREE_CRF = 5.4

_H264, _MPEG = 1, 2  # FFmpeg's AVVideoEncParamsType


def encode_decode(lr: Tensor, encoder: str, *, quality: float, preset: str = "medium") -> Tensor:
    """Encode lr (t, 3, h, w) uint8 as 4:2:0 with one of ENCODERS and decode it; equal frames give equal bytes.

    quality: CRF for x264, quantizer (1, best, to 31) for the others. preset: for x264.
    """
    t, _, h, w = lr.shape
    padded = F.pad(lr.float(), (0, w % 2, 0, h % 2), mode="replicate").to(torch.uint8)
    context = _encoder(encoder, quality=quality, preset=preset)
    context.width, context.height = w + w % 2, h + h % 2
    packets = []
    for i, picture in enumerate(padded.permute(0, 2, 3, 1).contiguous().numpy()):
        packets += context.encode(_video_frame(picture, i, context))
    packets += context.encode(None)
    pictures = [_rgb_array(frame) for frame in _decode(packets, DECODERS[encoder])]
    if len(pictures) != t:
        raise RuntimeError(f"{encoder}: expected {t} frames back, got {len(pictures)}")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[..., :h, :w].contiguous()


def stream_quantiser(video: Path, *, frames: int = 250) -> float | None:
    """Mean quantizer of a file's first frames, read from its stream: 0 to 51 for H.264, 1 to 31 for MPEG-1, -2 and -4.

    None for codecs whose decoder does not export it. Raises av.FFmpegError.
    """
    found = []
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"export_side_data": "venc_params"}
        for frame in islice(container.decode(stream), frames):
            for kind in frame.side_data:
                if kind == Type.VIDEO_ENC_PARAMS:
                    found.append(_mean_quantiser(bytes(frame.side_data[kind])))
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _mean_quantiser(parameters: bytes) -> float | None:
    """Mean quantizer of one frame, from FFmpeg's AVVideoEncParams and the AVVideoBlockParams that follow it."""
    count, start, size, kind, quantiser = struct.unpack_from("<IxxxxQQii", parameters)
    differences = [struct.unpack_from("<i", parameters, start + i * size + 16)[0] for i in range(count)]
    if kind not in (_H264, _MPEG) or not count:
        return None
    mean = float(quantiser + np.mean(differences))
    return mean / 2.0 if kind == _MPEG else mean


def _encoder(name: str, *, quality: float, preset: str) -> VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, VideoCodecContext)
    context.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.thread_count = 1  # on every machine: slicing must not change the result of a resumed run
    if name == "libx264":
        # x264's AVX2 (and later) code of the macroblock tree gave different bytes for equal frames in up to 17 of 25
        # encodes, depending on what memory had held before; its code for older CPUs never did.
        asm = ":asm=SSE4" if platform.machine().lower() in X86 else ""
        context.options = {"crf": f"{quality:.1f}", "preset": preset, "x264-params": f"log-level=none{asm}"}
    else:
        context.qmin = context.qmax = max(1, round(quality))
        context.gop_size = 12
    return context


def _video_frame(picture: np.ndarray, i: int, context: VideoCodecContext) -> VideoFrame:
    rgb = VideoFrame.from_ndarray(picture, format="rgb24")
    frame = rgb.reformat(format=context.pix_fmt, dst_colorspace="ITU709", interpolation="BICUBIC", threads=1)
    frame.pts, frame.time_base = i, context.time_base
    return frame


def _decode(packets: "list[av.Packet[VideoStream]]", decoder: str) -> list[VideoFrame]:
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return [frame for packet in packets for frame in context.decode(packet)] + context.decode(None)


def _rgb_array(frame: VideoFrame) -> np.ndarray:
    """(h, w, 3) uint8."""
    return frame.reformat(format="rgb24", src_colorspace="ITU709", interpolation="BICUBIC", threads=1).to_ndarray()
