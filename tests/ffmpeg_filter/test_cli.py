"""What a user reads: one line and an exit code for every mistake, never a traceback."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.media.probe import probe

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
FAST = ["--device", "cpu", "--threads", "1", "--segment", "4", "--context", "1", "--preset", "ultrafast"]


@pytest.fixture
def command(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """command("in.mkv", "out.mkv", …): exit code, standard output and standard error of `iconvsr upscale`."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        at = words.index("--") if "--" in words else len(words)
        model = [] if "--model" in words else ["--model", str(tiny_model)]
        code = cli.main(["upscale", *words[:at], *FAST, *model, *words[at:]])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


Command = Callable[..., tuple[int, str, str]]


def test_a_job_reports_what_was_kept_and_prints_nothing_on_standard_output(
    clip: Make, command: Command, tmp_path: Path
) -> None:
    code, out, err = command(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv")
    assert (code, out) == (0, "")
    assert re.search(r"12/12 frames \(100\.0 %\), \d+\.\d\d fps", err)
    assert re.search(r"out\.mkv: 12 frames, 0\.\d MiB, 0:\d\d, \d+\.\d\d fps", err)
    assert "kept: 12 frames with their timestamps" in err


def test_json_lines_report_every_stage(clip: Make, command: Command, tmp_path: Path) -> None:
    code, out, _ = command(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv", "--progress", "json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [e["name"] for e in events if e["event"] == "stage"] == ["muxing", "checking"]
    assert [e["frames"] for e in events if e["event"] == "progress"][-1] == 12
    summary = events[-1]
    assert summary["event"] == "summary"
    assert summary["frames"] == 12


def test_the_container_can_be_chosen(clip: Make, command: Command, tmp_path: Path) -> None:
    code, _, _ = command(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.film", "--container", "mp4")
    assert code == 0
    assert probe(tmp_path / "out.film").container.startswith("mov,mp4")


def test_the_log_file_holds_the_exact_commands(clip: Make, command: Command, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code, _, err = command(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv", "--log-file", log)
    assert code == 0
    assert " -c:v libx264 " in log.read_text()
    assert " -map_metadata 1 " in log.read_text()
    assert "kept: 12 frames" in log.read_text()
    assert "libx264" not in err
    command(tmp_path / "in.mkv", tmp_path / "out.mkv", "--log-file", log)
    assert "ended by: output: expected a new file, got one that exists" in log.read_text()


def test_options_after_two_dashes_go_to_the_encoder(clip: Make, command: Command, tmp_path: Path) -> None:
    code, _, err = command(clip("in.mkv", "-c:v", "ffv1"), tmp_path / "out.mkv", "--dry-run", "--", "-tune", "grain")
    assert code == 0
    assert "-tune grain" in err
    assert not list(tmp_path.glob("out*"))


# ---- mistakes ----


def failed(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
    last = err.strip().splitlines()[-1]
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    assert re.search(message, last), last
    assert last.startswith("iconvsr: ")


def test_a_missing_input_is_refused(command: Command, tmp_path: Path) -> None:
    failed(
        command(tmp_path / "no.mkv", tmp_path / "out.mkv"), r"input: expected a video file, got no such file: .*no\.mkv"
    )


def test_a_folder_without_images_is_refused(command: Command, tmp_path: Path) -> None:
    failed(command(tmp_path, tmp_path / "out.mkv"), r"input: expected numbered images \(\.png, .*got none")


def test_standard_input_is_refused_with_the_command_for_it(command: Command, tmp_path: Path) -> None:
    failed(command("-", tmp_path / "out.mkv"), r"input: expected a file, got standard input; .*iconvsr pipe")


@pytest.mark.parametrize("name", ["rtsp://camera/stream", "http://host/a.mp4", "srt://host:9000"])
def test_an_address_instead_of_a_file_is_refused(command: Command, tmp_path: Path, name: str) -> None:
    failed(
        command(name, tmp_path / "out.mkv"), r"input: expected a file, got an address: .*; save it first: ffmpeg -i URL"
    )


@pytest.mark.timeout(60)
def test_a_pipe_or_a_device_instead_of_a_file_is_refused(command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.mkv")
    failed(command(tmp_path / "in.mkv", tmp_path / "out.mkv"), r"got a pipe or a device: .*; save it first, or .*pipe")
    failed(command("/dev/zero", tmp_path / "out.mkv"), r"got a pipe or a device: /dev/zero")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--part-frames", "0"), r"part-frames: expected at least 1, got 0"),
        (("--memory", "0"), r"memory: expected at least 0.25 GiB and at most 1048576 GiB, got 0"),
        (("--memory", "nan"), r"memory: expected at least 0.25 GiB and at most 1048576 GiB, got nan"),
        (
            ("--log-file", "no/such/folder/log"),
            r"log-file: expected a file that can be written, got no/such",
        ),
        (("--crf", "nan"), r"crf: expected at least 0, got nan"),
        (("--rate", "24"), r"rate, peak: expected for numbered images only, got a video file"),
        (("--peak", "4"), r"rate, peak: expected for numbered images only, got a video file"),
        (("--start", "99"), r"start: expected less than the 0\.480 s that the video has, got 99\.000"),
        (("--start", "nan"), r"start, duration: expected at least 0 and more than 0 seconds, got nan"),
        (("--duration", "0"), r"start, duration: expected at least 0 and more than 0 seconds, got None and 0\.0"),
        (("--", "-tune", "nonsense"), r"encoder: cannot be used with these options: ffmpeg failed .*nonsense"),
    ],
)
def test_an_impossible_setting_ends_the_job_before_the_work(
    clip: Make, command: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    failed(command(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv", *options), message)
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_an_empty_input_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.mkv").touch()
    failed(command(tmp_path / "in.mkv", tmp_path / "out.mkv"), r"input: expected a video file, got one of zero bytes")


def test_a_file_without_video_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.mkv").write_text("dear diary\n" * 100)
    failed(
        command(tmp_path / "in.mkv", tmp_path / "out.mkv"), r"input: .*cannot be read as such: .*in\.mkv \(Invalid data"
    )


def test_an_unfinished_mp4_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    whole = clip("whole.mp4", "-c:v", "libx264").read_bytes()
    (tmp_path / "in.mp4").write_bytes(whole[: len(whole) // 2])
    failed(command(tmp_path / "in.mp4", tmp_path / "out.mkv"), r"input: .*cannot be read as such")


def test_a_file_with_audio_only_is_refused(ffmpeg: Make, command: Command, tmp_path: Path) -> None:
    source = ffmpeg("in.mp4", "-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac")
    failed(
        command(source, tmp_path / "out.mkv"), r"input: expected a file with a video stream, got one with only audio"
    )


def test_sound_with_a_cover_is_no_video(ffmpeg: Make, command: Command, tmp_path: Path) -> None:
    inputs = ("-f", "lavfi", "-i", "sine=d=0.3", "-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1")
    source = ffmpeg("in.mp4", *inputs, "-c:a", "aac", "-c:v", "png", "-disposition:v", "attached_pic")
    failed(
        command(source, tmp_path / "out.mkv"), r"expected a file with a video stream, got one with only audio, cover"
    )


def test_an_unknown_model_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(command(source, tmp_path / "out.mkv", "--model", "nonesuch"), r"nonesuch")
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_an_interlaced_input_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme", size="64x64")
    failed(command(source, tmp_path / "out.mkv"), r"expected progressive video, got interlaced: .*--deinterlace")


def test_an_output_equal_to_the_input_is_refused(clip: Make, command: Command) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(command(source, source, "--overwrite"), r"output: expected another file than the input, got the same")


def test_an_output_that_links_to_the_input_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    (tmp_path / "link.mkv").symlink_to(source)
    failed(command(source, tmp_path / "link.mkv", "--overwrite"), r"output: expected another file than the input")


def test_an_existing_output_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    (tmp_path / "out.mkv").write_text("precious")
    failed(
        command(source, tmp_path / "out.mkv"),
        r"output: expected a new file, got one that exists: .*out\.mkv; pass --overwrite",
    )
    assert (tmp_path / "out.mkv").read_text() == "precious"
    assert command(source, tmp_path / "out.mkv", "--overwrite")[0] == 0
    assert probe(tmp_path / "out.mkv").num_frames == 12


def test_a_missing_output_folder_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(command(source, tmp_path / "no" / "out.mkv"), r"output: expected an existing folder, got .*/no; .*mkdir -p")


def test_an_output_folder_without_permission_is_refused(
    clip: Make, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere: only the answer of the system is made up
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and mode is not None)
    failed(
        command(source, locked / "out.mkv"),
        r"output: expected a writable folder, got no permission to write in .*locked",
    )


def test_an_output_with_an_unknown_suffix_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(
        command(source, tmp_path / "out.gif"),
        r"output: expected a name ending in \.mkv, \.mp4, .*, or images .*, got out\.gif",
    )


def test_an_unknown_encoder_is_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(
        command(source, tmp_path / "out.mkv", "--encoder", "h269"), r"encoder: expected auto or one of x264, .*'h269'"
    )


def test_a_missing_ffmpeg_is_reported(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(
        command(source, tmp_path / "out.mkv", "--ffmpeg", "/no/ffmpeg"),
        r"ffmpeg: expected an executable file, got '/no",
    )


def test_ffmpeg_options_that_would_break_the_job_are_refused(clip: Make, command: Command, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    failed(command(source, tmp_path / "out.mkv", "--", "-map", "0"), r"ffmpeg options: -map would change muxing")


def test_ffmpeg_options_are_refused_by_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scenes", "in.mkv", "--", "-tune", "grain"]) == 1
    assert capsys.readouterr().err == "iconvsr: scenes: expected nothing after --, got -tune grain\n"


def test_a_refused_job_leaves_nothing_behind(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.mkv").write_text("no video")
    command(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


# ---- the command itself ----


def test_help_does_not_import_torch() -> None:
    lines = ("import sys", "from ffmpeg_filter import cli", "try: cli.main(['--help'])")
    script = "\n".join((*lines, "finally: assert 'torch' not in sys.modules"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "upscale" in done.stdout


@pytest.mark.parametrize("name", ["upscale", "pipe", "compare", "vpy", "scenes", "bench", "models", "doctor", "train"])
def test_every_command_is_available(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    assert re.search(rf"^\s+{name} ", capsys.readouterr().out, re.MULTILINE)


COMMANDS = ["upscale", "serve", "pipe", "compare", "vpy", "scenes", "models", "bench", "doctor"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_breaks_no_name(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        cli.main(["--log", "info", name, "--help"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.search(r"\w-$", line)]


def test_without_a_name_the_default_model_is_loaded(clip: Make, tmp_path: Path) -> None:
    assert cli.main(["upscale", str(clip("in.mkv", "-c:v", "ffv1")), str(tmp_path / "out.mkv"), *FAST]) == 0


@pytest.mark.parametrize("option", [["--kernel", "lanczos"], ["--linear-light"]])
def test_how_to_resize_is_refused_without_a_size(command: Command, tmp_path: Path, option: list[str]) -> None:
    failed(command("in.mkv", tmp_path / "out.mkv", *option), rf"^iconvsr: {option[0][2:]}: expected with a size only")
