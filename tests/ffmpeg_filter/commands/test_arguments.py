"""The commands offer the options as they are defined, and read them as the filter does."""

import argparse

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.commands.arguments import add_upscaling_arguments, settings_from, words_from
from vs_iconvsr import options
from vs_iconvsr.plan import Settings


def parsed(*words: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_upscaling_arguments(parser)
    return settings_from(parser.parse_args(words))


def test_what_is_left_out_keeps_its_default() -> None:
    assert parsed() == Settings()


def test_every_option_arrives_in_the_settings() -> None:
    words = "--device cpu --precision fp32 --segment 7 --context 2 --tile 640x0 --halo 9 --no-scene-detect "
    words += "--sc-threshold 0.5 --matrix 170m --dither none --memory 2 --threads 3"
    assert parsed(*words.split()) == Settings(
        device="cpu",
        precision="float32",
        segment=7,
        context=2,
        tile=(640, 0),
        halo=9,
        scene_detect=False,
        sc_threshold=0.5,
        matrix=6,
        dither="none",
        memory_bytes=2 * 2**30,
        threads=3,
    )


def test_arguments_become_words_and_arguments_again() -> None:
    given = [
        "--model=a b.safetensors",
        "--segment=7",
        "--tile=640x0",
        "--no-scene-detect",
        "--memory=2.5",
        "--strength=0.5",
    ]
    parser = argparse.ArgumentParser()
    add_upscaling_arguments(parser)
    words = words_from(parser.parse_args(given))
    assert sorted(words) == sorted(given)
    assert words_from(parser.parse_args([])) == []


@pytest.mark.parametrize(("text", "number"), [("709", 1), ("2020ncl", 9), ("5", 5)])
def test_a_matrix_is_named_or_numbered(text: str, number: int) -> None:
    assert parsed("--matrix", text).matrix == number


def test_two_dashes_are_no_value_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse takes them for an empty list."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", "a.mkv", "b.mkv", "--threads=--"])
    assert ended.value.code == 2
    assert "argument --threads: expected one argument, got --" in capsys.readouterr().err


def test_a_precision_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"^precision: expected one of auto, float32, float16, bfloat16, got fp8$"):
        parsed("--precision", "fp8")


@pytest.mark.parametrize("command", ["upscale", "pipe", "compare"])
def test_help_shows_every_option_with_its_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, capsys, monkeypatch)
    for option in options.COMMAND:
        flag = f"--no-{option.name}" if option.kind == "bool" else f"--{option.name}"
        default = option.help if option.kind == "bool" else option.default_text()
        assert flag.replace("_", "-") in text
        assert f"(default: {default})" in text


def test_help_of_upscale_shows_a_default_for_every_argument_but_the_required_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of("upscale", capsys, monkeypatch).partition("Options for ffmpeg's encoder")[0]
    entries = text.partition("upscaling: ")[2].split(" --")[1:]
    assert len(entries) > 30
    assert [entry.split()[0] for entry in entries if "(default: " not in entry] == ["rate"]  # numbered images need it


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The text of --help on one line, without breaks inside words with hyphens."""
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["upscale", "pipe", "compare", "vpy", "scenes", "bench", "models", "doctor"])
def test_help_fits_in_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
