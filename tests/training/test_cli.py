"""The training command from end to end on tiny data; mistakes give one line and exit code 1."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.cli import main
from training.folders import writing
from vs_iconvsr import weights

RECIPE = """
network: {arguments: {mid_channels: 8, num_blocks: 1, flow_channels: 8}}
data:
  train: train
  held_out: held_out
  train_generator: {seed: 1, clips: 2, frames: 3, size: 64, canvases: 1, canvas_px: 160}
  held_out_generator: {seed: 2, clips: 1, frames: 2, size: 64, canvases: 1, canvas_px: 160}
patches: {batch: 1, frames: 2, patch_px: 8}
optimiser: {steps: 30, learning_rate: 2.0e-3, warm_up: 2, average: 0.5}
watch: {log: 10, evaluate: 30, save: 10}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_synthesise_train_export_and_evaluate_work_together(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "mine.safetensors"
    common = [str(recipe), "--data", str(data)]
    assert main(["synthesise", *common]) == 0
    assert f"next: python -m training train {recipe} --data {data} --out run" in capsys.readouterr().out
    assert (data / "train.png").exists()
    assert main(["train", *common, "--out", str(run)]) == 0
    shown = f"next: python -m training export {recipe} --data {data} --out {run} --file mine.safetensors"
    assert shown in capsys.readouterr().out
    assert main(["export", *common, "--out", str(run), "--file", str(file), "--force"]) == 0
    assert f"next: iconvsr upscale IN OUT --model {file}" in capsys.readouterr().out
    assert weights.load(file).hyper_parameters["mid_channels"] == 8
    assert str(tmp_path) not in weights.info(file).metadata["command"].replace(str(recipe), "")

    clip = tmp_path / "clips" / "one"
    clip.mkdir(parents=True)
    for k in range(2):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(clip / f"{k}.png")
    capsys.readouterr()
    output = ["--json", str(tmp_path / "figures.json"), "--pictures", str(tmp_path / "pictures")]
    assert main(["evaluate", str(file), str(tmp_path / "clips"), *output]) == 0
    assert "| one | 2 |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "figures.json").read_text())) == 2
    assert Image.open(tmp_path / "pictures" / "one.png").size == (3 * 40, 32)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.step=3", "--set: optimiser.step: expected one of steps,"),
        ("data.layout=reds5", "layout: expected one of generated"),
    ],
)
def test_a_mistake_is_reported_on_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    code = main(["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--set", override])
    assert code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_the_error_for_missing_clips_gives_the_command_that_makes_them(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "generate one: python -m training synthesise" in capsys.readouterr().err


def test_a_time_limit_has_its_own_exit_code_and_the_same_command_resumes(recipe: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    common = [str(recipe), "--data", str(data)]
    main(["synthesise", *common])
    assert main(["train", *common, "--out", str(run), "--minutes", "0.0001"]) == 3
    assert (run / "last.pt").exists()
    assert main(["train", *common, "--out", str(run), "--recompute"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "argument --device: expected cpu or cuda, got 'gpu'"),
        (["--device", "mps"], "argument --device: expected cpu or cuda, got 'mps'"),
        (["--device", "cuda:99"], "argument --device: expected"),
        (["--threads", "-1"], "argument --threads: expected a whole number of at least 0, got '-1'"),
        (["--frames", "-1"], "argument --frames: expected a whole number of at least 0, got '-1'"),
        (["--degradation", "x264:-5"], "crf: expected 0 to 51, got [-5.0, -5.0]"),
        (["--degradation", "x264:nan"], "crf: expected [lowest, highest], got [nan, nan]"),
        (["--degradation", "x264:high"], "degradation: expected x264:CRF, such as x264:25, got 'x264:high'"),
        (["--degradation", "bi:25"], "degradation: expected x264:CRF, such as x264:25, got 'bi:25'"),
    ],
)
def test_a_wrong_option_is_an_error_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    try:
        code = main(["evaluate", "light", str(tmp_path), *options])
    except SystemExit as left:  # argparse
        code = int(left.code or 0)
    assert code in (1, 2)
    assert message in capsys.readouterr().err


def test_a_fitted_run_resumes_with_its_own_patches_and_names_them(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Larger clips are needed than those of the recipe: patches begin at 32 px."""
    (tmp_path / "data" / "train").mkdir(parents=True)
    np.save(tmp_path / "data" / "train" / "a.npy", np.zeros((5, 3, 128, 128), dtype=np.uint8))
    layout = ["--set", "data.layout=prepared", "--set", "data.held_out=train", "--set", "data.held_out_layout=prepared"]
    common = ["train", str(recipe), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *layout]
    short = ["--set", "optimiser.steps=1"]
    assert main([*common, *short, "--fit", "1.02"]) == 0
    first = capsys.readouterr().out
    assert "--fit: patches.batch=" in first
    assert "--set patches.batch=" in first.split("next: ")[1]
    assert main([*common, *short, "--fit", "50"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("option", "message"),
    [("--json", "--json: expected a file, got a folder"), ("--pictures", "expected a folder outside of the clips")],
)
def test_results_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    """Images among the clips would be measured as clips the next time."""
    assert main(["evaluate", "no such model", str(tmp_path), option, str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon"])
def test_minutes_are_a_number(text: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--minutes", text])
    assert f"argument --minutes: expected a number of at least 0, got '{text}'" in capsys.readouterr().err


def test_a_second_run_in_one_folder_is_refused_on_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with writing(tmp_path / "run"):
        assert main(["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "expected a folder that no other command uses" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("layout", "shown"), [("reds4", "RGB"), ("vid4", "Y"), ("udm10", "Y"), ("vimeo90k-test", "Y")])
def test_each_benchmark_is_measured_as_in_the_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, shown: str
) -> None:
    """Layouts as the archives unpack; RGB for REDS4, luma for the others; mirrored and one frame for Vimeo-90K-T."""
    clip = {"reds4": "train_sharp/011", "vimeo90k-test": "sequences/00001/0001"}.get(layout, "GT/one")
    (tmp_path / clip).mkdir(parents=True)
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\n")
    texture = np.random.default_rng(1).integers(0, 256, (24, 60, 3), dtype=np.uint8)
    for k in range(7):
        Image.fromarray(np.ascontiguousarray(texture[:, k : k + 32])).save(tmp_path / clip / f"im{k + 1}.png")
    assert main(["evaluate", "light", str(tmp_path), "--layout", layout, "--json", str(tmp_path / "found.json")]) == 0
    assert f"bi, {shown}, basicsr rounding" in capsys.readouterr().out
    bicubic, ours = json.loads((tmp_path / "found.json").read_text())
    assert [bicubic["upscaler"], ours["upscaler"]] == ["bicubic", "light"]
    assert ours["scores"][0]["frames"] == (1 if layout == "vimeo90k-test" else 7)
    assert ours["protocol"]["mirrored"] == (layout == "vimeo90k-test")
