"""Frames of a source as planes with their color, each under its index in the table of timestamps."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
from av.container import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame

from ffmpeg_filter.media import alpha, images, linear_light, telecine
from ffmpeg_filter.media.container import open_file, select_video
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.metadata import color_properties
from ffmpeg_filter.media.source import MediaSource, SourceError, Telecined
from vs_iconvsr.colorspace import Planes

logger = logging.getLogger(__name__)

# Fixed: how a decoder conceals damage depends on how it is threaded.
THREAD_TYPE = "AUTO"
THREADS = 4

# bwdif looks one frame back and one ahead; a reader that starts in the middle gives it this much to look back on.
_FILTER_RUN_UP = 4


@dataclass(frozen=True)
class DecodedFrame:
    """Frame `index` of the source: its planes (height, width) and its color under VapourSynth's property names."""

    index: int
    planes: Planes
    properties: dict[str, int]


@dataclass
class Damage:
    """Frames that the decoder marked as damaged, and frames it did not return, which repeat a neighbor."""

    damaged: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.damaged or self.missing)

    def take(self, found: "Damage", number: Callable[[int], int]) -> None:
        """Moves what another has found here, under other numbers."""
        for ours, theirs in ((self.damaged, found.damaged), (self.missing, found.missing)):
            ours += map(number, theirs)
            theirs.clear()


def decode_frames(
    source: MediaSource, first: int, damage: Damage, *, parity: str | None = None, ignore_interlaced: bool = False
) -> Iterator[DecodedFrame]:
    """Every frame from `first` to the last, in order, exactly one for each entry of the table of timestamps.

    A frame that the decoder does not return repeats the one before and is recorded in `damage`, as is every frame that
    the decoder itself marks. parity: deinterlace with this field first, "tff", "bff" or "auto" as flagged; None: leave
    the frames as they are. Raises SourceError where nothing can be decoded or a frame has another size or format.
    """
    progressive = ignore_interlaced or parity is not None or source.telecined is not None
    if source.telecined is not None:
        frames = _film_frames(source.telecined, first, damage)
    else:
        frames = _every_frame(source, first, damage, parity)
    for index, frame in frames:
        yield DecodedFrame(index, *_planes_and_properties(source, frame, index, ignore_interlaced=progressive))


def _every_frame(
    source: MediaSource, first: int, damage: Damage, parity: str | None
) -> Iterator[tuple[int, VideoFrame]]:
    """As `decode_frames`, still in FFmpeg's frames; a stand-in is the same frame once more."""
    expected = first
    last: VideoFrame | None = None
    for index, frame in _indexed_frames(source, first, parity):
        if index < expected:
            continue
        for missing in range(expected, index):
            damage.missing.append(missing)
            yield missing, last or frame
        if frame.is_corrupt:
            damage.damaged.append(index)
        yield index, frame
        expected, last = index + 1, frame
    if expected == source.num_frames:
        return
    if last is None:
        raise SourceError(f"input: expected {source.num_frames} frames, got none from frame {first} on: {source.path}")
    for missing in range(expected, source.num_frames):
        damage.missing.append(missing)
        yield missing, last


def _film_frames(film: Telecined, first: int, damage: Damage) -> Iterator[tuple[int, VideoFrame]]:
    """Every frame of the film from `first` to the last. damage: in frames of film."""
    begin, index = telecine.run_up(first)
    seen = Damage()
    for frame in telecine.film_frames(_stored_frames(film.stored, begin, seen), film.order):
        damage.take(seen, telecine.film_index)
        if index >= first:
            yield index, frame
        index += 1


def _stored_frames(source: MediaSource, first: int, damage: Damage) -> Iterator[VideoFrame]:
    """Every frame as it is stored, unpacked."""
    planar = source.video.layout.decode_as
    for index, frame in _every_frame(source, first, damage, None):
        _check_frame(source, frame, index, ignore_interlaced=True)
        yield frame.reformat(format=planar, threads=1) if planar else frame


def raw_frames(source: MediaSource, first: int) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames from about `first` on, never later, each with its index in the table of timestamps."""
    return _indexed_frames(source, first, None)


def _indexed_frames(source: MediaSource, first: int, parity: str | None) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their index in the table; may begin before `first`, but never after it."""
    if source.images:
        yield from images.read_images(source.images.files, first)
        return
    run_up = max(0, first - (_FILTER_RUN_UP if parity else 0))
    if run_up > 0 and source.timeline.seekable:
        sought = _decode_from(source, run_up, parity)
        start = next(sought, None)
        if start is not None and start[0] <= run_up:
            yield start
            yield from sought
            return
        logger.info("seeking to frame %d landed too late; decoding from the start instead", run_up)
    yield from _decode_from(source, 0, parity)


def _decode_from(source: MediaSource, first: int, parity: str | None) -> Iterator[tuple[int, VideoFrame]]:
    numbers = {pts: n for n, pts in enumerate(source.timeline.pts)}
    with open_file(source.path) as container:
        stream = select_video(container, source.video.index)
        stream.thread_type = THREAD_TYPE
        stream.codec_context.thread_count = THREADS
        if first > 0:
            container.seek(source.timeline.pts[first], stream=stream, backward=True, any_frame=False)
        frames = _decode(container, stream)
        if parity is not None:
            frames = _deinterlace(frames, stream, parity)
        for count, frame in enumerate(frames):
            index = count if source.timeline.by_order else numbers.get(frame.pts if frame.pts is not None else -1)
            if index is None:
                logger.debug("a decoded frame with pts %s is not in the table", frame.pts)
            elif index < source.num_frames:
                yield index, frame


def _decode(container: InputContainer, stream: av.VideoStream) -> Iterator[VideoFrame]:
    """Decodes on after errors, as players do; what is missing then shows in the indices."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError) as error:
            logger.warning("reading stopped: %s", error)
            yield from _flush(stream)
            return
        try:
            yield from packet.decode()
        except (av.FFmpegError, OSError) as error:
            logger.debug("a packet could not be decoded: %s", error)


def _flush(stream: av.VideoStream) -> Iterator[VideoFrame]:
    try:
        yield from stream.decode(None)  # frames that the decoder still holds
    except (av.FFmpegError, OSError, ValueError):
        return


def _deinterlace(frames: Iterator[VideoFrame], stream: av.VideoStream, parity: str) -> Iterator[VideoFrame]:
    """One frame for one frame, with the timestamps of the frames that went in (bwdif, in frame mode)."""
    graph = Graph()
    source = graph.add_buffer(template=stream)
    deinterlacer = graph.add("bwdif", f"mode=send_frame:parity={parity}:deint=all")
    sink = graph.add("buffersink")
    source.link_to(deinterlacer)
    deinterlacer.link_to(sink)
    graph.configure()
    timestamps: deque[int | None] = deque()  # the filter halves the time base; one frame leaves for each that came
    for frame in frames:
        timestamps.append(frame.pts)
        graph.push(frame)
        yield from _pull(graph, timestamps)
    graph.push(None)
    yield from _pull(graph, timestamps)


def _pull(graph: Graph, timestamps: deque[int | None]) -> Iterator[VideoFrame]:
    for frame in telecine.pulled(graph):
        frame.pts = timestamps.popleft()
        yield frame


def _planes_and_properties(
    source: MediaSource, frame: VideoFrame, index: int, *, ignore_interlaced: bool
) -> tuple[Planes, dict[str, int]]:
    _check_frame(source, frame, index, ignore_interlaced=ignore_interlaced)
    video = source.video
    properties = color_properties(frame, video.layout, video.codec) | {"_FieldBased": 0}
    planes = planes_of(frame)
    if source.images is None or source.images.peak is None:
        return planes, properties
    peak = source.images.peak
    coded = tuple(linear_light.to_srgb(plane, peak) for plane in planes)
    return tuple(plane.to(video.layout.format.dtype) for plane in coded), properties | {"_Transfer": linear_light.SRGB}


def _check_frame(source: MediaSource, frame: VideoFrame, index: int, *, ignore_interlaced: bool) -> None:
    """Raises SourceError for a frame of another kind than the probe found."""
    video = source.video
    if (frame.width, frame.height, frame.format.name) != (video.width, video.height, video.pixel_format):
        raise SourceError(
            f"input: expected {video.width}x{video.height} {video.pixel_format} to the end, got "
            f"{frame.width}x{frame.height} {frame.format.name} from frame {index} on; split the file there"
        )
    if frame.interlaced_frame and not ignore_interlaced:
        raise SourceError(
            f"input: expected progressive video, got an interlaced frame {index} "
            f"({source.timeline.time_of(index):.3f} s); pass --deinterlace, or --ignore-interlaced if the flag is wrong"
        )
    alpha.refuse_transparency(frame, index)
