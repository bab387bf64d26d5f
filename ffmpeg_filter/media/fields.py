"""What interlaced frames say of their fields: which comes first, and whether film was stretched by 3:2 pulldown."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from ffmpeg_filter.media.decode import raw_frames
from ffmpeg_filter.media.source import MediaSource

# Three looks at the source, or one at its beginning where seeking is slow.
_LOOKS, _LOOK_FRAMES = 3, 120

# idet takes sharp edges of still frames for fields of either order; fields that were really shot in one agree in it.
_LEAST_SHARE, _MOST_AGAINST = 0.6, 0.05

# Film at 24 fps in 30 repeats one top and one bottom field in each five frames.
_PULLDOWN = (0.12, 0.28)

# The order that a frame is flagged with is what ffmpeg calls "auto".
AS_FLAGGED = "auto"


@dataclass(frozen=True)
class FieldFinding:
    """order: "tff" or "bff", the field that comes first, AS_FLAGGED where the frames do not show it."""

    order: str
    pulldown: bool

    def notes(self, flagged: str) -> list[str]:
        """For the user, of a source that is flagged with that order and deinterlaced."""
        found = []
        if self.order not in (AS_FLAGGED, flagged):
            names = {"tff": "top field first", "bff": "bottom field first", AS_FLAGGED: "progressive"}
            was, seen = names[flagged], names[self.order]
            found.append(f"fields: flagged as {was}, but the frames are {seen}; deinterlaced in that order")
        return [*found, *([f"fields: {PULLDOWN_TEXT}"] if self.pulldown else [])]


PULLDOWN_TEXT = (
    "the fields repeat as in film at 24 fps with 3:2 pulldown (telecine), which deinterlacing does not undo; "
    "better: --ivtc"
)


def examine_fields(source: MediaSource) -> FieldFinding:
    """Decodes some frames and asks ffmpeg's idet. Raises what decoding raises."""
    counts: dict[str, float] = {}
    for first, frames in _looks(source):
        for name, count in _ask_idet(frame for _, frame in islice(raw_frames(source, first), frames)).items():
            counts[name] = counts.get(name, 0.0) + count
    top, bottom, total = (counts.get(f"multiple.{name}", 0.0) for name in ("tff", "bff", "all"))
    order = AS_FLAGGED
    for name, share, against in (("tff", top, bottom), ("bff", bottom, top)):
        if total and share >= _LEAST_SHARE * total and against <= _MOST_AGAINST * share:
            order = name
    repeated = [counts.get(f"repeated.{name}", 0.0) / max(total, 1) for name in ("top", "bottom")]
    least, most = _PULLDOWN
    return FieldFinding(order, pulldown=all(least <= share <= most for share in repeated))


def flagged_order(source: MediaSource) -> str:
    """What the first frame is flagged as, "tff" or "bff", AS_FLAGGED for neither; only FFmpeg's filters can see it."""
    _, frame = next(raw_frames(source, 0))
    for order, kind in (("tff", "TOPFIRST"), ("bff", "BOTTOMFIRST")):
        graph = _graph_of(frame, "select", f"eq(interlace_type,{kind})".replace(",", "\\,"))
        graph.push(frame)
        graph.push(None)
        if _pull(graph) is not None:
            return order
    return AS_FLAGGED


def _looks(source: MediaSource) -> Iterator[tuple[int, int]]:
    """(first frame, how many frames) of each."""
    if not source.timeline.seekable or source.num_frames <= _LOOKS * _LOOK_FRAMES:
        yield 0, _LOOKS * _LOOK_FRAMES
        return
    for n in range(_LOOKS):
        yield source.num_frames * (2 * n + 1) // (2 * _LOOKS), _LOOK_FRAMES


def _ask_idet(frames: Iterator[VideoFrame]) -> dict[str, float]:
    """Its counts, such as "multiple.tff"; "multiple.all" is how many frames there were."""
    graph: Graph | None = None
    last: VideoFrame | None = None
    count = 0
    for frame in frames:
        if graph is None:
            graph = _graph_of(frame, "idet", "")
        graph.push(frame)
        last, count = _pull(graph) or last, count + 1
    if graph is None:
        return {}
    graph.push(None)
    last = _pull(graph) or last
    found = {} if last is None else dict(last.metadata)
    prefix = "lavfi.idet."
    named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return {name: float(value) for name, value in named.items() if "current" not in name} | {"multiple.all": count}


def _graph_of(frame: VideoFrame, name: str, arguments: str) -> Graph:
    """One filter, for frames like this one."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    middle, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    return graph


def _pull(graph: Graph) -> VideoFrame | None:
    """The last frame that the graph has ready, whose metadata counts all before."""
    last: VideoFrame | None = None
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return last
        assert isinstance(frame, VideoFrame)
        last = frame
