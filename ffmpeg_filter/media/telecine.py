"""3:2 pulldown undone: four frames of film for each five that are stored, and the time of each.

Cycles of five frames are counted from the first frame of the source, not from where a reader starts. Which frame of
a cycle is dropped depends on that cycle and the frame before it, so that a reader may start one cycle early anywhere.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from statistics import median

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from ffmpeg_filter.media.pixels import layout_of
from ffmpeg_filter.media.source import MediaSource, SourceError, Telecined, Timeline

# Of so many stored frames, film has so many.
CYCLE, FILM = 5, 4

_RATE = Fraction(30000, 1001)
# Times are whole milliseconds in some containers; a capture may have lost a frame now and then.
_RATE_TOLERANCE, _LEAST_STEADY = 0.1, 0.99
# What fieldmatch takes as it is.
_PIXEL_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p")

# Cadence breaks at edits, and video in between, leave combed frames: fieldmatch flags them, bwdif deinterlaces those.
_FILTERS = (
    ("fieldmatch", "order={order}:combmatch=full"),
    ("bwdif", "mode=send_frame:deint=interlaced"),
    ("decimate", f"cycle={CYCLE}"),
)


def check_telecined(source: MediaSource, *, interlaced: bool) -> None:
    """Raises SourceError for what cannot be telecined film. interlaced: whether its flags or its frames say so."""
    durations = [float(duration * source.timeline.time_base) for duration in source.timeline.durations]
    steady = sum(abs(seconds * _RATE - 1) <= _RATE_TOLERANCE for seconds in durations)
    if steady < _LEAST_STEADY * len(durations):
        rate = f"{1 / median(durations):.6g}"
        varies = f" and a rate that varies ({steady / len(durations):.0%} of the frames at 29.97)" if steady else ""
        raise SourceError(
            f"ivtc: expected telecined video, 29.97 frames a second, got {rate}{varies}: {source.path}; "
            "leave out --ivtc"
        )
    if not interlaced:
        raise SourceError(
            f"ivtc: expected telecined video, got progressive frames: {source.path}; leave out --ivtc, frames that "
            "repeat as a whole are not undone"
        )
    layout = source.video.layout
    if (layout.decode_as or source.video.pixel_format) not in _PIXEL_FORMATS:
        chroma = {(1, 1): "420", (1, 0): "422"}.get((layout.format.subsampling_w, layout.format.subsampling_h), "444")
        raise SourceError(
            "ivtc: expected YUV of 8 bits in limited range, which ffmpeg's fieldmatch needs, got "
            f"{source.video.pixel_format}: {source.path}; convert it first: ffmpeg -i IN -vf format=yuv{chroma}p "
            "-c:v ffv1 -c:a copy OUT.mkv"
        )


def film_of(stored: MediaSource, order: str) -> MediaSource:
    """The film in a telecined source. order: the field that comes first, "tff", "bff" or "auto" as flagged."""
    planar = stored.video.layout.decode_as or stored.video.pixel_format
    video = replace(stored.video, pixel_format=planar, layout=layout_of(planar), interlaced=False)
    return replace(stored, video=video, timeline=film_timeline(stored.timeline), telecined=Telecined(stored, order))


def note(stored: MediaSource, *, recognized: bool) -> str:
    """What is done with a telecined source, for the user."""
    frames = film_timeline(stored.timeline).num_frames
    text = f"ivtc: 3:2 pulldown is undone, {stored.num_frames} frames become {frames} of film in the same time"
    if recognized:
        return text
    return f"{text}; it was not seen in the frames looked at, but one of each five is dropped all the same"


def film_timeline(stored: Timeline) -> Timeline:
    """The frames of each cycle evenly over its time; those of a last, shorter cycle keep their own times.

    Exact, and a pause stays where it is: a frame of film begins a whole number of quarters into a stored frame.
    """
    whole = stored.num_frames // CYCLE * CYCLE
    places = [divmod(CYCLE * n, FILM) for n in range(whole // CYCLE * FILM)]
    places += [(n, 0) for n in range(whole, stored.num_frames)]
    durations = stored.durations
    pts = tuple(FILM * stored.pts[n] + quarters * durations[n] for n, quarters in places)
    end = FILM * stored.end_of(stored.num_frames - 1)
    return replace(stored, time_base=stored.time_base / FILM, pts=pts, last_duration=end - pts[-1])


def film_index(stored: int) -> int:
    """The frame of film that is shown when a stored frame was."""
    return stored // CYCLE * FILM + min(stored % CYCLE, FILM - 1)


def run_up(film: int) -> tuple[int, int]:
    """Where a reader starts that wants this frame of film: the stored frame, and the frame of film at that place."""
    cycle = max(0, film // FILM - 1)
    return cycle * CYCLE, cycle * FILM


def film_frames(frames: Iterator[VideoFrame], order: str) -> Iterator[VideoFrame]:
    """Four for each five, and all of a last, shorter cycle. frames: every one, from the first of a cycle to the end."""
    graph: Graph | None = None
    for number, frame in enumerate(frames):
        graph = graph or _graph_for(frame, order)
        frame.pts = number
        graph.push(frame)
        yield from pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from pulled(graph)


def _graph_for(frame: VideoFrame, order: str) -> Graph:
    graph = Graph()
    size, pixel_format = f"{frame.width}x{frame.height}", frame.format.name
    rate = "time_base=1001/30000:frame_rate=30000/1001"
    last = graph.add("buffer", f"video_size={size}:pix_fmt={pixel_format}:{rate}")
    for name, arguments in (*_FILTERS, ("buffersink", "")):
        following = graph.add(name, arguments.format(order=order))
        last.link_to(following)
        last = following
    graph.configure()
    return graph


def pulled(graph: Graph) -> Iterator[VideoFrame]:
    """What a graph of filters has ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame
