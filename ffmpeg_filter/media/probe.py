"""What is in a source file: its video with an exact table of timestamps, its color, and everything else to be kept."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import DataStream, Disposition, Stream

from ffmpeg_filter.media import alpha
from ffmpeg_filter.media.container import exact, kind_of, open_file, reason_of, select_video
from ffmpeg_filter.media.metadata import (
    color_properties,
    content_light_of,
    lost_side_data,
    mastering_display_of,
)
from ffmpeg_filter.media.orientation import orientation_of
from ffmpeg_filter.media.pixels import Layout, layout_of
from ffmpeg_filter.media.source import MediaSource, SourceError, Track, VideoStream
from ffmpeg_filter.media.timestamps import PacketScan, PacketTimes, build_timeline, scan_packets
from ffmpeg_filter.media.unreadable import encryption_message, is_scrambled, missing_index

logger = logging.getLogger(__name__)

# Frames looked at for interlacing at each of a few places: flags may begin after a progressive studio logo.
_LOOK_FRAMES = 6
_LOOK_PLACES = 4

# Remuxing and rewrapping leave the frames alone, but these are no longer true once the video has been replaced.
_STALE_TAGS = frozenset(
    {"encoder", "vendor_id", "duration", "bps", "number_of_frames", "number_of_bytes", "handler_name"}
)


def probe(path: Path) -> MediaSource:
    """Reads headers, every packet's timestamps and a few frames. Raises SourceError for what cannot be upscaled."""
    with open_file(path) as container:
        try:
            scan = scan_packets(container, select_video(container))
        except av.FFmpegError as error:
            raise SourceError(f"input: cannot be read: {path} ({reason_of(error)})") from error
        _refuse_encrypted(path, container, scan)
    with open_file(path) as container:
        return _inspect(path, container, scan)


def _refuse_encrypted(path: Path, container: InputContainer, scan: PacketScan) -> None:
    """Before anything is decoded: noise decodes, too, now and then."""
    name = container.format.name
    if scan.encrypted:
        tracks = ", ".join(str(_track_of(container.streams[n], scan)) for n in sorted(scan.encrypted))
        raise SourceError(encryption_message(name, path, tracks))
    if is_scrambled(path, name):
        raise SourceError(encryption_message(name, path, "video"))


def _inspect(path: Path, container: InputContainer, scan: PacketScan) -> MediaSource:
    stream, packets = select_video(container), scan.video
    frames = _sample_frames(container, stream, packets)
    if not frames:
        reason = f" ({reason})" if (reason := missing_index(path)) else ""
        raise SourceError(
            f"input: expected a video with frames, got one of which no frame can be decoded: {path}{reason}"
        )
    try:
        alpha.refuse_four_colors(stream.codec_context.name, frames[0])
        layout = layout_of(frames[0].format.name, opaque=True)
    except ValueError as error:
        raise SourceError(f"input: {path}: {error}") from error
    alpha.refuse_transparent_frames(path, stream, frames[0])
    _check_constant_size(path, frames)
    timeline, notes = build_timeline(scan, container, stream, frames[0])
    return MediaSource(
        path=path,
        container=container.format.name,
        video=_video_of(stream, frames, layout),
        timeline=timeline,
        tracks=tuple(_track_of(s, scan) for s in container.streams if s.index != stream.index),
        chapters=len(container.chapters()),
        lost=tuple(sorted({text for f in frames for text in lost_side_data(f)})),
        notes=notes,
        other_bytes=scan.other_bytes,
    )


def _video_of(stream: av.VideoStream, frames: Sequence[av.VideoFrame], layout: Layout) -> VideoStream:
    first, orientation = frames[0], orientation_of(frames[0])
    return VideoStream(
        index=stream.index,
        codec=stream.codec_context.name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        layout=layout,
        properties=color_properties(first, layout, stream.codec_context.name),
        sample_aspect_ratio=exact(stream.sample_aspect_ratio),
        rotation=orientation.angle,
        mirrored=orientation.mirrored,
        interlaced=any(f.interlaced_frame for f in frames),
        tags={k: v for k, v in stream.metadata.items() if k.lower().split("-")[0] not in _STALE_TAGS and k[0] != "_"},
        disposition=tuple(d.name for d in Disposition if d.name and stream.disposition & d),
        mastering_display=mastering_display_of(first),
        content_light=content_light_of(first),
    )


def _track_of(stream: Stream, scan: PacketScan) -> Track:
    context = getattr(stream, "codec_context", None)
    tags = stream.metadata
    named = context or (stream if isinstance(stream, DataStream) else None)
    return Track(
        index=stream.index,
        kind=kind_of(stream),
        codec=(named.name if named is not None else tags.get("mimetype")) or "unknown",
        first=scan.first.get(stream.index),
        language=tags.get("language", ""),
        title=tags.get("title", "") or tags.get("filename", ""),
    )


def _sample_frames(
    container: InputContainer, stream: av.VideoStream, packets: Sequence[PacketTimes]
) -> list[av.VideoFrame]:
    """The first frames, then some from a few later places; the first of the list is the first of the file."""
    frames = list(itertools.islice(_decode(container, stream), _LOOK_FRAMES))
    stamps = sorted(p.pts for p in packets if p.pts is not None)
    if not frames or len(stamps) <= _LOOK_FRAMES:
        return frames
    for place in range(1, _LOOK_PLACES):
        try:
            container.seek(stamps[len(stamps) * place // _LOOK_PLACES], stream=stream)
            frames += itertools.islice(_decode(container, stream), _LOOK_FRAMES)
        except (av.FFmpegError, OSError):
            break  # only a sample: where seeking fails, the reader decodes from the start later
    return frames


def _check_constant_size(path: Path, frames: Sequence[av.VideoFrame]) -> None:
    """Found now where a sample shows it; else it ends the work at that frame."""
    first = frames[0]
    for frame in frames:
        if (frame.width, frame.height) != (first.width, first.height):
            raise SourceError(
                f"input: expected {first.width}x{first.height} to the end, got {frame.width}x{frame.height} "
                f"at {frame.time if frame.time is not None else 0:.3f} s; split the file there: {path}"
            )


def _decode(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    try:
        yield from container.decode(stream)
    except (av.FFmpegError, OSError) as error:
        logger.debug("decoding a sample stopped: %s", error)
