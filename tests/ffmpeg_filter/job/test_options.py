"""What JobOptions derive from a name, and what is refused before anything is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.options import JobOptions
from tests.ffmpeg_filter.job.json_values import ANY

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


@pytest.mark.needs_ffmpeg
def test_the_same_file_as_output_is_refused(clip: Make, upscaled: Upscaled) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="expected another file than the input"):
        upscaled(source, source, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "container", "images"),
    [("a.mkv", "mkv", False), ("a.M4V", "mp4", False), ("a.mov", "mov", False), ("a_%05d.png", "images", True)],
)
def test_the_output_name_determines_the_container(name: str, container: str, images: bool) -> None:
    options = JobOptions(Path("in.mkv"), Path(name))
    assert (options.container, options.makes_images) == (container, images)


def test_a_container_that_is_named_goes_with_any_name() -> None:
    assert JobOptions(Path("in.mkv"), Path("out.gif"), container_name="mkv").container == "mkv"
    with pytest.raises(ValueError, match=r"output: expected a name ending in \.mkv, .* or images .*got out\.gif"):
        _ = JobOptions(Path("in.mkv"), Path("out.gif")).container


def test_the_work_directory_and_the_partial_output_lie_beside_the_output() -> None:
    options = JobOptions(Path("in.mkv"), Path("folder/out.mkv"))
    assert (options.work, options.partial) == (Path("folder/out.mkv.iconvsr"), Path("folder/out.mkv.part"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoders": 0}, "encoders: expected at least 1, got 0"),
        ({"encoders": 3}, "encoders: expected 1 to 2 at a time, got 3"),
        ({"part_frames": 0}, "part-frames: expected at least 1, got 0"),
        ({"crf": -1.0}, "crf: expected at least 0, got -1"),
        ({"speed": ""}, "preset: expected a name, got ''"),
    ],
)
def test_numbers_outside_their_limits_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobOptions(Path("in.mkv"), Path("out.mkv"), **values)  # type: ignore[arg-type]


# By field: what the user calls it.
NUMBERS = {
    "crf": "crf",
    "bits": "bits",
    "encoders": "encoders",
    "part_frames": "part-frames",
    "rate": "rate",
    "peak": "peak",
}
TEXTS = {"encoder": "encoder", "speed": "preset", "ffmpeg": "ffmpeg"}


@given(name=st.sampled_from(sorted(NUMBERS | TEXTS)), value=ANY | st.integers(-1, 3) | st.fractions())
def test_any_value_of_an_option_is_accepted_or_refused_by_name(name: str, value: object) -> None:
    try:
        job = JobOptions(Path("in.mkv"), Path("out.mkv"), **{name: value})  # type: ignore[arg-type]
    except ValueError as error:
        assert str(error).startswith(f"{(NUMBERS | TEXTS)[name]}: expected")  # noqa: PT017 - either is right
        return
    kept = getattr(job, name)
    assert kept is None or (isinstance(kept, str) if name in TEXTS else 0 <= kept < float("inf"))
