"""What a run records about itself: metrics.jsonl, TensorBoard, and the time that each step takes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from vs_iconvsr.atomic import write_atomically
from vs_iconvsr.extras import with_extra_named

from .run_options import TrainingError

FILE = "metrics.jsonl"


class MetricsLog:
    """Lines of metrics.jsonl in the run's folder, and the same values for TensorBoard.

    active: False in all processes but the first, which then record nothing.
    """

    def __init__(self, folder: Path, *, active: bool, tensorboard: bool) -> None:
        self.path, self.active = folder / FILE, active
        self.board = _open_tensorboard(folder) if tensorboard and active else None

    def write(self, step: int, **values: float) -> None:
        if not self.active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 1), **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def write_images(self, step: int, images: dict[str, Tensor]) -> None:
        """Images (3, h, w) uint8 for TensorBoard, by title."""
        if self.board is not None:
            for title, image in images.items():
                self.board.add_image(title, image, step)

    def discard_after(self, step: int) -> None:
        """Remove the lines of later steps, which a resumed run writes again."""
        if self.active and self.path.exists():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_atomically(self.path, "".join(f"{line}\n" for line in kept).encode())


class StepClock:
    """Time per step, and how much of it was spent waiting for data, since it was last read or restarted."""

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, step: int) -> None:
        self._since, self._step, self._waited_s = time.monotonic(), step, 0.0

    def read(self, step: int) -> tuple[float, float]:
        """Seconds per step and the share of time spent waiting, up to this step; starts over from here."""
        elapsed = time.monotonic() - self._since
        seconds, share = elapsed / max(1, step - self._step), self._waited_s / max(1e-9, elapsed)
        self.restart(step)
        return seconds, share

    def count_waiting[T](self, batches: Iterator[T]) -> Iterator[T]:
        """The batches; adds up the time that each one was waited for."""
        while True:
            requested = time.monotonic()
            batch = next(batches, None)
            self._waited_s += time.monotonic() - requested
            if batch is None:
                return
            yield batch


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(str(with_extra_named(error))) from error
    return SummaryWriter(str(folder / "tensorboard"))
