"""FFmpeg's frames to planes of numbers, and back."""

import torch
from av.video.frame import VideoFrame

from ffmpeg_filter.media.alpha import is_opaque
from ffmpeg_filter.media.pixels import alpha_message, layout_of, pixel_format_of, plane_order
from vs_iconvsr.colorspace import Format, Planes


def planes_of(frame: VideoFrame) -> Planes:
    """Copies of the frame's planes in our order, without the padding behind each line.

    Raises ValueError for a frame through which something could be seen.
    """
    if not is_opaque(frame):
        raise ValueError(alpha_message(frame.format.name))
    layout = layout_of(frame.format.name, opaque=True)
    # One thread: swscale's slices race, and the last row of one may spill into the first of the next (seen with p010).
    unpacked = frame.reformat(format=layout.decode_as, threads=1) if layout.decode_as else frame
    sizes = layout.format.plane_sizes(frame.width, frame.height)
    planes = []
    for number, (width, height) in zip(layout.order, sizes, strict=True):
        plane = unpacked.planes[number]
        whole = torch.frombuffer(plane, dtype=layout.format.dtype)
        line = plane.line_size // layout.format.dtype.itemsize
        planes.append(whole[: line * height].view(height, line)[:, :width].clone())
    return tuple(planes)


def frame_of(planes: Planes, layout: Format, width: int, height: int) -> VideoFrame:
    """Planes as a frame of FFmpeg's."""
    frame = VideoFrame(width, height, pixel_format_of(layout))
    for target, number in zip(frame.planes, plane_order(layout), strict=True):
        plane = planes[number].contiguous()
        padded = torch.zeros(plane.shape[0], target.line_size // plane.element_size(), dtype=plane.dtype)
        padded[:, : plane.shape[1]] = plane
        content = padded.view(torch.uint8).numpy().tobytes()
        target.update(content.ljust(target.buffer_size, b"\0")[: target.buffer_size])
    return frame
