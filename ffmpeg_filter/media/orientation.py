"""How players turn and mirror a video before they show it: read from a frame, written by ffmpeg, applied to pixels."""

import math
import struct

import av
import torch

from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.source import Orientation, SourceError
from vs_iconvsr.colorspace import Planes

_FLIP = "display_hflip"
_SHEAR_LIMIT = 1e-3


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The display matrix of a frame. Raises SourceError for one that is more than turning, mirroring and scaling."""
    data = next((bytes(d) for k, d in frame.side_data.items() if getattr(k, "name", k) == "DISPLAYMATRIX"), None)
    return Orientation() if data is None else of_matrix(struct.unpack("9i", data[:36]))


def of_matrix(matrix: tuple[int, ...]) -> Orientation:
    """FFmpeg's display matrix as an orientation. Scaling is ignored: the pixel aspect ratio says it."""
    a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
    across, down = math.hypot(a, b), math.hypot(c, d)
    if not across or not down or abs(a * c + b * d) > _SHEAR_LIMIT * across * down:
        raise SourceError(
            f"input: expected a video that is rotated or mirrored at most, got one that is sheared ({matrix}); "
            "remove that: ffmpeg -display_rotation 0 -i IN -c copy OUT.mp4"
        )
    mirrored = a * d < b * c
    angle = round(math.degrees(-math.atan2(b, -a if mirrored else a)), 3) % 360
    return Orientation(int(angle) if angle == int(angle) else angle, mirrored)


def display_options(orientation: Orientation, executable: Executable) -> list[str]:
    """Options before an input of ffmpeg that give its video the orientation; none where there is nothing to say.

    Empty also for an ffmpeg that has no such options: then the video must say it itself.
    """
    if not orientation or not writes(executable):
        return []
    return ["-display_rotation:v:0", f"{orientation.angle:g}", *([f"-{_FLIP}:v:0"] if orientation.mirrored else [])]


def writes(executable: Executable) -> bool:
    """Whether this ffmpeg has options for orientations."""
    return "display_rotation" in executable.options


def check_orientation(orientation: Orientation, container: str, executable: Executable) -> None:
    """Raises ValueError where the video would lie on its side: ffmpeg before 6 writes some of it nowhere."""
    if writes(executable) or not (orientation.mirrored or (orientation.angle and container in ("mkv", "webm"))):
        return
    remedy = "" if orientation.mirrored else "name the output .mp4 or .mov, or "
    raise ValueError(
        f"output: ffmpeg {executable.version} cannot say in .{container} that the video is {orientation}; "
        f"{remedy}pass --ffmpeg with version 6 or newer"
    )


def upright(planes: Planes, orientation: Orientation) -> Planes:
    """Planes (height, width) as a player shows them; angles between right ones are taken for the one below."""
    turned = (torch.rot90(plane, int(orientation.angle) // 90) for plane in planes)  # both turn counterclockwise
    return tuple(plane.flip(1) if orientation.mirrored else plane for plane in turned)
