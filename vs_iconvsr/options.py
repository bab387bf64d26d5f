"""The options of upscaling, each defined once. Standard library only: the build reads this file without torch.

From here come: the signature of `core.iconvsr.Upscale` (and so its type stubs), the options of the `iconvsr` commands,
the defaults and limits of `plan.Settings`, and docs/options.md (scripts/make_options_page.py).

    python -m vs_iconvsr.options signature FILE    writes the C header that native/shim.c includes
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

type Kind = Literal["int", "float", "str", "bool", "size"]

MIN_MEMORY_GIB = 0.25
MAX_MEMORY_GIB = 2**20
MAX_FRAMES = 1_000_000  # of a segment and its context: whoever wants more wants whole scenes
MAX_HALO_PX = 2**16
MAX_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Option[T]:
    """One option.

    default: None leaves the choice to the program; `unset` describes what it then does. at_least, above and at_most
    are limits; `expected` describes them. short_names: other spellings of some choices. off: the effect of turning off
    an option that is on by default. cost: what another value costs, where that matters. shapes_pixels: whether the
    output depends on it. in_filter, in_command: which frontends have it.
    """

    name: str
    kind: Kind
    default: T
    help: str
    unset: str = ""
    unit: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    short_names: Mapping[str, str] = field(default_factory=dict)
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    expected: str = ""
    off: str = ""
    cost: str = ""
    shapes_pixels: bool = True
    in_filter: bool = True
    in_command: bool = True

    def parse(self, value: object) -> T:
        """A user's value, converted, short names expanded, limits checked. Raises ValueError, naming the option."""
        parsed: Any = value
        if self.kind == "str":
            parsed = self.short_names.get(str(value).lower(), str(value))
        elif self.kind == "size":
            sides = [_converted(self.name, int, side) for side in _listed(self.name, value)]
            if len(sides) != 2:
                raise ValueError(f"{self.name}: expected [width, height], got {sides}")
            parsed = (sides[0], sides[1])
        else:
            parsed = _converted(self.name, {"int": int, "float": float, "bool": bool}[self.kind], value)
        self.check(parsed)
        return cast("T", parsed)

    def check(self, value: object) -> None:
        """Raises ValueError, naming the option, for a value outside the limits or the choices."""
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name}: expected one of {', '.join(self.choices)}, got {value}")
        if not self.expected:
            return
        number = cast("float", value)
        if not (
            number == number  # not NaN, whose comparisons are all false
            and abs(number) != math.inf
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
        ):
            got = f"{number:g}" if isinstance(number, float) else f"{number}"
            raise ValueError(f"{self.name}: expected {self.expected}, got {got if len(got) < 40 else got[:40] + '…'}")

    def default_text(self) -> str:
        """The default as the command's help shows it."""
        if self.default is None:
            return self.unset
        number = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return f"{number} {self.unit}".rstrip()

    def argument(self) -> str:
        """The option as VapourSynth declares it: 'segment:int:opt;'."""
        types = {"int": "int", "float": "float", "str": "data", "bool": "int", "size": "int[]"}
        return f"{self.name}:{types[self.kind]}:opt;"


def _converted(name: str, kind: Callable[[Any], Any], value: object) -> Any:
    """Raises ValueError, naming the option, for a value that is none of that kind."""
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected {_KINDS[kind]}, got {value!r:.40}") from error


def _listed(name: str, value: object) -> list[object]:
    try:
        return list(cast("Sequence[object]", value))
    except TypeError as error:
        raise ValueError(f"{name}: expected [width, height], got {value!r:.40}") from error


_KINDS: Mapping[object, str] = {int: "a whole number", float: "a number", bool: "yes or no"}

MODEL = Option(
    name="model",
    kind="str",
    default="light",
    help="a name from `iconvsr models list`, or the path of a weight file",
    cost="the authors' models look better, but take 20 to 30 times the computation and need a GPU",
)
DEVICE = Option(
    name="device",
    kind="str",
    default="auto",
    help="cpu, cuda, cuda:1, mps or xpu; several of the same kind with commas: cuda:0,cuda:1",
)
PRECISION = Option(
    name="precision",
    kind="str",
    default="auto",
    choices=("auto", "float32", "float16", "bfloat16"),
    short_names={"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"},
    help="auto, float32 (fp32), float16 (fp16) or bfloat16 (bf16); auto is float16 on CUDA, else float32",
    cost="the CPU supports float32 only",
)
SEGMENT = Option(
    name="segment",
    kind="int",
    default=30,
    unit="frames",
    metavar="N",
    at_least=0,
    at_most=MAX_FRAMES,
    expected=f"0 (whole scenes) or 1 to {MAX_FRAMES} frames",
    help="frames upscaled together, in one propagation; 0: whole scenes",
    cost="longer segments take more memory; with 0, memory grows with the length of a scene",
)
CONTEXT = Option(
    name="context",
    kind="int",
    default=5,
    unit="frames",
    metavar="N",
    at_least=0,
    at_most=MAX_FRAMES,
    expected=f"0 to {MAX_FRAMES} frames",
    help="extra frames read on either side of a segment and discarded",
    cost="more context takes more time",
)
TILE = Option[tuple[int, int] | None](
    name="tile",
    kind="size",
    default=None,
    unset="whole frames if they fit into memory",
    unit="source pixels",
    metavar="WxH",
    help="tile size; a side of 0 spans the frame",
    cost="smaller tiles take less memory and more time",
)
HALO = Option(  # 48, 30 and 5: see scripts/seams.md
    name="halo",
    kind="int",
    default=48,
    unit="px",
    metavar="PX",
    at_least=0,
    at_most=MAX_HALO_PX,
    expected=f"0 to {MAX_HALO_PX} px",
    help="margin around each tile, in source pixels, that is read and discarded",
    cost="a wider margin takes more time, a narrower one may show seams",
)
SCENE_DETECT = Option(
    name="scene_detect",
    kind="bool",
    default=True,
    help="stop propagation at cuts",
    off="propagate across cuts",
)
SC_THRESHOLD = Option(
    name="sc_threshold",
    kind="float",
    default=0.7,
    metavar="SHARE",
    above=0,
    at_most=1,
    expected="a share above 0 and at most 1",
    help="share of the frame that must change to count as a cut, at most 1; lower values find more cuts",
)
FORMAT = Option[int | None](
    name="format",
    kind="int",
    default=None,
    unset="the source's",
    help="output format, such as `vs.YUV420P10`",
    in_command=False,
)
MATRIX_NAMES = ("709", "fcc", "470bg", "170m", "240m", "2020ncl")
MATRIX = Option[str | None](
    name="matrix",
    kind="str",
    default=None,
    unset="as tagged, else by frame size",
    metavar="NAME",
    help=f"YUV matrix, overriding the source's tag: {', '.join(MATRIX_NAMES)}, or an H.273 number",
)
DITHER = Option(
    name="dither",
    kind="str",
    default="ordered",
    choices=("ordered", "none"),
    help="rounding to the bit depth of the output; none rounds to nearest",
)
MEMORY = Option[float | None](
    name="memory",
    kind="float",
    default=None,
    unset="7/8 of a GPU's memory; main memory rounded down to a power of two",
    unit="GiB",
    metavar="GIB",
    at_least=MIN_MEMORY_GIB,
    at_most=MAX_MEMORY_GIB,
    expected=f"at least {MIN_MEMORY_GIB:g} GiB and at most {MAX_MEMORY_GIB} GiB",
    help="memory budget of the device; determines the tile size",
)
AUTO_DOWNLOAD = Option(
    name="auto_download",
    kind="bool",
    default=False,
    help="download the weights of an official model if they are missing",
    shapes_pixels=False,
    in_command=False,
)
THREADS = Option[int | None](
    name="threads",
    kind="int",
    default=None,
    unset="OMP_NUM_THREADS, else one per core",
    metavar="N",
    at_least=1,
    at_most=MAX_THREADS,
    expected=f"1 to {MAX_THREADS}",
    help="CPU threads for each operation",
    in_filter=False,
)
CLEANING = Option[int | None](
    name="cleaning",
    kind="int",
    default=None,
    unset="the model's own: 1 as published",
    metavar="N",
    at_least=1,
    at_most=3,
    expected="1, 2 or 3 passes",
    help="passes over each frame, 1 to 3, that remove noise and compression first; for RealBasicVSR only",
    cost="more passes are smoother, and each takes time",
)
STRENGTH = Option(
    name="strength",
    kind="float",
    default=1.0,
    metavar="SHARE",
    at_least=0,
    at_most=1,
    expected="a share from 0 to 1",
    help="share of the network in the output, up to 1; the rest is bicubic interpolation",
)
HELD_FRAMES = Option(
    name="held_frames",
    kind="str",
    default="each",
    metavar="HOW",
    choices=("each", "once"),
    help="each or once; once: frames that repeat the one before exactly are upscaled once, as in animation on twos",
    in_filter=False,
)

OPTIONS: tuple[Option[Any], ...] = (
    MODEL,
    DEVICE,
    PRECISION,
    SEGMENT,
    CONTEXT,
    TILE,
    HALO,
    SCENE_DETECT,
    SC_THRESHOLD,
    FORMAT,
    MATRIX,
    DITHER,
    MEMORY,
    AUTO_DOWNLOAD,
    THREADS,
    CLEANING,
    STRENGTH,
    HELD_FRAMES,
)
"""In the order of the filter's arguments, on which scripts may rely."""

FILTER = tuple(option for option in OPTIONS if option.in_filter)
COMMAND = tuple(option for option in OPTIONS if option.in_command)


def upscale_signature() -> str:
    """The arguments of `core.iconvsr.Upscale` and `core.iconvsr.Plan`, as VapourSynth declares them."""
    return "clip:vnode;" + "".join(option.argument() for option in FILTER)


def scene_detect_signature() -> str:
    """The arguments of `core.iconvsr.SceneDetect`."""
    return "clip:vnode;" + SC_THRESHOLD.argument()


def signature_header() -> str:
    """The C header with both signatures."""
    return (
        "/* Written by vs_iconvsr/options.py at build time. */\n"
        f'#define UPSCALE_ARGUMENTS "{upscale_signature()}"\n'
        f'#define SCENE_DETECT_ARGUMENTS "{scene_detect_signature()}"\n'
    )


def filter_table() -> str:
    """The arguments of the filter as a Markdown table, one line each."""
    rows = [f"| `{option.name}` | {_default_cell(option)} | {_meaning_cell(option)} |" for option in FILTER]
    return "\n".join(["| argument | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _default_cell(option: Option[Any]) -> str:
    if option.kind == "bool":
        return str(int(option.default))
    if option.kind == "str" and option.default is not None:
        return f'`"{option.default}"`'
    return option.default_text()


def _meaning_cell(option: Option[Any]) -> str:
    text = option.help
    if option.kind == "bool":
        text = f"1: {option.help}" + (f"; 0: {option.off}" if option.off else "")
    if option.kind == "size":
        text = f"`[width, height]`: {text}"
    if option.unit and option.default is None:
        text = f"{text}; in {option.unit}"
    return f"{text}. {option.cost[0].upper()}{option.cost[1:]}" if option.cost else text


def main(arguments: Sequence[str]) -> int:
    """See the docstring of the module."""
    match arguments:
        case ["signature", path]:
            Path(path).write_text(signature_header(), encoding="utf-8")
        case _:
            sys.stderr.write(f"options: expected signature FILE, got {' '.join(arguments) or 'nothing'}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
