"""Which streams of a source go into a container with the upscaled video: the plan, before ffmpeg's muxer is tried."""

from collections.abc import Iterator
from dataclasses import dataclass

from ffmpeg_filter.media.source import MediaSource, Track

CONTAINERS = {".mkv": "mkv", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
IMAGES = "images"  # in the place of a container's name: numbered images
TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})


@dataclass(frozen=True)
class StreamMapping:
    """What of the source goes into a container with the video, what is converted for it, and what is left out.

    subtitles: for each subtitle stream that is kept, (its track, the codec to convert to or None). covers: pictures.
    left: one line for each item that is not kept, with the reason. changed: one for each that is converted. tag: the
    video's four characters in mp4 and mov. data: telemetry and the like. side_data: metadata in the frames of
    the finished file that was expected to be lost.
    """

    audio: tuple[Track, ...] = ()
    subtitles: tuple[tuple[Track, str | None], ...] = ()
    attachments: tuple[Track, ...] = ()
    covers: tuple[Track, ...] = ()
    left: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    tag: str | None = None
    data: tuple[Track, ...] = ()
    side_data: tuple[str, ...] = ()


def stream_mapping(source: MediaSource, container: str) -> StreamMapping:
    """Sorts the tracks of the source for a container. What its muxer refuses is found by trial."""
    if container == IMAGES:
        return _image_mapping(source)
    subtitles = [(t, subtitle_codecs(t, container)[0]) for t in source.tracks if t.kind == "subtitle"]
    return StreamMapping(
        audio=tuple(t for t in source.tracks if t.kind == "audio"),
        subtitles=tuple(subtitles),
        attachments=tuple(t for t in source.tracks if t.kind == "attachment" and container == "mkv"),
        covers=tuple(t for t in source.tracks if t.kind == "cover" and container in ("mkv", "mp4")),
        left=(*_left(source, container), *_lost_metadata(source)),
        changed=tuple(changed_text(track, codec) for track, codec in subtitles if codec is not None),
        data=tuple(t for t in source.tracks if t.kind == "data" and not is_rewritten(t)),
    )


def subtitle_codecs(track: Track, container: str) -> tuple[str | None, ...]:
    """The forms to try for a subtitle stream, best first; None: as it is."""
    if container == "webm":
        return ("webvtt",) if track.codec in TEXT_SUBTITLES - {"webvtt"} else (None,)
    if container == "mkv":
        return ("srt",) if track.codec in ("mov_text", "text") else (None, "ass")
    if track.codec == "mov_text":
        return (None,)
    return ("mov_text",) if track.codec in TEXT_SUBTITLES else (None, "mov_text")


def changed_text(track: Track, codec: str) -> str:
    styles = ", styles are lost" if track.codec in ("ass", "ssa") and codec != "ass" else ""
    return f"{track}: stored as {codec}{styles}"


def is_rewritten(track: Track) -> bool:
    """Chapter titles of mp4 and time codes, which the muxer makes from chapters and tags."""
    return track.tag in ("text", "tmcd")


def _left(source: MediaSource, container: str) -> Iterator[str]:
    for track in source.tracks:
        if track.kind == "attachment" and container != "mkv":
            yield f"{track}: .{container} cannot hold attachments; .mkv keeps it"
        elif track.kind == "cover" and container not in ("mkv", "mp4"):
            yield f"{track}: .{container} cannot hold a cover picture; .mkv and .mp4 keep it"
        elif track.kind == "video":
            yield f"{track}: only one video stream is upscaled"
        elif track.kind not in ("audio", "subtitle", "attachment", "cover", "data"):
            yield f"{track}: ffmpeg does not recognize it"


def _image_mapping(source: MediaSource) -> StreamMapping:
    left = [f"{track}: images hold nothing else" for track in source.tracks]
    left += ["timestamps: images hold none"] if not source.images else []
    left += [f"{source.chapters} chapters: images hold none"] if source.chapters else []
    orientation = source.video.orientation
    left += [f"orientation ({orientation}): images are written as they are stored"] if orientation else []
    if source.video.mastering_display or source.video.content_light:
        left.append("HDR10 mastering metadata: images hold none")
    return StreamMapping(left=(*left, *_lost_metadata(source)))


def _lost_metadata(source: MediaSource) -> list[str]:
    return [lost_text(text) for text in source.lost]


def lost_text(text: str) -> str:
    """How the summary says that something is not in the output."""
    if text.startswith("data stream"):
        return f"{text}: not carried"
    return f"{text}: describes the source's pixels, so it is not copied to the upscaled video"
