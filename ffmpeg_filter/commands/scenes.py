"""`iconvsr scenes`: where the scenes of a video start, as the upscaler sees it."""

import argparse
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ffmpeg_filter.media.decode import Damage, pictures
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import scenes


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("scenes", help="list where the scenes of a video start")
    command.add_argument("input", type=Path, metavar="INPUT")
    command.add_argument("--sc-threshold", type=float, default=scenes.DEFAULT_THRESHOLD, help="what counts as a cut")
    command.add_argument("--json", action="store_true", help="one JSON object a scene")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Says one line a scene on standard output: its first frame and its time in s."""
    source = probe(options.input)
    for frame in starts(source, options.sc_threshold):
        time_s = source.timeline.time_of(frame) - source.timeline.time_of(0)
        options.say(json.dumps({"frame": frame, "time_s": time_s}) if options.json else f"{frame}\t{time_s:.3f}")
    return 0


def starts(source: MediaSource, threshold: float) -> Iterator[int]:
    """The first frame of each scene, 0 first, as they are found."""
    yield 0
    window: deque[Tensor] = deque(maxlen=scenes.BEFORE + 1 + scenes.AFTER)
    last = -1
    for picture in pictures(source, 0, Damage(), ignore_interlaced=True):
        window.append(scenes.signature(picture.planes, source.video.layout.format))
        last = picture.index
        if last >= scenes.AFTER:
            yield from _judged(window, last - scenes.AFTER, last, threshold)
    for frame in range(max(last - scenes.AFTER + 1, 0), last + 1):
        yield from _judged(window, frame, last, threshold)


def _judged(window: deque[Tensor], frame: int, last: int, threshold: float) -> Iterator[int]:
    """frame, if it starts a scene; window holds the signatures of the frames up to `last`."""
    first = max(frame - scenes.BEFORE, 0)
    start = last - len(window) + 1
    seen = list(window)[first - start :]
    if frame > 0 and scenes.is_cut(seen, frame - first, threshold=threshold):
        yield frame
