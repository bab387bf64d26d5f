"""The joined video with everything else of the source in one file."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.container import exact, open_file
from ffmpeg_filter.media.encode import container_options
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.join import MuxError
from ffmpeg_filter.media.source import MediaSource, Track

logger = logging.getLogger(__name__)

CONTAINERS = {".mkv": "mkv", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
IMAGES = "images"  # in the place of a container's name: numbered pictures
TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})

# What a timestamp may be off by after muxing: Matroska from ffmpeg counts milliseconds.
TOLERANCE_S = {"mkv": Fraction(1, 2000), "mp4": Fraction(0), "mov": Fraction(0)}

# Matroska stores the size to show in whole pixels, so the shape of pixels of a small picture is rounded.
_ASPECT_TOLERANCE = Fraction(1, 50)

# mp4 and mov name these themselves, and ours would be those of the source.
_BRANDS = ("major_brand", "minor_version", "compatible_brands")
# QuickTime has language codes of its own, some of the older and some of the newer ones of ISO 639-2 (found by trial).
# fmt: off
_QUICKTIME_LANGUAGES = {
    "sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "nld": "dut", "kat": "geo", "deu": "ger",
    "ell": "gre", "isl": "ice", "mkd": "mac", "msa": "may", "fas": "per", "bod": "tib", "cym": "wel", "nob": "nor",
    "fre": "fra", "cze": "ces", "rum": "ron", "slo": "slk",
}
# fmt: on
_BITMAP_SUFFIX = {"png": "png", "mjpeg": "jpg", "bmp": "bmp", "gif": "gif", "webp": "webp", "tiff": "tif"}


@dataclass(frozen=True)
class StreamMapping:
    """What of the source goes with the video into a container, what changes its form, and what stays behind.

    subtitles: for each subtitle stream that is kept, (its track, the codec to convert to or None). covers: pictures.
    left: one line for each thing that is not kept, with the reason. tag: the video's four characters in mp4 and mov.
    """

    audio: tuple[Track, ...]
    subtitles: tuple[tuple[Track, str | None], ...]
    attachments: tuple[Track, ...]
    covers: tuple[Track, ...]
    left: tuple[str, ...]
    changed: tuple[str, ...]
    tag: str | None = None


def stream_mapping(source: MediaSource, container: str) -> StreamMapping:
    """Sorts the tracks of the source for a container: mkv, mp4 or mov. Raises ValueError for sound it cannot hold."""
    if container == IMAGES:
        return _image_mapping(source)
    holds = _codecs_of(container)
    audio = [t for t in source.tracks if t.kind == "audio"]
    for track in audio:
        if track.codec not in holds and not (container == "mp4" and track.codec == "flac"):
            raise ValueError(
                f"output: .{container} cannot hold the sound {track}; name the output .mkv, or convert the sound first"
            )
    subtitles: list[tuple[Track, str | None]] = []
    attachments, covers, left, changed = [], [], [], []
    for track in source.tracks:
        if track.kind == "subtitle":
            codec = _subtitle_codec(track.codec, container)
            if codec is None:
                left.append(f"{track}: .{container} holds text subtitles only; .mkv keeps it")
                continue
            subtitles.append((track, None if codec == track.codec else codec))
            if codec != track.codec:
                changed.append(
                    f"{track}: stored as {codec}" + (", styles are lost" if track.codec in ("ass", "ssa") else "")
                )
        elif track.kind == "attachment":
            if container == "mkv":
                attachments.append(track)
            else:
                left.append(f"{track}: .{container} holds no attachments; .mkv keeps it")
        elif track.kind == "cover":
            if container == "mov":
                left.append(f"{track}: .mov holds no cover picture; .mkv and .mp4 keep it")
            else:
                covers.append(track)
        elif track.kind == "video":
            left.append(f"{track}: only one video stream is upscaled")
        elif track.kind == "data" and not _is_made_by_muxer(track):
            left.append(f"{track}: a data stream, which ffmpeg cannot copy into .{container}")
    left += _lost_metadata(source)
    return StreamMapping(tuple(audio), tuple(subtitles), tuple(attachments), tuple(covers), tuple(left), tuple(changed))


def check_rotation(source: MediaSource, container: str, executable: Executable) -> None:
    """Raises ValueError where the video would lie on its side: ffmpeg before 6 writes no rotation into Matroska."""
    if source.video.rotation and container == "mkv" and "display_rotation" not in executable.options:
        raise ValueError(
            f"output: ffmpeg {executable.version} cannot say in .mkv that the video is turned by "
            f"{source.video.rotation}°; name the output .mp4 or .mov, or pass --ffmpeg with version 6 or newer"
        )


def _subtitle_codec(codec: str, container: str) -> str | None:
    """The codec that the container stores this subtitle in, or None if it cannot."""
    text = codec in TEXT_SUBTITLES
    if container == "mkv":
        return "srt" if codec in ("mov_text", "text") else codec
    return "mov_text" if text else None


def _is_made_by_muxer(track: Track) -> bool:
    """Chapter titles of mp4 (bin_data) and time codes (tmcd), which the muxer makes from chapters and tags."""
    return track.codec in ("bin_data", "none", "unknown", "tmcd", "")


def _image_mapping(source: MediaSource) -> StreamMapping:
    left = [f"{track}: pictures hold nothing else" for track in source.tracks]
    left += ["timestamps: pictures hold none"] if not source.images else []
    left += [f"{source.chapters} chapters: pictures hold none"] if source.chapters else []
    rotation = source.video.rotation
    left += [f"rotation by {rotation}°: pictures are written as they are stored"] if rotation else []
    if source.video.mastering_display or source.video.content_light:
        left.append("HDR10 mastering metadata: pictures hold none")
    return StreamMapping((), (), (), (), (*left, *_lost_metadata(source)), ())


def _lost_metadata(source: MediaSource) -> list[str]:
    return [f"{text}: made for the small picture, and not carried to the large one" for text in source.lost]


def _codecs_of(container: str) -> frozenset[str]:
    with av.open("/dev/null", "w", format={"mkv": "matroska"}.get(container, container)) as output:
        return frozenset(output.supported_codecs) | ({"adpcm_ima_qt"} if container == "mov" else frozenset())


def mux_command(
    executable: Executable,
    video: Path,
    source: MediaSource,
    keep: StreamMapping,
    pictures: Sequence[Path],
    container: str,
    to: Path,
    *,
    window: range | None = None,
) -> list[str | bytes]:
    """The ffmpeg command that puts the joined video and the source's stream_mapping into one file, copying packets.

    window: the frames of a preview, whose sound is cut to fit and whose timestamps begin at 0; None for the whole.
    """
    shift = origin(source, window)
    video_input: list[str | bytes] = [*ffmpeg.command_prefix(executable), "-copyts", "-i", ffmpeg.safe_url(video)]
    options = [*_stream_options(keep, pictures, container), *_video_options(source, keep, container)]
    output: list[str | bytes] = [
        *(["-output_ts_offset", _seconds(-shift)] if shift else []),
        *container_options(container, source.timeline.time_base),
        ffmpeg.safe_url(to),
    ]
    if source.images:
        return [*video_input, "-map", "0:v:0", "-c", "copy", *options, "-fflags", "+bitexact", *output]
    return [
        *video_input,
        *_cut_options(source, window),
        *("-protocol_whitelist", ffmpeg.INPUT_PROTOCOLS, "-i", ffmpeg.safe_url(source.path)),
        *_map_options(keep, container),
        *("-map_metadata", "1", "-map_chapters", "1" if window is None else "-1", "-c", "copy"),
        *options,
        *("-disposition:v:0", "+".join(source.video.disposition) or "0"),
        *("-max_interleave_delta", "0", "-fflags", "+bitexact"),
        *output,
    ]


def _map_options(keep: StreamMapping, container: str) -> list[str]:
    """The joined video is input 0, the source input 1. Matroska's covers are files, see `_cover_options`."""
    tracks = [*keep.audio, *(track for track, _ in keep.subtitles), *keep.attachments]
    if container == "mp4":
        tracks += keep.covers
    return ["-map", "0:v:0", *(word for track in tracks for word in ("-map", f"1:{track.index}"))]


def _cut_options(source: MediaSource, window: range | None) -> list[str]:
    """Before the source's input: -copyts keeps its clock, so -to is a time of the source as well."""
    if window is None:
        return []
    stop = source.timeline.end_of(window.stop - 1) * source.timeline.time_base
    return ["-ss", _seconds(origin(source, window)), "-to", _seconds(stop), "-seek_timestamp", "1"]


def _stream_options(keep: StreamMapping, pictures: Sequence[Path], container: str) -> list[str | bytes]:
    """What the streams beside the video need: cover pictures, the codecs of subtitles, QuickTime's language codes."""
    options = _cover_options(keep, pictures, container)
    for number, (_, codec) in enumerate(keep.subtitles):
        options += [f"-c:s:{number}", codec] if codec else []
    if container == "mov":
        for kind, tracks in (("a", keep.audio), ("s", [track for track, _ in keep.subtitles])):
            for number, track in enumerate(tracks):
                if track.language in _QUICKTIME_LANGUAGES:
                    options += [f"-metadata:s:{kind}:{number}", f"language={_QUICKTIME_LANGUAGES[track.language]}"]
    return options


def _cover_options(keep: StreamMapping, pictures: Sequence[Path], container: str) -> list[str | bytes]:
    options: list[str | bytes] = []
    if container == "mp4":
        for number in range(1, len(keep.covers) + 1):
            options += [f"-disposition:v:{number}", "attached_pic"]
        return options
    for number, (cover, picture) in enumerate(zip(keep.covers, pictures, strict=True), start=len(keep.attachments)):
        kind = "jpeg" if picture.suffix == ".jpg" else picture.suffix[1:]
        options += ["-attach", ffmpeg.safe_url(picture)]
        options += [f"-metadata:s:t:{number}", f"filename={cover.title or f'cover{picture.suffix}'}"]
        options += [f"-metadata:s:t:{number}", f"mimetype=image/{kind}"]
    return options


def _video_options(source: MediaSource, keep: StreamMapping, container: str) -> list[str]:
    """Tags, pixel aspect ratio and the four-character code of the video."""
    options = [word for name, value in source.video.tags.items() for word in ("-metadata:s:v:0", f"{name}={value}")]
    options += [word for name in _BRANDS for word in ("-metadata", f"{name}=")]
    if source.video.sample_aspect_ratio not in (0, 1):  # joining keeps it only where the codec itself says it
        shape = source.video.sample_aspect_ratio * Fraction(source.video.width, source.video.height)
        options += ["-aspect:v:0", f"{shape.numerator}:{shape.denominator}"]
    if keep.tag is not None and container != "mkv":
        options += ["-tag:v:0", keep.tag]
    return options


def moves_to_zero(source: MediaSource) -> bool:
    """Whether timestamps are moved to begin at 0: a broadcast's count from when its transmitter was."""
    return source.container.split(",")[0] in ("mpegts", "mpeg") and source.timeline.start != 0


def origin(source: MediaSource, window: range | None) -> Fraction:
    """The source's time in seconds that becomes 0 in the output; 0 where its clock is kept."""
    if window is not None:
        return source.timeline.pts[window.start] * source.timeline.time_base
    return source.timeline.start if moves_to_zero(source) else Fraction(0)


def _seconds(value: Fraction) -> str:
    return f"{float(value):.6f}"


def cover_path(track: Track, folder: Path) -> Path:
    """Where `extract_covers` writes this cover picture."""
    return folder / f"cover_{track.index}.{_BITMAP_SUFFIX.get(track.codec, 'png')}"


def extract_covers(source: MediaSource, covers: Sequence[Track], folder: Path) -> list[Path]:
    """The cover pictures as files, in order: Matroska keeps pictures as attachments, not as streams."""
    files = []
    for track in covers:
        with open_file(source.path) as container:
            stream = container.streams[track.index]
            data = next(bytes(p) for p in container.demux(stream) if p.size)
        path = cover_path(track, folder)
        path.write_bytes(data)
        files.append(path)
    return files


def check_output(
    path: Path, source: MediaSource, keep: StreamMapping, container: str, window: range, width: int, height: int
) -> list[str]:
    """Reads the finished file back: frames, every timestamp, size, streams. Returns what is off but bearable.

    Raises MuxError for what is not: frames lost, moved or of another size, and streams that are not there.
    """
    try:
        with av.open(ffmpeg.safe_name(path)) as output:
            return _differences(output, source, keep, container, window, width, height)
    except (av.FFmpegError, OSError) as error:
        raise MuxError(f"{path.name}: cannot be read back: {error}") from error


def _differences(
    output: InputContainer,
    source: MediaSource,
    keep: StreamMapping,
    container: str,
    window: range,
    width: int,
    height: int,
) -> list[str]:
    stream = output.streams.video[0]
    got = stream.codec_context
    if (got.width, got.height) != (width, height):
        raise MuxError(f"output: expected {width}x{height}, got {got.width}x{got.height}")
    _check_streams(output, keep)
    whole = len(window) == source.num_frames
    warnings = []
    if whole and len(output.chapters()) != source.chapters:
        warnings.append(f"output: expected {source.chapters} chapters, got {len(output.chapters())}")
    aspect, expected = (exact(stream.sample_aspect_ratio) or Fraction(1)), source.video.sample_aspect_ratio or 1
    if abs(aspect / expected - 1) > _ASPECT_TOLERANCE:
        warnings.append(f"output: expected a pixel aspect ratio of {expected}, got {aspect}")
    warnings += _language_warnings(output, keep, container)
    _check_timestamps(output, source, container, window)
    return warnings


def _check_streams(output: InputContainer, keep: StreamMapping) -> None:
    expected = {"audio": len(keep.audio), "subtitles": len(keep.subtitles)}
    got = {"audio": len(output.streams.audio), "subtitles": len(output.streams.subtitles)}
    if expected != got:
        raise MuxError(f"output: expected {expected} streams, got {got}")


def _language_warnings(output: InputContainer, keep: StreamMapping, container: str) -> list[str]:
    warnings = []
    tracks = [*keep.audio, *(track for track, _ in keep.subtitles)]
    for track, copy in zip(tracks, [*output.streams.audio, *output.streams.subtitles], strict=True):
        language = copy.metadata.get("language", "und")
        if track.language not in ("", "und", language) and _QUICKTIME_LANGUAGES.get(track.language) != language:
            warnings.append(f"{track}: .{container} has no code for its language")
    return warnings


def _check_timestamps(output: InputContainer, source: MediaSource, container: str, window: range) -> None:
    stream = output.streams.video[0]
    time_base = exact(stream.time_base)
    pts = sorted(p.pts * time_base for p in output.demux(stream) if p.size and p.pts is not None)
    if len(pts) != len(window):
        raise MuxError(f"output: expected {len(window)} frames, got {len(pts)}")
    shift = origin(source, None if len(window) == source.num_frames else window)
    expected = (source.timeline.pts[n] * source.timeline.time_base - shift for n in window)
    off = max(abs(a - b) for a, b in zip(pts, expected, strict=True))
    if off > TOLERANCE_S[container]:
        raise MuxError(f"output: expected the source's timestamps, got some that are off by {float(off) * 1e6:.0f} µs")
