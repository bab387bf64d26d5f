"""Turn your own videos into training sequences: split into scenes, filter them, crop to the most detailed windows.

Each video is decoded twice: once to examine it, once to write what is kept. A data folder may be prepared again, with
more videos, too: what is done is not done again, and no scene ever changes sides between training and validation.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from vs_iconvsr.atomic import write_atomically

from .examine import Scene, combing, examine
from .extract import Excerpt, piece_starts, write_excerpts
from .preparation import (
    HELD_OUT,
    TRAIN,
    Preparation,
    VideoRecord,
    delete_record,
    examination_settings,
    load_records,
    save_record,
)
from .preparation_report import report
from .videos import display_names, find_videos, frames_of, video_identity, with_progress
from .walk import is_hidden

__all__ = ["Preparation", "Scene", "combing", "find_videos", "frames_of", "prepare"]

logger = logging.getLogger(__name__)

NOT_DECODED = "not decoded"
SPARE_BYTES = 2**30  # left free on the disk


def prepare(videos: Sequence[Path], folder: Path, preparation: Preparation) -> list[Scene]:
    """Write sequences to folder/train and folder/held_out (layout "prepared") and a report to folder/report.html.

    Returns the scenes of these videos. Raises ValueError if none could be kept, or where there is no room.
    """
    earlier = load_records(folder)
    _check_strangers(folder, earlier.values())
    found = _examine_all(videos, folder, preparation, earlier)
    records = {**earlier, **{record.identity: record for record in found}}
    if not any(record.kept for record in found):
        raise ValueError(
            f"{len(videos)} videos: expected at least one usable scene, "
            f"got {_reasons([scene for record in found for scene in record.scenes])}"
        )
    records = _choose_sides(records, earlier, preparation.held_out)
    for replaced in _replaced(found, earlier):
        delete_record(replaced, folder)
        del records[replaced.identity]
    for record in found:
        save_record(records[record.identity], folder)  # before the first sequence is written: sides never change
    mine = [records[record.identity] for record in found]
    excerpts = _plan(mine, folder, preparation)
    done = [_write(record, excerpts[record.identity], folder, preparation) for record in mine]
    write_atomically(folder / "preparation.json", (json.dumps(asdict(preparation), indent=2) + "\n").encode())
    rest = [record for identity, record in records.items() if identity not in excerpts]
    write_atomically(folder / "report.html", report([s for record in (*done, *rest) for s in record.scenes]).encode())
    return [scene for record in done for scene in record.scenes]


def _examine_all(
    videos: Sequence[Path], folder: Path, preparation: Preparation, earlier: dict[str, VideoRecord]
) -> list[VideoRecord]:
    """The records of the videos, each content once; those that were examined alike are not decoded again."""
    records: dict[str, VideoRecord] = {}
    settings = examination_settings(preparation)
    for k, (video, name) in enumerate(zip(videos, display_names(videos), strict=True), 1):
        try:
            identity = video_identity(video)
        except OSError as error:
            logger.warning("%s", error)
            identity = hashlib.sha256(str(video).encode()).hexdigest()[:16]
        if identity in records:
            logger.info("%s: the same video as %s", name, records[identity].path)
            continue
        known = earlier.get(identity)
        if known is not None and known.examined == settings and known.scenes[0].verdict.split(":")[0] != NOT_DECODED:
            logger.info("%s: examined before", name)
            records[identity] = replace(known, path=str(video.absolute()))
            continue
        scenes = _examine(video, name, preparation, doing=f"examining {name} ({k} of {len(videos)})")
        record = VideoRecord(identity, str(video.absolute()), tuple(scenes), settings)
        records[identity] = record
        if record.kept and known is None:
            save_record(record, folder)  # hours of work, perhaps; its sides are not chosen yet
    return list(records.values())


def _examine(video: Path, name: str, preparation: Preparation, *, doing: str) -> list[Scene]:
    """For a video that cannot be decoded, one scene with the error."""
    try:
        frames = frames_of(video, downscale=preparation.downscale)
        frames = with_progress(frames, video, doing=doing)
        return examine(name, frames, length=preparation.frames, downscale=preparation.downscale)
    except (ValueError, OSError) as error:
        logger.warning("%s", error)
        return [Scene(name, 0, 0, f"{NOT_DECODED}: {error}")]


def _choose_sides(
    records: dict[str, VideoRecord], earlier: dict[str, VideoRecord], share: float
) -> dict[str, VideoRecord]:
    """The records with their kept scenes on the sides where they were before; of new ones the share is held out.

    At least one scene of two is held out. Chosen by a hash, hence independent of the order of the videos.
    """
    known = {
        (identity, scene): _earlier_side(record, scene, earlier)
        for identity, record in records.items()
        for scene in record.kept
    }
    count = max(round(share * len(known)), 1 if share > 0.0 else 0) if len(known) > 1 else 0
    new = sorted((key for key, side in known.items() if side is None), key=lambda key: _order(key[1]))
    chosen = set(new[: max(0, count - sum(side is True for side in known.values()))])
    held_out = chosen | {key for key, side in known.items() if side}
    return {
        identity: replace(
            record,
            has_sides=True,
            scenes=tuple(replace(scene, held_out=(identity, scene) in held_out) for scene in record.scenes),
        )
        for identity, record in records.items()
    }


def _replaced(found: Sequence[VideoRecord], earlier: dict[str, VideoRecord]) -> list[VideoRecord]:
    """Earlier records of files that now have other contents."""
    paths, identities = {record.path for record in found}, {record.identity for record in found}
    return [old for old in earlier.values() if old.path in paths and old.identity not in identities]


def _earlier_side(record: VideoRecord, scene: Scene, earlier: dict[str, VideoRecord]) -> bool | None:
    """Whether its frames were held out by an earlier preparation; None if they are new."""
    sides = {
        other.held_out
        for before in earlier.values()
        if before.has_sides and (before.identity == record.identity or before.path == record.path)
        for other in before.kept
        if other.start < scene.stop and scene.start < other.stop
    }
    return any(sides) if sides else None


def _order(scene: Scene) -> str:
    return hashlib.sha256(f"{scene.video}:{scene.start}".encode()).hexdigest()


def _plan(records: Sequence[VideoRecord], folder: Path, preparation: Preparation) -> dict[str, list[Excerpt]]:
    """How many pieces each scene may give so that all of them fit: first one each, held-out scenes first."""
    wanted = sorted(
        (piece, not scene.held_out, _order(scene), record.identity, scene.start)
        for record in records
        for scene in record.kept
        for piece in range(len(piece_starts(scene, preparation.most_per_scene, length=preparation.frames)))
    )
    own = sum(file.stat().st_size for record in records for file in record.files(folder))
    others = sum(file.stat().st_size for file in _sequences(folder)) - own
    piece_bytes = preparation.windows * preparation.sequence_bytes
    fitting = int((preparation.most_gib * 2**30 - others) // piece_bytes)
    if fitting < len(wanted):
        logger.warning("%d of %d pieces fit into --most-gib %g", max(0, fitting), len(wanted), preparation.most_gib)
    granted = wanted[: max(0, fitting)]
    _check_room(folder, len(granted) * piece_bytes - own)
    counts: dict[tuple[str, int], int] = {}
    for _, _, _, identity, start in granted:
        counts[identity, start] = counts.get((identity, start), 0) + 1
    return {
        record.identity: [
            Excerpt(scene, counts[record.identity, scene.start], folder / (HELD_OUT if scene.held_out else TRAIN))
            for scene in record.kept
            if (record.identity, scene.start) in counts
        ]
        for record in records
    }


def _check_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free - SPARE_BYTES
    if 0 < needed_bytes > free:
        raise ValueError(
            f"{folder}: expected room for up to {needed_bytes / 2**30:.1f} GiB, got {max(0, free) / 2**30:.1f} GiB; "
            "pass a smaller --most-gib, or choose a folder on another disk"
        )


def _write(record: VideoRecord, excerpts: list[Excerpt], folder: Path, preparation: Preparation) -> VideoRecord:
    """Write the excerpts unless an earlier preparation wrote the same; returns the record with what is there."""
    plan = hashlib.sha256(
        repr(
            (
                preparation.frames,
                preparation.window_px,
                preparation.windows,
                preparation.downscale,
                [(e.scene.start, e.scene.stop, e.pieces, e.folder.name) for e in excerpts],
            )
        ).encode()
    ).hexdigest()
    if record.written == plan and len(record.files(folder)) == sum(scene.sequences for scene in record.scenes):
        return record
    for file in record.files(folder):
        file.unlink()
    record = replace(record, written="", scenes=tuple(replace(scene, sequences=0) for scene in record.scenes))
    save_record(record, folder)
    if excerpts:
        counts = _write_excerpts(record, excerpts, preparation)
        scenes = (replace(scene, sequences=counts.get(scene.start, 0)) for scene in record.scenes)
        record = replace(record, scenes=tuple(scenes))
    record = replace(record, written=plan)
    save_record(record, folder)
    return record


def _write_excerpts(record: VideoRecord, excerpts: list[Excerpt], preparation: Preparation) -> dict[int, int]:
    """The number of sequences written, by the first frame of their scene."""
    video = Path(record.path)
    frames = frames_of(video, downscale=preparation.downscale)
    counts = write_excerpts(
        with_progress(frames, video, doing=f"writing sequences of {excerpts[0].scene.video}"),
        excerpts,
        name=record.stem,
        length=preparation.frames,
        window_px=preparation.window_px,
        windows=preparation.windows,
    )
    return {excerpt.scene.start: count for excerpt, count in zip(excerpts, counts, strict=True)}


def _sequences(folder: Path) -> list[Path]:
    return [file for part in (TRAIN, HELD_OUT) for file in (folder / part).glob("*.npy") if not is_hidden(file.name)]


def _check_strangers(folder: Path, records: Iterable[VideoRecord]) -> None:
    """Raise ValueError for sequences without a record: nobody knows on which side their scenes must stay."""
    own = {file for record in records for file in record.files(folder)}
    if strangers := [file for file in _sequences(folder) if file not in own]:
        raise ValueError(
            f"{folder}: expected only sequences of this version's preparations, got {len(strangers)} others, such as "
            f"{strangers[0].name}; delete {TRAIN} and {HELD_OUT}, or choose another --out"
        )


def _reasons(found: Sequence[Scene]) -> str:
    return "; ".join(sorted({scene.verdict for scene in found})) or "no scenes"
