"""The filter: checks arguments, answers frame requests, and is the one place where errors get their name.

native/shim.c calls `call` for every function of core.iconvsr and then the methods of the object it returned; an
exception becomes vs.Error("Upscale: …") there.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

import vs_iconvsr
from vs_iconvsr import colour as colours
from vs_iconvsr import plan, planes, scenes, weights
from vs_iconvsr.colour import Format
from vs_iconvsr.planes import Plane
from vs_iconvsr.stream import ROUND_FRAMES, Hr, Stream

type Arguments = Mapping[str, Sequence[int | float | str]]
type Clip = tuple[int, int, int, int]
"""Format id (0 for a clip of variable format), width and height (0 for variable size), number of frames."""
type Log = Callable[[int, str], None]

DEBUG, INFORMATION, WARNING = 0, 1, 2  # VSMessageType


def call(
    function: str, clip: Clip | None, arguments: Arguments, threads: int, log: Log
) -> "UpscaleFilter | SceneDetectFilter | dict[str, list[str]]":
    """One call of a function of core.iconvsr. threads: the core's. log(level, text) writes to the core's log."""
    if function == "Models":
        return _models()
    if function == "Version":
        return _version()
    assert clip is not None
    if function == "SceneDetect":
        return SceneDetectFilter(clip, arguments)
    return UpscaleFilter(clip, arguments, threads, log)


class UpscaleFilter:
    """core.iconvsr.Upscale: one per call. The methods are what shim.c describes."""

    def __init__(self, clip: Clip, arguments: Arguments, threads: int, log: Log) -> None:
        self._source = _constant_format(clip)
        _, width, height, num_frames = clip
        self._target = _target_format(arguments, self._source)
        model = _one(arguments, "model", str, weights.DEFAULT_MODEL)
        settings = _settings(arguments)
        network = weights.load(model, auto_download=bool(_one(arguments, "auto_download", int, 0)))
        self._stream = Stream(
            network,
            settings,
            source=self._source,
            width=width,
            height=height,
            num_frames=num_frames,
            target=self._target,
            in_flight=threads,
            warn=lambda text: log(WARNING, f"Upscale: {text}"),
        )
        log(INFORMATION, f"Upscale: {model}, {self._stream.plan.describe()}")
        scale = self._stream.scale
        self.output = (self._target.id, width * scale, height * scale, False)

    def start(self, n: int) -> list[int]:
        wanted = self._stream.missing(n)
        return sorted({*wanted, *self._stream.ahead(n)})

    def take(
        self, n: int, frame: Sequence[Plane], properties: Mapping[str, Sequence[int | float | str]], keepsake: object
    ) -> None:
        self._stream.put(n, planes.copy_from(frame, self._source), _numbers(properties), keepsake=keepsake)

    def more(self, n: int) -> list[int]:
        return self._stream.missing(n)

    def finish(self, n: int) -> tuple[Hr, object, Mapping[str, int | None]]:
        hr = self._stream.frame(n)
        return hr, hr.keepsake, hr.properties

    def write(self, hr: Hr, frame: Sequence[Plane]) -> None:
        planes.copy_to(frame, hr.planes, self._target)

    def abandon(self, n: int) -> None:
        self._stream.abandon(n)

    def close(self) -> None:
        self._stream.close()


class SceneDetectFilter:
    """core.iconvsr.SceneDetect: the clip itself with `_SceneChangePrev` and `_SceneChangeNext` set on every frame."""

    def __init__(self, clip: Clip, arguments: Arguments) -> None:
        self._format = _constant_format(clip)
        id_, width, height, self._num_frames = clip
        self._threshold = _one(arguments, "sc_threshold", float, scenes.DEFAULT_THRESHOLD)
        if not self._threshold > 0:
            raise ValueError(f"sc_threshold: wanted a number above 0, got {self._threshold}")
        self._signatures: dict[int, torch.Tensor] = {}
        self._wanted: dict[int, set[int]] = {}
        self.output = (id_, width, height, True)

    def start(self, n: int) -> list[int]:
        """Frame n itself, to be copied, and what the detector looks at for cuts before and after it."""
        window = range(max(n - scenes.BEFORE, 0), min(n + 1 + scenes.AFTER + 1, self._num_frames))
        self._wanted[n] = {n, *(k for k in window if k not in self._signatures)}
        return sorted(self._wanted[n])

    def take(self, n: int, frame: Sequence[Plane], properties: object, keepsake: object) -> None:
        del properties, keepsake
        if n not in self._signatures:
            self._signatures[n] = scenes.signature(planes.copy_from(frame, self._format), self._format)

    def more(self, n: int) -> list[int]:
        """Signatures that another thread has dropped meanwhile; n again, because the frame is copied in this round."""
        absent = [k for k in self._window(n) if k not in self._signatures]
        return sorted({n, *absent}) if absent else []

    def finish(self, n: int) -> tuple[None, None, dict[str, int]]:
        changes = {"_SceneChangePrev": self._is_cut(n), "_SceneChangeNext": self._is_cut(n + 1)}
        self._forget(n)
        return None, None, changes

    def abandon(self, n: int) -> None:
        self._wanted.pop(n, None)

    def close(self) -> None:
        self._signatures.clear()

    def _window(self, n: int) -> range:
        return range(max(n - scenes.BEFORE, 0), min(n + 1 + scenes.AFTER + 1, self._num_frames))

    def _is_cut(self, n: int) -> int:
        if not 0 < n < self._num_frames:
            return 0
        window = range(max(n - scenes.BEFORE, 0), min(n + scenes.AFTER + 1, self._num_frames))
        signatures = [self._signatures[k] for k in window]
        return int(scenes.is_cut(signatures, n - window.start, threshold=self._threshold))

    def _forget(self, n: int) -> None:
        self._wanted.pop(n, None)
        while len(self._signatures) > 64 * ROUND_FRAMES:
            del self._signatures[next(iter(self._signatures))]


def _constant_format(clip: Clip) -> Format:
    id_, width, height, _ = clip
    if id_ == 0 or width == 0 or height == 0:
        raise ValueError(
            "clip: wanted constant format and size, got a clip where they change; "
            "split it, or bring all of it to one with resize.Bicubic(width=, height=, format=)"
        )
    return Format.from_id(id_)


def _target_format(arguments: Arguments, source: Format) -> Format:
    wanted = _one(arguments, "format", int, 0)
    return Format.from_id(wanted) if wanted else source


def _settings(arguments: Arguments) -> plan.Settings:
    usual = plan.Settings()
    memory = _one(arguments, "memory", float, 0.0)
    tile = [int(side) for side in arguments.get("tile", ())]
    if tile and len(tile) != 2:
        raise ValueError(f"tile: wanted [width, height], got {tile}")
    return plan.Settings(
        segment=_one(arguments, "segment", int, usual.segment),
        context=_one(arguments, "context", int, usual.context),
        scene_detect=bool(_one(arguments, "scene_detect", int, usual.scene_detect)),
        sc_threshold=_one(arguments, "sc_threshold", float, usual.sc_threshold),
        tile=(tile[0], tile[1]) if tile else None,
        halo=_one(arguments, "halo", int, usual.halo),
        device=_one(arguments, "device", str, usual.device),
        precision=_one(arguments, "precision", str, usual.precision),
        memory_bytes=int(memory * plan.GIB) if memory else None,
        dither=_one(arguments, "dither", str, usual.dither),
        matrix=colours.matrix_named(_one(arguments, "matrix", str, "")),
    )


def _one[T: (int, float, str)](arguments: Arguments, name: str, kind: type[T], usual: T) -> T:
    """The value of an argument that takes one. VapourSynth has checked its type."""
    values = arguments.get(name)
    return kind(values[0]) if values else usual


def _numbers(properties: Mapping[str, Sequence[int | float | str]]) -> dict[str, int]:
    """The integer properties, first value each: colour, fields and scene changes are all of this kind.

    `_Alpha` holds a frame, of which only its being there is told.
    """
    numbers = {name: values[0] for name, values in properties.items() if values and isinstance(values[0], int)}
    return numbers | ({"_Alpha": 1} if "_Alpha" in properties else {})


def _models() -> dict[str, list[str]]:
    models = weights.available()
    return {"name": [model.name for model in models], "description": [model.description for model in models]}


def _version() -> dict[str, list[str]]:
    return {"version": [vs_iconvsr.__version__], "torch": [torch.__version__], "devices": plan.devices_here()}
