"""Each option is defined once: both frontends, the plan and the README say what `options` says."""

import subprocess
import sys
from pathlib import Path

import pytest

from ffmpeg_filter.commands.arguments import settings_from
from vs_iconvsr import colorspace, options
from vs_iconvsr.engine import PRECISIONS
from vs_iconvsr.plan import GIB, Settings
from vs_iconvsr.plugin import arguments as filter_arguments
from vs_iconvsr.scenes import DEFAULT_THRESHOLD

ROOT = Path(__file__).parents[2]


def parsed(*words: str) -> Settings:
    """What `iconvsr upscale` makes of these options."""
    from ffmpeg_filter.cli import parser

    return settings_from(parser("upscale").parse_args(["upscale", "in.mkv", "out.mkv", *words]))


@pytest.mark.needs_vapoursynth
def test_the_filter_is_registered_with_these_arguments() -> None:
    import vapoursynth as vs

    plugin = vs.core.iconvsr
    assert plugin.Upscale.signature == options.upscale_signature()
    assert plugin.Plan.signature == options.upscale_signature()
    assert plugin.SceneDetect.signature == options.scene_detect_signature()


def test_the_table_in_the_readme_is_generated() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert options.with_table(readme) == readme, "run python -m vs_iconvsr.options table README.md"
    with pytest.raises(ValueError, match="table: expected a file with the lines"):
        options.with_table("no table")


def test_this_file_is_read_without_torch() -> None:
    program = "import sys; from vs_iconvsr import options; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("option", options.COMMAND, ids=lambda option: option.name)
def test_the_help_of_the_command_shows_every_option_and_its_default(option: options.Option[object]) -> None:
    from ffmpeg_filter.cli import parser

    upscale = next(a for a in parser("upscale")._actions if a.dest == "command").choices["upscale"]  # type: ignore[union-attr]
    action = next(a for a in upscale._actions if a.dest == option.name)  # type: ignore[union-attr]
    shown = (action.help or "") % {}
    assert (option.off if option.kind == "bool" else option.help) in shown
    assert "(default: " in shown
    if option.kind != "bool":
        assert option.default_text() in shown


def test_without_options_both_frontends_ask_for_the_same() -> None:
    assert parsed() == filter_arguments.settings_from({}) == Settings()


def test_the_same_values_mean_the_same_in_both_frontends() -> None:
    by_command = parsed(
        *("--segment", "12", "--context", "2", "--precision", "fp32", "--tile", "128x0", "--halo", "16"),
        *("--no-scene-detect", "--sc-threshold", "0.5", "--matrix", "709", "--dither", "none", "--memory", "4"),
    )
    by_filter = filter_arguments.settings_from(
        {
            "segment": [12],
            "context": [2],
            "precision": ["float32"],
            "tile": [128, 0],
            "halo": [16],
            "scene_detect": [0],
            "sc_threshold": [0.5],
            "matrix": ["709"],
            "dither": ["none"],
            "memory": [4.0],
        }
    )
    assert by_command == by_filter
    assert by_command.matrix == 1
    assert by_command.memory_bytes == 4 * GIB


@pytest.mark.parametrize(("short", "full"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_short_names_of_precisions_are_accepted_by_both_frontends(short: str, full: str) -> None:
    assert parsed("--precision", short).precision == full
    assert filter_arguments.settings_from({"precision": [short]}).precision == full


@pytest.mark.parametrize(("name", "number"), [("709", 1), ("170m", 6), ("470bg", 5), ("2020ncl", 9), ("6", 6)])
def test_the_command_takes_the_matrix_names_of_the_filter(name: str, number: int) -> None:
    assert parsed("--matrix", name).matrix == number
    assert filter_arguments.settings_from({"matrix": [name]}).matrix == number


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("segment", -1, "segment: expected 0 .whole scenes. or at least 1 frame, got -1"),
        ("context", -1, "context: expected at least 0 frames, got -1"),
        ("sc_threshold", 1.5, "sc_threshold: expected a share above 0 and up to 1, got 1.5"),
        ("halo", -2, "halo: expected at least 0 px, got -2"),
        ("precision", "int8", "precision: expected one of auto, float32, float16, bfloat16, got int8"),
        ("dither", "noise", "dither: expected one of ordered, none, got noise"),
        ("memory", float("nan"), "memory: expected at least 0.25 GiB, got nan"),
        ("matrix", "rec709", "matrix: expected"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(name: str, value: float | str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        filter_arguments.settings_from({name: [value]})


def test_choices_are_those_of_the_parts_that_know_them() -> None:
    assert options.PRECISION.choices == ("auto", *PRECISIONS)
    assert options.SC_THRESHOLD.default == DEFAULT_THRESHOLD
    assert all(colorspace.matrix_named(name) is not None for name in options.MATRIX_NAMES)
