"""Alpha that hides nothing is dropped; transparency is refused, also where a decoder would not show it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from ffmpeg_filter.media.container import open_file
from ffmpeg_filter.media.pixels import alpha_message, has_alpha
from ffmpeg_filter.media.source import SourceError

# Matroska keeps the alpha of these beside their packets. Only libvpx reads it; other decoders drop it silently.
_HIDING = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_HIDDEN_REMEDY = "remove it first: ffmpeg -i IN -map 0 -c copy -c:v ffv1 OUT.mkv"


def refuse_transparency(frame: VideoFrame, index: int) -> None:
    """Raises SourceError for a frame through which something could be seen."""
    if not is_opaque(frame):
        raise SourceError(f"input: frame {index} is transparent; {alpha_message(frame.format.name)}")


def refuse_transparent_frames(path: Path, stream: av.VideoStream, first: VideoFrame) -> None:
    """The same for every frame of a file, where its format has a place for alpha. first: its first frame.

    Decodes the whole file: a transparent frame in the middle must not end the work after hours.
    """
    hiding = _HIDING.get(stream.codec_context.codec.canonical_name)
    if hiding is not None:
        _refuse_hidden(path, stream, hiding)
    elif has_place(first):
        with open_file(path) as container:
            for index, frame in enumerate(_decoded(container, _same(container, stream))):
                refuse_transparency(frame, index)


def _refuse_hidden(path: Path, stream: av.VideoStream, decoder: str) -> None:
    with open_file(path) as container:
        if not _hides_alpha(_same(container, stream), container):
            return
    with open_file(path) as container:
        for index, frame in enumerate(_decoded(container, _same(container, stream), decoder)):
            if not is_opaque(frame):
                raise SourceError(
                    f"input: frame {index} is transparent; expected {stream.codec_context.name} without alpha, got "
                    f"alpha that only {decoder} decodes; {_HIDDEN_REMEDY}: {path}"
                )


def refuse_four_colors(codec: str, frame: VideoFrame) -> None:
    """Raises ValueError for CMYK: FFmpeg decodes a JPEG of four components as if the fourth were alpha."""
    if codec == "mjpeg" and has_alpha(frame.format.name):
        raise ValueError(
            "pixel format: expected YUV, RGB or GRAY, got CMYK (a JPEG of four components); "
            "convert it first: ffmpeg -i IN.jpg -pix_fmt rgb24 OUT.png"
        )


def has_place(frame: VideoFrame) -> bool:
    """Whether a frame of this format could be transparent."""
    return frame.format.has_palette or has_alpha(frame.format.name)


def is_opaque(frame: VideoFrame) -> bool:
    """Whether nothing shows through the frame: it has no alpha, or the largest everywhere."""
    name = frame.format.name
    if name == "pal8":
        return _palette_is_opaque(frame)
    if not has_alpha(name):
        return True
    if name.startswith(("yuva", "gbrap")):
        return _plane_is_opaque(frame)
    return _packed_is_opaque(frame)


def _plane_is_opaque(frame: VideoFrame) -> bool:
    component = frame.format.components[-1]
    plane = frame.planes[-1]
    if "f16" in frame.format.name or "f32" in frame.format.name:
        dtype = torch.float16 if "f16" in frame.format.name else torch.float32
        return bool((_rows(plane, dtype, frame) >= 1).all())
    if component.bits == 8:
        return bool((_rows(plane, torch.uint8, frame) == 255).all())
    values = _rows(plane, torch.uint8, frame, each=2).to(torch.int32)
    first, second = values[:, 0::2], values[:, 1::2]
    number = first * 256 + second if frame.format.is_big_endian else second * 256 + first
    return bool((number >> (component.bits - 8) == 255).all())


def _packed_is_opaque(frame: VideoFrame) -> bool:
    """As coarsely as in 8 bits: what was scaled up from there may have any lower bits."""
    component = frame.format.components[-1]
    size = max(1, component.bits // 8)
    count = len(frame.format.components)
    rows = _rows(frame.planes[0], torch.uint8, frame, each=size * count).view(frame.height, frame.width, count, size)
    alpha = rows[:, :, 0 if frame.format.name.startswith(("argb", "abgr", "ayuv")) else -1]
    if "f16" in frame.format.name or "f32" in frame.format.name:
        return bool((alpha.contiguous().view(torch.float16 if size == 2 else torch.float32) >= 1).all())
    return bool((alpha[:, :, 0 if frame.format.is_big_endian else -1] == 255).all())


def _palette_is_opaque(frame: VideoFrame) -> bool:
    """Only colors that occur count."""
    colors = torch.frombuffer(frame.planes[1], dtype=torch.uint8)[:1024].view(256, 4)
    used = torch.bincount(_rows(frame.planes[0], torch.uint8, frame).flatten().long(), minlength=256) > 0
    return bool((colors[used, 3] == 255).all())


def _rows(plane: VideoPlane, dtype: torch.dtype, frame: VideoFrame, *, each: int = 1) -> torch.Tensor:
    """The plane without its padding: (height, width * each)."""
    whole = torch.frombuffer(plane, dtype=dtype)
    line = plane.line_size // dtype.itemsize
    return whole[: line * frame.height].view(frame.height, line)[:, : frame.width * each]


def _same(container: InputContainer, stream: av.VideoStream) -> av.VideoStream:
    found = container.streams[stream.index]
    assert isinstance(found, av.VideoStream)
    return found


def _hides_alpha(stream: av.VideoStream, container: InputContainer) -> bool:
    if stream.metadata.get("alpha_mode") == "1":
        return True
    packet = next((p for p in container.demux(stream) if p.size), None)
    return packet is not None and packet.has_sidedata("matroska_block_additional")


def _decoded(container: InputContainer, stream: av.VideoStream, decoder: str | None = None) -> Iterator[VideoFrame]:
    """Frames by the decoder of that name, None for FFmpeg's own choice; damaged ones are passed over."""
    context = stream.codec_context if decoder is None else av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    packets = container.demux(stream)
    with contextlib.suppress(av.FFmpegError, OSError):
        for packet in packets:
            with contextlib.suppress(av.FFmpegError):
                yield from context.decode(packet if packet.size else None)
