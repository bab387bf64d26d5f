"""What ffmpeg prints of the streams in a file: codec tags and side data, which PyAV does not show."""

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError

_STREAM = re.compile(r"^ +Stream #0:(\d+)\S*: (\w+): ([^ ,]+)(.*)$")
_TAG = re.compile(r"\([^()]* / 0x([0-9A-F]{4,8})\)")
_DOLBY_VISION = re.compile(r"^ +DOVI configuration record: .*profile: (\d+),.*compatibility id: (\d+)")
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ListedStream:
    """One stream. kind: as ffmpeg says it, such as Audio. tag: four characters, or "" where the container has none.

    dolby_vision: its profile and the compatibility of its base layer, None if it is not Dolby Vision.
    """

    kind: str
    codec: str
    tag: str = ""
    dolby_vision: tuple[int, int] | None = None


def list_streams(executable: Executable, path: Path) -> tuple[ListedStream, ...]:
    """The streams of a file in order. Raises FfmpegError where ffmpeg cannot read it."""
    opened: list[str | bytes] = ["-nostdin", "-protocol_whitelist", ffmpeg.INPUT_PROTOCOLS, "-i", ffmpeg.safe_url(path)]
    try:  # its exit code is not 0: it expects an output
        answer = subprocess.run(
            [executable.path, "-hide_banner", *opened],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FfmpegError(f"ffmpeg: {path.name} could not be listed: {error}") from error
    text = answer.stderr.decode(errors="replace")
    streams = read_listing(text)
    if not streams:
        raise FfmpegError(f"ffmpeg: expected streams in {path.name}, got {' | '.join(text.splitlines()[-2:])}")
    return streams


def read_listing(text: str) -> tuple[ListedStream, ...]:
    """The streams in what `ffmpeg -i` prints."""
    streams: dict[int, ListedStream] = {}
    last = -1
    for line in text.splitlines():
        if match := _STREAM.match(line):
            last = int(match.group(1))
            streams[last] = ListedStream(match.group(2), match.group(3), _tag_in(match.group(4)))
        elif last in streams and (match := _DOLBY_VISION.match(line)):
            streams[last] = replace(streams[last], dolby_vision=(int(match.group(1)), int(match.group(2))))
    return tuple(streams[n] for n in sorted(streams))


def _tag_in(text: str) -> str:
    match = _TAG.search(text)
    return int(match.group(1), 16).to_bytes(4, "little").decode("latin-1") if match else ""
