"""The source of a job: probed, rewrapped if its timestamps jump, and identified, so that a change is noticed."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffmpeg_filter.job.journal import REWRAPPED, Journal
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.media import ffmpeg, images
from ffmpeg_filter.media.container import data_streams
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError
from ffmpeg_filter.media.timestamps import DiscontinuityError
from vs_iconvsr import atomic

logger = logging.getLogger(__name__)

# Files up to this size are hashed whole; larger ones are identified by samples and their modification time.
_HASHED_WHOLE_BYTES = 64 << 20
_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10


def open_source(options: JobOptions, work: Journal) -> MediaSource:
    """The probed source. One whose timestamps jump is first rewrapped into the work directory.

    Raises SourceError, and FfmpegError if the rewrapping fails.
    """
    if images.is_image_sequence(options.input):
        return images.probe_images(options.input, options.rate, options.peak)
    try:
        return probe(options.input)
    except DiscontinuityError as error:
        try:
            source = probe(_rewrap(options, work, error))
        except ffmpeg.FfmpegError as failure:
            raise SourceError(f"{error}, and it cannot be rewrapped: {failure}") from failure
        note = f"{error}: it was rewrapped, so that timestamps continue across the joins"
        lost = tuple(f"data stream {n} (the source had to be rewrapped)" for n in data_streams(options.input))
        return replace(source, notes=(*source.notes, note), lost=(*source.lost, *lost))


def _rewrap(options: JobOptions, work: Journal, reason: DiscontinuityError) -> Path:
    """The source with continuous timestamps; that of an earlier run if the source is unchanged."""
    identity = repr(sorted(source_identity(options.input).items()))
    rewrapped = work.folder / f"{REWRAPPED}{hashlib.sha256(identity.encode()).hexdigest()[:16]}.mkv"
    if not rewrapped.exists():
        logger.warning("%s: rewrapping it so that timestamps continue", reason)
        temporary = atomic.temporary_for(rewrapped)
        temporary.unlink(missing_ok=True)  # an ffmpeg that outlived a killed run may still write to it
        ffmpeg.run(
            [
                *ffmpeg.command_prefix(ffmpeg.find_executable(options.ffmpeg)),
                *("-protocol_whitelist", ffmpeg.INPUT_PROTOCOLS, "-i", ffmpeg.safe_url(options.input)),
                *("-map", "0", "-map", "-0:d?", "-c", "copy", "-f", "matroska", ffmpeg.safe_url(temporary)),
            ]
        )
        atomic.replace(temporary, rewrapped)
    return rewrapped


def identity_of(options: JobOptions, source: MediaSource) -> dict[str, Any]:
    """What identifies this source: it differs if the source is changed."""
    return series_identity(source.images.files) if source.images else source_identity(options.input)


def source_identity(path: Path) -> dict[str, Any]:
    """Size and hash of a file; for a large one the hash of samples, and the modification time."""
    status = path.stat()
    with path.open("rb") as file:
        if status.st_size <= _HASHED_WHOLE_BYTES:
            return {"size": status.st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        digest = hashlib.sha256()
        for sample in range(_SAMPLES):
            file.seek((status.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return {"size": status.st_size, "sampled sha256": digest.hexdigest(), "changed": status.st_mtime_ns}


def series_identity(files: Sequence[Path]) -> dict[str, Any]:
    """The same for numbered images: a hash of their names, sizes and modification times."""
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {"images": len(files), "names, sizes, times": hashlib.sha256(repr(facts).encode()).hexdigest()}
