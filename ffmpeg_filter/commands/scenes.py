"""`iconvsr scenes`: where the scenes of a video start, as the upscaler detects them."""

import argparse
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ffmpeg_filter.commands.arguments import add_option, help_with_default
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import options as upscaling
from vs_iconvsr import scenes


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "scenes",
        help="list where the scenes of a video start",
        description="Prints the first frame of each scene and its time in seconds, as upscaling detects them.",
    )
    command.add_argument("input", type=Path, metavar="INPUT", help="a video")
    add_option(command, upscaling.SC_THRESHOLD)
    command.add_argument(
        "--json", action="store_true", help=help_with_default("print one JSON object per scene", "text")
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints one line per scene: its first frame and the time of that frame in seconds."""
    given = options.sc_threshold
    threshold = upscaling.SC_THRESHOLD.default if given is None else upscaling.SC_THRESHOLD.parse(given)
    source = probe(options.input)
    for frame in starts(source, threshold):
        time_s = source.timeline.time_of(frame) - source.timeline.time_of(0)
        options.print_line(json.dumps({"frame": frame, "time_s": time_s}) if options.json else f"{frame}\t{time_s:.3f}")
    return 0


def starts(source: MediaSource, threshold: float) -> Iterator[int]:
    """The first frame of each scene, as it is found; 0 comes first."""
    yield 0
    window: deque[Tensor] = deque(maxlen=scenes.BEFORE + 1 + scenes.AFTER)
    last = -1
    for decoded in decode_frames(source, 0, Damage(), ignore_interlaced=True):
        window.append(scenes.signature(decoded.planes, source.video.layout.format))
        last = decoded.index
        if last >= scenes.AFTER and _is_cut(window, last - scenes.AFTER, last, threshold):
            yield last - scenes.AFTER
    for frame in range(max(last - scenes.AFTER + 1, 0), last + 1):
        if _is_cut(window, frame, last, threshold):
            yield frame


def _is_cut(window: deque[Tensor], frame: int, last: int, threshold: float) -> bool:
    """Whether `frame` starts a scene; window holds the signatures of the frames up to `last`."""
    if frame == 0:
        return False
    first = max(frame - scenes.BEFORE, 0)
    start = last - len(window) + 1
    return scenes.is_cut(list(window)[first - start :], frame - first, threshold=threshold)
