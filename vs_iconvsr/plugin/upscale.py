"""core.iconvsr.Upscale: answers frame requests out of a session."""

from collections.abc import Mapping, Sequence

from vs_iconvsr.plugin import planes
from vs_iconvsr.plugin.arguments import INFORMATION, WARNING, Arguments, Clip, Log, upscaling
from vs_iconvsr.plugin.planes import Plane
from vs_iconvsr.streaming import HrFrame, Session


class UpscaleFilter:
    """core.iconvsr.Upscale: one for each call. shim.c describes the methods."""

    def __init__(self, clip: Clip, arguments: Arguments, threads: int, log: Log) -> None:
        asked = upscaling(clip, arguments)
        self._source, self._target = asked.source, asked.target
        self._session = Session(
            asked.network,
            asked.settings,
            source=self._source,
            width=asked.width,
            height=asked.height,
            num_frames=asked.num_frames,
            target=self._target,
            in_flight=threads,
            warn=lambda text: log(WARNING, f"Upscale: {text}"),
        )
        log(INFORMATION, f"Upscale: {self._session.plan.describe()}")
        scale = self._session.scale
        self.output = (self._target.id, asked.width * scale, asked.height * scale, False)

    def start(self, n: int) -> list[int]:
        """Only what hr frame n needs: VapourSynth fails a request with any frame that it asked for.

        In ascending order, so that a source that only gives frames in order has not to go back.
        """
        return self._session.needs(n)

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


def _numbers(properties: Mapping[str, Sequence[int | float | str]]) -> dict[str, int]:
    """The integer properties, first value each: color, fields and scene changes are all of this kind.

    `_Alpha` holds a frame; only its presence is kept.
    """
    numbers = {name: values[0] for name, values in properties.items() if values and isinstance(values[0], int)}
    return numbers | ({"_Alpha": 1} if "_Alpha" in properties else {})
