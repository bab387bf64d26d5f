"""What is to be upscaled in the files, folders and patterns that a user names, and what each of them is taken for."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ffmpeg_filter.job.options import WORK_SUFFIX
from ffmpeg_filter.job.queue.events import Found
from ffmpeg_filter.media import images
from ffmpeg_filter.media.source import SourceError

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mkv", ".webm", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".ts", ".mts", ".m2ts", ".m2t", ".mpg",
    ".mpeg", ".m2v", ".m1v", ".mpv", ".vob", ".avi", ".divx", ".nut", ".flv", ".f4v", ".asf", ".wmv", ".ogv", ".ogm",
    ".mxf", ".ivf", ".obu", ".y4m", ".gif", ".dv", ".rm", ".rmvb", ".vc1", ".wtv", ".mjpg", ".mjpeg", ".h264", ".264",
    ".hevc", ".h265", ".265",
))
# fmt: on
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")
_LEAST_PICTURES = 2
_SKIPPED_FOLDERS = ("__MACOSX",)


@dataclass
class Scan:
    """The sources, each once, and in words what was taken for what and what was left out."""

    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def scan(places: Sequence[Path], output_dir: Path, *, recursive: bool) -> Scan:
    """Every source that the places name: files, folders, patterns with * or %05d.

    Nothing inside the output folder is a source. Raises ValueError for a place that is not there.
    """
    walk = _Walk(output_dir.resolve(), recursive=recursive)
    for place in places:
        for path in _expanded(place):
            walk.take(path)
    unique = {found.source: found for found in reversed(walk.scan.found)}
    return Scan(list(reversed(unique.values())), walk.scan.notes)


def identity_of(source: Path) -> dict[str, int]:
    """As `Found.identity`, now. Raises OSError if the source is gone."""
    return _found(source).identity


def _expanded(place: Path) -> list[Path]:
    """The place itself, or what is there of a pattern. Raises ValueError for neither."""
    if place.exists() or images.is_image_sequence(place):
        return [place]
    if glob.has_magic(str(place)):
        return [Path(path) for path in sorted(glob.glob(str(place), recursive=True))]  # noqa: PTH207 - may be absolute
    raise ValueError(f"input: expected a file, a folder or a pattern, got nothing of that name: {place}")


class _Walk:
    """Collects sources. Each folder is looked at once, however many links lead to it."""

    def __init__(self, output_dir: Path, *, recursive: bool) -> None:
        self.scan = Scan()
        self._output_dir = output_dir
        self._recursive = recursive
        self._visited: set[Path] = set()

    def take(self, place: Path) -> None:
        """A file, a folder or a pattern of numbered images that the user means."""
        if self._is_ours(place):
            self.scan.notes.append(f"{place}: left out: it is in the output folder")
        elif place.is_dir():
            self._folder(place, PurePosixPath())
        else:
            self._add(place, PurePosixPath())

    def _is_ours(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._output_dir)

    def _folder(self, folder: Path, below: PurePosixPath) -> None:
        real = folder.resolve()
        if real in self._visited or self._is_ours(folder):
            return
        self._visited.add(real)
        try:
            content = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except PermissionError:
            self.scan.notes.append(f"{folder}: left out: no permission to read it")
            return
        videos = [path for path in content if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
        pictures = numbered_pictures(content)
        for video in videos:
            self._add(video, below)
        if videos:
            left = f"; its {len(pictures)} numbered images are left out" if pictures else ""
            self.scan.notes.append(f"{folder}: {_count(len(videos), 'video')}{left}")
        elif len(pictures) >= _LEAST_PICTURES:
            self._add(folder, below.parent)
        self._folders_in(folder, content, below)

    def _folders_in(self, folder: Path, content: Iterable[Path], below: PurePosixPath) -> None:
        inner = [path for path in content if path.is_dir() and path.name not in _SKIPPED_FOLDERS]
        inner = [path for path in inner if path.suffix != WORK_SUFFIX and not self._is_ours(path)]
        if self._recursive:
            for path in inner:
                self._folder(path, below / path.name)
        elif inner:
            self.scan.notes.append(f"{folder}: {_count(len(inner), 'folder')} in it left out; pass --recursive")

    def _add(self, path: Path, below: PurePosixPath) -> None:
        """A source. One that vanishes meanwhile is none."""
        try:
            found = _found(path, "" if below == PurePosixPath() else str(below))
        except FileNotFoundError:
            return
        if found.images:
            self.scan.notes.append(f"{path}: one image sequence of {_count(found.images, 'picture')}")
        self.scan.found.append(found)


def _found(path: Path, folder: str = "") -> Found:
    """Raises OSError if it is gone."""
    files = _pictures_of(path) if images.is_image_sequence(path) else [path]
    states = [file.stat() for file in files]
    stem = _stem(path)
    return Found(
        source=os.path.abspath(path),  # noqa: PTH100 - links stay as the user named them
        folder=folder,
        stem=stem,
        name=path.name if path.is_file() else stem,
        size_bytes=sum(state.st_size for state in states),
        modified_ns=max((state.st_mtime_ns for state in states), default=0),
        images=len(files) if images.is_image_sequence(path) else 0,
    )


def _stem(path: Path) -> str:
    """What an output is called: a.mkv → a, a folder's own name, in_%05d.png → in."""
    if path.is_dir():
        return path.resolve().name or "output"
    if path.is_file():
        return path.stem
    return re.sub(r"[ ._-]*%\d*d.*", "", path.name) or path.resolve().parent.name or "output"


def _pictures_of(path: Path) -> list[Path]:
    """None where they are not one whole sequence: the job that reads them reports why."""
    if path.is_dir():
        return numbered_pictures(sorted(path.iterdir()))
    try:
        return list(images.find_images(path).values())
    except SourceError:
        return []


def numbered_pictures(content: Iterable[Path]) -> list[Path]:
    """Those that would be frames of an image sequence."""
    return [
        path
        for path in content
        if path.suffix.lower() in images.READ and not path.name.startswith(".") and _NUMBERED.fullmatch(path.name)
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"
