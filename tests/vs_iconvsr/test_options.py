"""The options: defined once, and everything that repeats one of them agrees with the definition."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vs_iconvsr import colorspace, options, scenes, weights
from vs_iconvsr.engine import PRECISIONS
from vs_iconvsr.options import Option
from vs_iconvsr.plan import Settings

MINGW = "x86_64-w64-mingw32-gcc"
ROOT = Path(__file__).parents[2]


@pytest.mark.needs_vapoursynth
def test_the_filter_has_the_signature_of_the_options() -> None:
    import vapoursynth

    functions = vapoursynth.core.iconvsr
    assert functions.Upscale.signature == options.upscale_signature()
    assert functions.Plan.signature == options.upscale_signature()
    assert functions.SceneDetect.signature == options.scene_detect_signature()


def test_the_order_and_the_types_of_the_filters_arguments_stay() -> None:
    assert options.upscale_signature() == (
        "clip:vnode;model:data:opt;device:data:opt;precision:data:opt;segment:int:opt;context:int:opt;tile:int[]:opt;"
        "halo:int:opt;scene_detect:int:opt;sc_threshold:float:opt;format:int:opt;matrix:data:opt;dither:data:opt;"
        "memory:float:opt;auto_download:int:opt;cleaning:int:opt;strength:float:opt;"
    )


def test_the_build_needs_the_standard_library_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", ROOT / "vs_iconvsr" / "options.py", "signature", tmp_path / "signature.h"]
    subprocess.run(command, check=True)
    assert f'#define UPSCALE_ARGUMENTS "{options.upscale_signature()}"\n' in (tmp_path / "signature.h").read_text()


@pytest.mark.needs_vapoursynth
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_native_part_compiles_without_a_warning(tmp_path: Path) -> None:
    import sysconfig

    (tmp_path / "signature.h").write_text(options.signature_header())
    vapoursynth = subprocess.run(
        [sys.executable, "-m", "vapoursynth", "get-include"], check=True, capture_output=True, text=True
    )
    folders = [sysconfig.get_paths()["include"], vapoursynth.stdout.strip(), str(tmp_path)]
    command = [
        "cc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        "-DVERSION_MAJOR=0",
        "-DVERSION_MINOR=1",
        *(f"-I{folder}" for folder in folders),
    ]
    subprocess.run([*command, ROOT / "vs_iconvsr" / "plugin" / "native" / "shim.c"], check=True)


# What Python.h has to know of 64-bit Windows; the headers of this Python are those of this system.
PYCONFIG_OF_WINDOWS = """
#define MS_WINDOWS
#define MS_WIN64
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_WCHAR_T 2
#define ALIGNOF_MAX_ALIGN_T 8
#define HAVE_STDDEF_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_PY_SSIZE_T 1
typedef long long Py_ssize_t;
"""


@pytest.mark.needs_vapoursynth
@pytest.mark.skipif(shutil.which(MINGW) is None, reason="no compiler for Windows")
def test_the_native_part_compiles_for_windows_without_a_warning(tmp_path: Path) -> None:
    import sysconfig

    headers = tmp_path / "python"
    shutil.copytree(sysconfig.get_paths()["include"], headers)
    (headers / "pyconfig.h").write_text(PYCONFIG_OF_WINDOWS)
    (tmp_path / "signature.h").write_text(options.signature_header())
    vapoursynth = subprocess.run(
        [sys.executable, "-m", "vapoursynth", "get-include"], check=True, capture_output=True, text=True
    )
    folders = [f"-I{folder}" for folder in (headers, vapoursynth.stdout.strip(), tmp_path)]
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-DVERSION_MAJOR=0", "-DVERSION_MINOR=1"]
    shim = ROOT / "vs_iconvsr" / "plugin" / "native" / "shim.c"
    subprocess.run([MINGW, *warnings, *folders, "-c", shim, "-o", tmp_path / "shim.o"], check=True)


def test_defaults_and_choices_agree_with_what_they_stand_for() -> None:
    assert options.MODEL.default == weights.DEFAULT_MODEL
    assert options.PRECISION.choices == ("auto", *PRECISIONS)
    assert options.DITHER.choices == colorspace.DITHERS
    assert options.SC_THRESHOLD.default == scenes.DEFAULT_THRESHOLD
    with pytest.raises(ValueError, match=f"expected one of {', '.join(options.MATRIX_NAMES)} or"):
        colorspace.matrix_named("no matrix")


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.name)
def test_every_default_is_allowed_or_explained(option: Option[object]) -> None:
    if option.default is None:
        assert option.unset
    else:
        assert option.parse(option.default) == option.default


@pytest.mark.parametrize(("short", "name"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_a_precision_has_a_short_name(short: str, name: str) -> None:
    assert Settings.from_options({"precision": short}).precision == name


@pytest.mark.parametrize("given", ["709", "1", 1])
def test_a_matrix_is_a_name_or_a_number(given: object) -> None:
    assert Settings.from_options({"matrix": given}).matrix == 1


def test_settings_keep_their_defaults_where_nothing_is_given() -> None:
    assert Settings.from_options({"tile": None, "model": "light"}) == Settings()


def test_memory_is_given_in_gib() -> None:
    assert Settings.from_options({"memory": 0.5}).memory_bytes == 2**29


REFUSED = [
    (options.SEGMENT, -1, "segment: expected 0 (whole scenes) or 1 to 1000000 frames, got -1"),
    (options.CONTEXT, -1, "context: expected 0 to 1000000 frames, got -1"),
    (options.HALO, -1, "halo: expected 0 to 65536 px, got -1"),
    (options.THREADS, 0, "threads: expected 1 to 1024, got 0"),
    (options.THREADS, 10**30, "threads: expected 1 to 1024, got 1000000000000000000000000000000"),
    (options.SEGMENT, 10**400, f"segment: expected 0 (whole scenes) or 1 to 1000000 frames, got 1{'0' * 39}…"),
    (options.SEGMENT, "a few", "segment: expected a whole number, got 'a few'"),
    (options.SEGMENT, float("inf"), "segment: expected a whole number, got inf"),
    (options.STRENGTH, 10**400, "strength: expected a number, got 1000000000000000000000000000000000000000"),
    (options.TILE, 5, "tile: expected [width, height], got 5"),
    (options.TILE, [None, 5], "tile: expected a whole number, got None"),
    (options.SC_THRESHOLD, 0.0, "sc_threshold: expected a share above 0 and at most 1, got 0"),
    (options.SC_THRESHOLD, 1.5, "sc_threshold: expected a share above 0 and at most 1, got 1.5"),
    (options.MEMORY, 0.2, "memory: expected at least 0.25 GiB and at most 1048576 GiB, got 0.2"),
    (options.MEMORY, float("inf"), "memory: expected at least 0.25 GiB and at most 1048576 GiB, got inf"),
    (options.TILE, [100], "tile: expected [width, height], got [100]"),
    (options.DITHER, "blue", "dither: expected one of ordered, none, got blue"),
    (options.CLEANING, 0, "cleaning: expected 1, 2 or 3 passes, got 0"),
    (options.CLEANING, 4, "cleaning: expected 1, 2 or 3 passes, got 4"),
    (options.STRENGTH, -0.01, "strength: expected a share from 0 to 1, got -0.01"),
    (options.STRENGTH, 1.01, "strength: expected a share from 0 to 1, got 1.01"),
    (options.STRENGTH, float("nan"), "strength: expected a share from 0 to 1, got nan"),
    (options.PRECISION, "fp8", "precision: expected one of auto, float32, float16, bfloat16, got fp8"),
]


@pytest.mark.parametrize(("option", "value", "message"), REFUSED)
def test_a_value_outside_the_limits_is_refused_by_name(option: Option[object], value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        option.parse(value)


LOWEST: list[tuple[Callable[[object], object], object]] = [
    (options.SEGMENT.parse, 0),
    (options.CONTEXT.parse, 0),
    (options.HALO.parse, 0),
    (options.THREADS.parse, 1),
    (options.SC_THRESHOLD.parse, 1.0),
    (options.MEMORY.parse, 0.25),
    (options.CLEANING.parse, 1),
    (options.CLEANING.parse, 3),
    (options.STRENGTH.parse, 0.0),
    (options.STRENGTH.parse, 1.0),
]


@pytest.mark.parametrize(("parse", "value"), LOWEST)
def test_a_value_at_the_limit_is_accepted(parse: Callable[[object], object], value: object) -> None:
    assert parse(value) == value
