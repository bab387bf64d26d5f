"""The joined video with everything else of the source in one file."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from ffmpeg_filter.media import dynamic_hdr, ffmpeg
from ffmpeg_filter.media.container import exact, open_file
from ffmpeg_filter.media.encode import container_options
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.join import MuxError
from ffmpeg_filter.media.mapping import StreamMapping
from ffmpeg_filter.media.metadata import lost_side_data
from ffmpeg_filter.media.orientation import display_options
from ffmpeg_filter.media.source import MediaSource, Track

# What a timestamp may be off by after muxing: Matroska from ffmpeg counts milliseconds.
TOLERANCE_S = {"mkv": Fraction(1, 2000), "webm": Fraction(1, 2000), "mp4": Fraction(0), "mov": Fraction(0)}

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


def mux_command(
    executable: Executable,
    video: Sequence[str],
    source: MediaSource,
    keep: StreamMapping,
    pictures: Sequence[Path],
    container: str,
    to: Path,
    *,
    window: range | None = None,
    full_range: bool = False,
    seek: Fraction | None = None,
    stop: Fraction | None = None,
) -> list[str | bytes]:
    """The ffmpeg command that puts the joined video and the source's streams of `keep` into one file, copying packets.

    video: the input options of the joined video, whose timestamps begin at the `origin`. window: the frames of a
    preview, whose sound is cut to fit; None for the whole. full_range: tag the video so where its encoder could not.
    seek, stop: from where a trial reads the source, and when
    it ends, in seconds on the source's and on the output's clock.
    """
    video_input: list[str | bytes] = [
        *ffmpeg.command_prefix(executable),
        "-copyts",
        *display_options(source.video.orientation, executable),
        *video,
    ]
    options = [*_stream_options(keep, pictures, container), *_video_options(source, keep, container)]
    options += ["-color_range:v:0", "pc"] if full_range else []
    output: list[str | bytes] = [*container_options(container, source.timeline.time_base), ffmpeg.safe_url(to)]
    if source.images:
        return [*video_input, "-map", "0:v:0", "-c", "copy", *options, "-fflags", "+bitexact", *output]
    return [
        *video_input,
        *_source_input(source, window, seek),
        *_map_options(keep, container),
        *("-map_metadata", "1", "-map_chapters", "1" if window is None else "-1", "-c", "copy"),
        *options,
        *("-disposition:v:0", "+".join(source.video.disposition) or "0"),
        *_cut_options(source, window),
        *(["-to", _seconds(stop)] if stop is not None else []),
        *("-max_interleave_delta", "0", "-fflags", "+bitexact"),
        *output,
    ]


def mapped_tracks(keep: StreamMapping) -> tuple[Track, ...]:
    """The source's streams behind the video, in the order in which they are written; covers come after them."""
    return (*keep.audio, *(track for track, _ in keep.subtitles), *keep.attachments, *keep.data)


def _map_options(keep: StreamMapping, container: str) -> list[str]:
    """The joined video is input 0, the source input 1. Matroska's covers are files, see `_cover_options`."""
    tracks = [*mapped_tracks(keep), *(keep.covers if container == "mp4" else ())]
    return ["-map", "0:v:0", *(word for track in tracks for word in ("-map", f"1:{track.index}"))]


def _source_input(source: MediaSource, window: range | None, seek: Fraction | None) -> list[str | bytes]:
    """The source, whose clock is moved so that its origin becomes 0."""
    shift = origin(source, window)
    start = shift if window is not None else seek
    return [
        *(["-ss", _seconds(start), "-seek_timestamp", "1"] if start is not None else []),
        *(["-itsoffset", _seconds(-shift)] if shift else []),
        *("-protocol_whitelist", ffmpeg.INPUT_PROTOCOLS, "-i", ffmpeg.safe_url(source.path)),
    ]


def _cut_options(source: MediaSource, window: range | None) -> list[str]:
    """A preview's other streams begin with the video and end with it, to one packet.

    Seeking lands earlier than asked for, and an input's own end is counted from there in some containers.
    """
    if window is None:
        return []
    length = source.timeline.end_of(window.stop - 1) - source.timeline.pts[window.start]
    kinds = (word for kind in "asd" for word in (f"-copypriorss:{kind}", "0"))
    return [*kinds, "-to", _seconds(length * source.timeline.time_base)]


def _stream_options(keep: StreamMapping, pictures: Sequence[Path], container: str) -> list[str | bytes]:
    """What the streams beside the video need: cover pictures, the codecs of subtitles, QuickTime's language codes."""
    options = _cover_options(keep, pictures, container)
    for number, (_, codec) in enumerate(keep.subtitles):
        options += [f"-c:s:{number}", codec] if codec else []
    options += ["-copy_unknown"] if keep.data else []
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
    if keep.tag is not None and container in ("mp4", "mov"):
        options += ["-tag:v:0", keep.tag]
    return options


def moves_to_zero(source: MediaSource) -> bool:
    """Whether timestamps are moved to begin at 0: a broadcast's count from when its transmitter was."""
    return source.container.split(",")[0] in ("mpegts", "mpeg") and source.timeline.start != 0


def origin(source: MediaSource, window: range | None) -> Fraction:
    """The source's time in seconds that becomes 0 in the output, a whole number of ticks; 0 where its clock is kept."""
    time_base = source.timeline.time_base
    if window is not None:
        return source.timeline.pts[window.start] * time_base
    return round(source.timeline.start / time_base) * time_base if moves_to_zero(source) else Fraction(0)


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
            differences = _differences(output, source, keep, container, window, width, height)
    except (av.FFmpegError, OSError) as error:
        raise MuxError(f"{path.name}: cannot be read back: {error}") from error
    missing = set(keep.side_data) - set(side_data_of(path) if keep.side_data else ())
    return [*differences, *(f"output: expected it to say {text}, as its trial did, got nothing" for text in missing)]


def check_hdr10_plus(path: Path, expected: Sequence[bytes]) -> None:
    """Raises MuxError unless the finished file holds these messages, in this order; see `dynamic_hdr`."""
    if not expected:
        return
    with av.open(ffmpeg.safe_name(path)) as output:
        got = dynamic_hdr.messages_written(output)
    if got != list(expected):
        raise MuxError(f"output: expected the HDR10+ metadata of {len(expected)} frames, got others, of {len(got)}")


def side_data_of(path: Path) -> tuple[str, ...]:
    """What the first frame of a finished file carries beside its picture, in words. Raises MuxError."""
    try:
        with av.open(ffmpeg.safe_name(path)) as output:
            return tuple(sorted(set(lost_side_data(next(output.decode(video=0))))))
    except (av.FFmpegError, OSError, StopIteration) as error:
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
