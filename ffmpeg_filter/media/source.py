"""What a source is for one job: its video stream, the time of each frame, and everything else that is to be kept."""

import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ffmpeg_filter.media.pixels import Layout


class SourceError(Exception):
    """A source that cannot be upscaled as it is; the message says what it is and what to do."""


@dataclass(frozen=True)
class Orientation:
    """How players turn a picture: by `angle` degrees counterclockwise; then, if `mirrored`, left and right change."""

    angle: float = 0
    mirrored: bool = False

    def __bool__(self) -> bool:
        return bool(self.angle) or self.mirrored

    def __str__(self) -> str:
        turned = [f"turned by {self.angle:g}°"] if self.angle else []
        return " and ".join([*turned, *(["mirrored"] if self.mirrored else [])]) or "upright"


@dataclass(frozen=True)
class VideoStream:
    """The stream to upscale: how its frames are stored, and what describes them.

    index: its number in the file. properties: color of the first frame under VapourSynth's names. rotation, mirrored:
    see Orientation. sample_aspect_ratio: 0 where unknown. tags: metadata that still holds for the upscaled video.
    mastering_display, content_light: HDR10 metadata as x265 writes it.
    """

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    layout: Layout
    properties: dict[str, int]
    sample_aspect_ratio: Fraction = Fraction(0)
    rotation: float = 0
    mirrored: bool = False
    interlaced: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    disposition: tuple[str, ...] = ()
    mastering_display: str | None = None
    content_light: str | None = None

    @property
    def orientation(self) -> Orientation:
        return Orientation(self.rotation, self.mirrored)


@dataclass(frozen=True)
class Timeline:
    """When each frame is shown.

    pts: the presentation timestamp of every frame in units of time_base, strictly ascending. last_duration: of the last
    frame, in the same units. start: the first timestamp of the whole file in seconds, sound included. by_order: the
    container's timestamps cannot be matched to decoded frames, so frames are counted. seekable: a reader that starts in
    the middle may seek there.
    """

    time_base: Fraction
    pts: tuple[int, ...]
    last_duration: int
    start: Fraction = Fraction(0)
    by_order: bool = False
    seekable: bool = True

    @property
    def num_frames(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float((self.pts[-1] + self.last_duration - self.pts[0]) * self.time_base)

    @property
    def durations(self) -> tuple[int, ...]:
        """How long each frame is shown, in units of time_base."""
        return (*(b - a for a, b in itertools.pairwise(self.pts)), self.last_duration)

    def time_of(self, frame: int) -> float:
        """Seconds at which a frame is shown."""
        return float(self.pts[frame] * self.time_base)

    def end_of(self, frame: int) -> int:
        """The timestamp at which a frame gives way to the next, in units of time_base."""
        return self.pts[frame + 1] if frame + 1 < len(self.pts) else self.pts[-1] + self.last_duration


@dataclass(frozen=True)
class ImageSequence:
    """Numbered images in place of a video file, in order.

    first_number: of their names. peak: the linear light that the models see as white, None where values are coded.
    """

    files: tuple[Path, ...]
    first_number: int = 0
    peak: float | None = None


@dataclass(frozen=True)
class Track:
    """One stream beside the video.

    kind: audio, subtitle, attachment, data, video or cover. first: the time of its first packet in seconds; None if
    there is none. tag: the four characters of its codec in mp4 and mov, once ffmpeg has listed the file.
    """

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""
    first: Fraction | None = None
    tag: str = ""

    def __str__(self) -> str:
        words = [self.kind, str(self.index), self.codec, self.language, f'"{self.title}"' if self.title else ""]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Telecined:
    """Where film comes from that was telecined: the source as it is stored, and the field that comes first."""

    stored: "MediaSource"
    order: str


@dataclass(frozen=True)
class MediaSource:
    """A source as one job sees it: a video file, or a sequence of images (then `images` is set).

    container: FFmpeg's name of the demuxer, or "images". lost: what the frames carry and the output will not. notes:
    what was repaired, for the user. other_bytes: the size of all streams but the video. carries_hdr10_plus: whether
    its HDR10+ metadata goes into the output. telecined: set where the frames and their times are those of the film in
    it (see media.telecine).
    """

    path: Path
    container: str
    video: VideoStream
    timeline: Timeline
    images: ImageSequence | None = None
    tracks: tuple[Track, ...] = ()
    chapters: int = 0
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_bytes: int = 0
    carries_hdr10_plus: bool = False
    telecined: Telecined | None = None

    @property
    def num_frames(self) -> int:
        return self.timeline.num_frames

    def image_number(self, frame: int) -> int:
        """The number that a frame has in the names of images: that of the image it came from, else counted from 0."""
        return frame + (self.images.first_number if self.images else 0)
