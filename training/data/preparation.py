"""What a data folder remembers of its preparation: settings, and for each video its scenes and their sides."""

import base64
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vs_iconvsr.atomic import write_atomically

from .examine import KEPT, Scene
from .walk import is_hidden

RECORDS = "videos"  # the folder in which they lie
TRAIN, HELD_OUT = "train", "held_out"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to extract. frames: length of a sequence. window_px: size of its frames.

    windows: number taken from each piece of a scene, the most detailed ones. downscale: shrinks soft footage until it
    is sharp. held_out: share of scenes reserved for validation. most_per_scene: pieces per scene, evenly
    spread. most_gib: room for all sequences on the disk, shared out evenly among the scenes.
    """

    frames: int = 15
    window_px: int = 256
    windows: int = 2
    downscale: int = 1
    held_out: float = 0.1
    most_per_scene: int = 4
    most_gib: float = 20.0

    def __post_init__(self) -> None:
        for name in ("frames", "window_px", "windows", "downscale", "most_per_scene"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.window_px < 8:
            raise ValueError(f"window_px: expected at least 8, got {self.window_px}")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"held_out: expected a share from 0 to below 1, got {self.held_out}")
        if not self.most_gib > 0.0:
            raise ValueError(f"most_gib: expected more than 0, got {self.most_gib}")

    @property
    def sequence_bytes(self) -> int:
        """Of the largest sequence that may be written."""
        return 3 * self.frames * self.window_px**2 + 128


@dataclass(frozen=True)
class VideoRecord:
    """One video of a data folder. identity: see `videos.video_identity`. written: the plan that its files follow.

    examined: settings that the verdicts depend on. has_sides: its scenes are assigned to training or validation.
    """

    identity: str
    path: str
    scenes: tuple[Scene, ...]
    examined: str
    written: str = ""
    has_sides: bool = False

    @property
    def kept(self) -> list[Scene]:
        return [scene for scene in self.scenes if scene.verdict == KEPT]

    @property
    def stem(self) -> str:
        """What the names of its sequences begin with: readable and unique."""
        return f"{Path(self.path).stem}-{self.identity[:8]}"

    def files(self, folder: Path) -> list[Path]:
        """Its sequences in the data folder, also those from before it was renamed."""
        mark = f"-{self.identity[:8]}"
        return [
            file
            for part in (TRAIN, HELD_OUT)
            for file in sorted((folder / part).glob("*.npy"))
            if not is_hidden(file.name) and file.stem.rsplit("_", 3)[0].endswith(mark)
        ]


def examination_settings(preparation: Preparation) -> str:
    return f"{_VERSION}: frames {preparation.frames}, downscale {preparation.downscale}"


def save_record(record: VideoRecord, folder: Path) -> None:
    content = asdict(record)
    for scene in content["scenes"]:
        scene["thumbnail"] = base64.b64encode(scene["thumbnail"]).decode()
    path = folder / RECORDS / f"{record.identity}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1).encode())


def delete_record(record: VideoRecord, folder: Path) -> None:
    """Its sequences, too."""
    for file in record.files(folder):
        file.unlink()
    (folder / RECORDS / f"{record.identity}.json").unlink(missing_ok=True)


def load_records(folder: Path) -> dict[str, VideoRecord]:
    """All records of a data folder by identity. ValueError names a file that cannot be read."""
    records = {}
    for path in sorted(path for path in (folder / RECORDS).glob("*.json") if not is_hidden(path.name)):
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            scenes = tuple(
                Scene(**{**scene, "thumbnail": base64.b64decode(scene["thumbnail"])}) for scene in content["scenes"]
            )
            record = replace(VideoRecord(**content), scenes=scenes)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: expected the record of a prepared video, got: {error}") from error
        records[record.identity] = record
    return records
