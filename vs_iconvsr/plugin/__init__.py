"""The filter: checks arguments, answers frame requests, and is the one place where errors get their name.

native/shim.c calls `call` for every function of core.iconvsr and then the methods of the object it returned; an
exception becomes vs.Error("Upscale: …") there.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch

import vs_iconvsr
from vs_iconvsr import colorspace, plan, scenes, weights
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plugin import planes
from vs_iconvsr.plugin.planes import Plane
from vs_iconvsr.scenes.cuts import SceneStarts
from vs_iconvsr.streaming import HrFrame, Session

type Arguments = Mapping[str, Sequence[int | float | str]]
type Clip = tuple[int, int, int, int]
"""Format id (0 for a clip of variable format), width and height (0 for variable size), number of frames."""
type Log = Callable[[int, str], None]

INFORMATION, WARNING = 1, 2  # of VSMessageType


def call(
    function: str, clip: Clip | None, arguments: Arguments, threads: int, log: Log
) -> "UpscaleFilter | SceneDetectFilter | dict[str, list[str]]":
    """One call of a function of core.iconvsr. threads: the core's. log(level, text) writes to the core's log."""
    if function == "Models":
        return _models()
    if function == "Version":
        return _version()
    assert clip is not None
    if function == "Plan":
        return _plan(clip, arguments)
    if function == "SceneDetect":
        return SceneDetectFilter(clip, arguments)
    return UpscaleFilter(clip, arguments, threads, log)


class UpscaleFilter:
    """core.iconvsr.Upscale: one per call. The methods are what shim.c describes."""

    def __init__(self, clip: Clip, arguments: Arguments, threads: int, log: Log) -> None:
        self._source = _constant_format(clip)
        _, width, height, num_frames = clip
        self._target = _target_format(arguments, self._source)
        self._session = Session(
            _network(arguments),
            _settings(arguments),
            source=self._source,
            width=width,
            height=height,
            num_frames=num_frames,
            target=self._target,
            in_flight=threads,
            warn=lambda text: log(WARNING, f"Upscale: {text}"),
        )
        log(INFORMATION, f"Upscale: {self._session.plan.describe()}")
        scale = self._session.scale
        self.output = (self._target.id, width * scale, height * scale, False)

    def start(self, n: int) -> list[int]:
        needed = self._session.needs(n)
        return sorted({*needed, *self._session.look_ahead(n)})

    def take(
        self, n: int, frame: Sequence[Plane], properties: Mapping[str, Sequence[int | float | str]], user_data: object
    ) -> None:
        self._session.put(n, planes.copy_from(frame, self._source), _numbers(properties), user_data=user_data)

    def more(self, n: int) -> list[int]:
        return self._session.needs(n)

    def finish(self, n: int) -> tuple[HrFrame, object, Mapping[str, int | None]]:
        hr = self._session.frame(n)
        return hr, hr.user_data, hr.properties

    def write(self, hr: HrFrame, frame: Sequence[Plane]) -> None:
        planes.copy_to(frame, hr.planes, self._target)

    def abandon(self, n: int) -> None:
        self._session.abandon(n)

    def close(self) -> None:
        self._session.close()


class SceneDetectFilter:
    """core.iconvsr.SceneDetect: the clip itself with `_SceneChangePrev` and `_SceneChangeNext` set on every frame."""

    def __init__(self, clip: Clip, arguments: Arguments) -> None:
        self._format = _constant_format(clip)
        id_, width, height, num_frames = clip
        self._threshold = _one(arguments, "sc_threshold", float, scenes.DEFAULT_THRESHOLD)
        if not 0 < self._threshold <= 1:
            raise ValueError(f"sc_threshold: expected a share above 0 and up to 1, got {self._threshold}")
        self._signatures: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._starts = SceneStarts(num_frames)
        self._lock = threading.Lock()
        self.output = (id_, width, height, True)

    def start(self, n: int) -> list[int]:
        """Frame n itself, to be copied, and what the detector looks at for cuts before and after it."""
        with self._lock:
            return sorted({n, *self._absent(n)})

    def take(self, n: int, frame: Sequence[Plane], properties: object, user_data: object) -> None:
        del properties, user_data
        signature = scenes.signature(planes.copy_from(frame, self._format), self._format)
        with self._lock:
            self._signatures[n] = signature
            self._signatures.move_to_end(n)
            while len(self._signatures) > SIGNATURES_HELD:
                self._signatures.popitem(last=False)

    def more(self, n: int) -> list[int]:
        """Judges both cuts if it can; else the signatures dropped meanwhile, and n again: it is copied from the last
        round."""
        with self._lock:
            if absent := self._absent(n):
                return sorted({n, *absent})
            windows = [(k, self._starts.window(k)) for k in (n, n + 1) if self._starts[k] is None]
            held = [(k, k - window.start, [self._signatures[i] for i in window]) for k, window in windows]
        for k, at, signatures in held:  # without the lock: milliseconds
            answer = scenes.is_cut(signatures, at, threshold=self._threshold)
            with self._lock:
                self._starts.learn(k, answer)
        return []

    def finish(self, n: int) -> tuple[None, None, dict[str, int]]:
        with self._lock:
            return None, None, {scenes.PREV: int(bool(self._starts[n])), scenes.NEXT: int(bool(self._starts[n + 1]))}

    def abandon(self, n: int) -> None:
        del n

    def close(self) -> None:
        self._signatures.clear()

    def _absent(self, n: int) -> set[int]:
        """Frames without which a cut at n or n + 1 cannot be judged."""
        unknown = [k for k in (n, n + 1) if self._starts[k] is None]
        return {i for k in unknown for i in self._starts.window(k) if i not in self._signatures}


SIGNATURES_HELD = 512
"""About 10 KB each: room for every request of a core with many threads, and the same for clips of any length."""


def _constant_format(clip: Clip) -> Format:
    id_, width, height, _ = clip
    if id_ == 0 or width == 0 or height == 0:
        raise ValueError(
            "clip: expected constant format and size, got a clip where they change; "
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
        raise ValueError(f"tile: expected [width, height], got {tile}")
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
        matrix=colorspace.matrix_named(_one(arguments, "matrix", str, "")),
    )


def _one[T: (int, float, str)](arguments: Arguments, name: str, kind: type[T], usual: T) -> T:
    """The value of an argument that takes one. VapourSynth has checked its type."""
    values = arguments.get(name)
    return kind(values[0]) if values else usual


def _numbers(properties: Mapping[str, Sequence[int | float | str]]) -> dict[str, int]:
    """The integer properties, first value each: color, fields and scene changes are all of this kind.

    `_Alpha` holds a frame, of which only its being there is told.
    """
    numbers = {name: values[0] for name, values in properties.items() if values and isinstance(values[0], int)}
    return numbers | ({"_Alpha": 1} if "_Alpha" in properties else {})


def _plan(clip: Clip, arguments: Arguments) -> dict[str, list[str]]:
    """What Upscale would do with the same arguments, as JSON; "text" in it is the line that it logs."""
    _constant_format(clip)
    made = plan.plan_for(_settings(arguments), _network(arguments), clip[1], clip[2])
    return {"json": [json.dumps({"text": made.describe()} | asdict(made))]}


def _network(arguments: Arguments) -> VideoNetwork:
    model = _one(arguments, "model", str, weights.DEFAULT_MODEL)
    return weights.load(model, auto_download=bool(_one(arguments, "auto_download", int, 0)))


def _models() -> dict[str, list[str]]:
    models = weights.available()
    return {"name": [model.name for model in models], "description": [model.description for model in models]}


def _version() -> dict[str, list[str]]:
    return {"version": [vs_iconvsr.__version__], "torch": [torch.__version__], "devices": plan.devices_here()}
