"""Videos: found in folders by name or by content, identified by content, and decoded to RGB frames."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.stream import Disposition
from torch import Tensor

from vs_iconvsr.colorspace import usual_matrix

from ..degrade.resize import imresize, to_bytes
from .walk import folders_below

logger = logging.getLogger(__name__)

# fmt: off
VIDEO_SUFFIXES = frozenset({  # taken by their names: those that cannot be decoded are reported
    ".mp4", ".mkv", ".mov", ".avi", ".webm", ".m2ts", ".mts", ".ts", ".m2t", ".mpg", ".mpeg", ".m2v", ".m1v", ".m4v",
    ".mpv", ".vob", ".wmv", ".asf", ".dv", ".dif", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".ogm", ".mxf", ".gxf",
    ".divx", ".xvid", ".tod", ".trp", ".rm", ".rmvb", ".mj2", ".qt", ".evo", ".nut", ".y4m", ".ivf", ".264",
    ".h264", ".avc", ".265", ".h265", ".hevc", ".vc1", ".wtv", ".dvr-ms", ".hdmov", ".vro", ".amv", ".nsv",
})
OTHER_SUFFIXES = frozenset({  # not even looked into
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dpx", ".exr", ".txt", ".nfo", ".srt", ".ass",
    ".sub", ".idx", ".sup", ".ifo", ".bup", ".xml", ".json", ".html", ".md", ".pdf", ".log", ".url", ".zip", ".rar",
    ".7z", ".gz", ".tar", ".iso", ".exe", ".py", ".npy", ".wav", ".mp3", ".flac", ".aac", ".ac3", ".m4a", ".ogg", ".db",
    ".ini", ".sfv", ".md5", ".part", ".thm", ".lrv",
})
# Demuxers of video files that follow nothing else: no playlists, no pictures, no text.
FORMATS = ("matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpegtsraw,mpeg,mpegvideo,avi,nut,flv,live_flv,asf,ogg,mxf,"
           "mxf_opatom,h264,hevc,vvc,m4v,h263,ivf,obu,av1,yuv4mpegpipe,dv,rm,vc1,vc1test,wtv,mjpeg,dirac,gxf,amv,nsv,vividas")
# fmt: on
SWSCALE_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # H.273 code → swscale's
PROGRESS_S = 10.0
_IDENTIFYING_BYTES = 2**20


def find_videos(places: Sequence[Path]) -> list[Path]:
    """The given video files and all below the given folders, in natural order; each file once.

    Any container: names that are not known are judged by content.
    """
    files: dict[Path, Path] = {}
    for place in places:
        for file in _videos_below(place) if place.is_dir() else [place]:
            files.setdefault(file.resolve(), file)
    if not files:
        raise ValueError(f"{', '.join(map(str, places))}: expected videos of any container, found none")
    return list(files.values())


def display_names(videos: Sequence[Path]) -> list[str]:
    """File names; where two are equal, with as many folders before them as tell them apart."""
    alike: dict[str, list[Path]] = {}
    for video in videos:
        alike.setdefault(video.name, []).append(video)
    return [_distinct_name(video, alike[video.name]) for video in videos]


def video_identity(video: Path) -> str:
    """16 hex digits that stay the same when the file is renamed or moved: from its size, beginning and end."""
    size_bytes = video.stat().st_size
    digest = hashlib.sha256(str(size_bytes).encode())
    with video.open("rb") as file:
        digest.update(file.read(_IDENTIFYING_BYTES))
        file.seek(max(0, size_bytes - _IDENTIFYING_BYTES))
        digest.update(file.read(_IDENTIFYING_BYTES))
    return digest.hexdigest()[:16]


def frames_of(video: Path, *, downscale: int = 1) -> Iterator[tuple[Tensor, bool]]:
    """The decoded frames in order: RGB (3, h, w) uint8, and whether the decoder flags it as interlaced.

    Damaged frames are left out; the size may change between frames. ValueError if nothing can be decoded.
    """
    frame = None
    try:
        with _open(video) as container:
            stream = _video_stream(container, video)
            stream.thread_type = "AUTO"
            for frame in _decode(container, stream):
                matrix = SWSCALE_MATRICES.get(frame.colorspace) or SWSCALE_MATRICES[_guess_matrix(frame)]
                rgb = frame.reformat(format="rgb24", src_colorspace=matrix, interpolation="BICUBIC").to_ndarray()
                pixels = torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
                yield _downscale(pixels, downscale), bool(frame.interlaced_frame)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{video}: expected a video that can be decoded, got: {error}") from error
    if frame is None:
        raise ValueError(f"{video}: expected a video that can be decoded, got no frame")


def with_progress[T](frames: Iterator[T], video: Path, *, doing: str) -> Iterator[T]:
    """The frames; logs the beginning, and how far it is every PROGRESS_S."""
    expected = _expected_frames(video)
    logger.info("%s%s", doing, f", about {expected} frames" if expected else "")
    began = last = time.monotonic()
    for count, frame in enumerate(frames, 1):
        yield frame
        now = time.monotonic()
        if now - last >= PROGRESS_S:
            last, speed = now, count / (now - began)
            left = f" of about {expected}, {max(0, expected - count) / speed / 60.0:.0f} min left" if expected else ""
            logger.info("%s: %d frames%s (%.0f frames per second)", doing, count, left, speed)


def _distinct_name(video: Path, alike: Sequence[Path]) -> str:
    for count in range(1, len(video.parts)):
        if sum(other.parts[-count:] == video.parts[-count:] for other in alike) == 1:
            return "/".join(video.parts[-count:])
    return str(video)


def _videos_below(folder: Path) -> Iterator[Path]:
    for _, files in folders_below(folder):
        for file in files:
            suffix = file.suffix.lower()
            if suffix in VIDEO_SUFFIXES or (suffix not in OTHER_SUFFIXES and _is_video(file)):
                yield file


def _is_video(file: Path) -> bool:
    try:
        with _open(file) as container:
            return next(_decode(container, _video_stream(container, file)), None) is not None
    except (av.FFmpegError, OSError, ValueError):
        return False


def _open(video: Path) -> InputContainer:
    """Opens the file itself: its name is no address, and it may point at nothing else."""
    url = f"file:{os.fspath(video.absolute())}"
    return av.open(url, options={"protocol_whitelist": "file", "format_whitelist": FORMATS})


def _video_stream(container: InputContainer, video: Path) -> av.VideoStream:
    """The largest video that is no cover image."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{video}: expected a video stream, found none")
    return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height if s.codec_context else 0)


def _decode(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decodes on after errors, as players do: a scratch on a disc is no reason to leave out the film."""
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return
        except (av.FFmpegError, OSError) as error:
            logger.debug("a packet could not be decoded: %s", error)  # where reading fails, nothing follows
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)


def _expected_frames(video: Path) -> int:
    """0 where the file does not say."""
    try:
        with _open(video) as container:
            stream = _video_stream(container, video)
            if stream.frames or not (container.duration and stream.average_rate):
                return stream.frames
            return round(container.duration / av.time_base * stream.average_rate)
    except (av.FFmpegError, OSError, ValueError):
        return 0


def _guess_matrix(frame: av.VideoFrame) -> int:
    """The usual matrix (H.273) for a frame of this size that is not tagged with one."""
    return usual_matrix(frame.width, frame.height)


def _downscale(frame: Tensor, by: int) -> Tensor:
    if by == 1:
        return frame
    h, w = frame.shape[-2:]
    return to_bytes(imresize(frame[:, : h - h % by, : w - w % by], 1.0 / by))
