"""Known degradations of footage are estimated close to the truth, and become a recipe."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.data.synthesise import Generator, clips
from training.degrade import from_sample
from training.degrade.codecs import TREE_CRF, encode_decode, stream_quantiser
from training.degrade.degradation import Degradation, degrade
from training.degrade.from_sample import (
    FRAMES,
    EstimatedDegradation,
    Simulation,
    estimate,
    recipe_text,
    report_lines,
    training_degradation,
)
from training.degrade.measures import WINDOW_PX, Values, measure
from training.degrade.regression import REAL_FOOTAGE_FACTOR, Estimate
from training.loop.recipe import read_recipe

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
SCALE = 2  # half the pixels of 4 in each direction: fast
SMALL = Simulation(
    generator=Generator(seed=77, clips=24, frames=FRAMES, size=128, canvases=6, canvas_px=320), samples=60
)
TINY = Simulation(generator=Generator(seed=77, clips=8, frames=FRAMES, size=128, canvases=4, canvas_px=320), samples=16)


@pytest.fixture(scope="module")
def gts() -> list[Tensor]:
    """Clips that appear in no simulation."""
    generator = Generator(seed=5, clips=8, frames=FRAMES, size=SCALE * WINDOW_PX, canvases=4, canvas_px=320)
    return [(255.0 * clip).round().to(torch.uint8) for clip, _ in clips(generator)]


@pytest.fixture(scope="module")
def calm(gts: list[Tensor]) -> Tensor:
    """The clip that changes least from frame to frame."""
    return min(gts, key=lambda gt: float((gt[1:].float() - gt[:-1].float()).abs().mean()))


def footage(folder: Path, gts: list[Tensor], **strengths: object) -> Path:
    """Folders of images, all degraded alike."""
    settings = Degradation(kind="real", **strengths)  # type: ignore[arg-type]
    random = np.random.default_rng(3)
    for k, gt in enumerate(gts):
        (folder / str(k)).mkdir(parents=True)
        for n, frame in enumerate(degrade(gt, settings, SCALE, random=random)):
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / str(k) / f"{n}.png")
    return folder


def film(path: Path, gt: Tensor, *, codec: str, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = gt.shape[-1], gt.shape[-2], "yuv420p"
        for frame in gt.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def some(**changes: object) -> EstimatedDegradation:
    values = {
        "scale": 4,
        "sigma": Estimate(2.0, 0.3),
        "noise": Estimate(4.0, 1.0),
        "family": "x264",
        "quality": Estimate(27.0, 2.0),
        "codec": "h264",
        "quantiser": 32.4,
        "combed": 0.0,
        "windows": 30,
    }
    return EstimatedDegradation(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("quantiser", [3, 9])
@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
def test_the_quantizer_is_read_from_the_stream(tmp_path: Path, gts: list[Tensor], codec: str, quantiser: int) -> None:
    options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    video = film(tmp_path / "film.mkv", gts[0], codec=codec, options=options)
    assert stream_quantiser(video) == pytest.approx(quantiser)


def test_x264_is_given_the_crf_that_quantizes_like_the_stream(tmp_path: Path, gts: list[Tensor]) -> None:
    """A constant quantizer of 30 corresponds to encode_decode at a CRF of 30 - TREE_CRF."""
    video = film(tmp_path / "film.mp4", gts[0], codec="libx264", options={"qp": "30", "preset": "medium"})
    assert stream_quantiser(video) == pytest.approx(30.0, abs=2.5)
    loss = [
        float((encode_decode(gts[0], "libx264", quality=q - TREE_CRF).float() - gts[0]).square().mean())
        for q in (26.0, 30.0, 34.0)
    ]
    with av.open(str(video)) as container:
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    theirs = float((torch.from_numpy(back).permute(0, 3, 1, 2).float() - gts[0]).square().mean())
    assert loss[0] < theirs < loss[2]


def test_a_lossless_stream_has_no_quantizer(tmp_path: Path, gts: list[Tensor]) -> None:
    assert stream_quantiser(film(tmp_path / "film.mkv", gts[0], codec="ffv1", options={})) is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("strengths", "sigma", "noise", "family"),
    [
        ({"sigma": (0.3, 0.3), "noise": (0.0, 0.0), "encoders": ()}, 0.3, 0.0, "none"),
        ({"sigma": (1.6, 1.6), "noise": (0.0, 0.0), "encoders": ()}, 1.6, 0.0, "none"),
        ({"sigma": (0.6, 0.6), "noise": (8.0, 8.0), "encoders": ()}, 0.6, 8.0, "none"),
        (
            {"sigma": (0.6, 0.6), "noise": (0.0, 0.0), "encoders": ("mpeg2video",), "quantiser": (12, 12)},
            0.6,
            0.0,
            "mpeg",
        ),
    ],
)
def test_known_strengths_are_recovered(
    tmp_path: Path, gts: list[Tensor], strengths: dict[str, object], sigma: float, noise: float, family: str
) -> None:
    found = estimate(footage(tmp_path, gts, **strengths), scale=SCALE, simulation=SMALL)
    # High-quality x264 cannot be distinguished from none: the estimate must then be nearly harmless.
    harmless = found.family == "x264" and found.quality is not None and found.quality.value < 20.0
    assert found.family == family or (family == "none" and harmless), found
    assert found.sigma.value == pytest.approx(sigma, abs=max(0.5, 2.0 * found.sigma.error / REAL_FOOTAGE_FACTOR))
    assert found.noise.value == pytest.approx(noise, abs=max(1.5, 2.0 * found.noise.error))


@pytest.mark.parametrize(("name", "low", "high"), [("sigma", 0.1, 1.2), ("noise", 0.0, 6.0)])
def test_figures_separate_weak_from_strong(gts: list[Tensor], name: str, low: float, high: float) -> None:
    """Whatever the content: figures of equal strength lie close together, or no strength could be derived from them."""
    seen = []
    for strength in (low, high):
        weak = {"sigma": (0.3, 0.3), "noise": (0.0, 0.0), name: (strength, strength)}
        settings = Degradation(kind="real", encoders=(), **weak)  # type: ignore[arg-type]
        lr = [degrade(gt, settings, SCALE, random=np.random.default_rng(1)) for gt in gts]
        seen.append(np.stack([measure(lr[:4]), measure(lr[4:])]))
    between = np.abs(seen[0].mean(axis=0) - seen[1].mean(axis=0))
    within = np.abs(seen[0][0] - seen[0][1]) + np.abs(seen[1][0] - seen[1][1])
    assert (between > 2.0 * within).any()


def test_estimates_become_ranges() -> None:
    made = training_degradation(some())
    assert (made.kind, made.sigma, made.noise, made.crf) == ("real", (1.7, 2.3), (3.0, 5.0), (25.0, 29.0))
    assert training_degradation(some(family="mpeg", quality=Estimate(4.0, 6.0))).quantiser == (1.0, 10.0)
    assert training_degradation(some(family="none", quality=None)).encoders == ()
    assert training_degradation(some(noise=Estimate(0.3, 1.0))).noise == (0.0, 0.0)
    assert training_degradation(some(combed=0.5)).interlace == 1.0


@pytest.mark.parametrize("base", ["finetune", "light", "x2"])
@pytest.mark.parametrize("family", ["x264", "none"])
def test_the_recipe_is_the_base_with_other_degradations(tmp_path: Path, base: str, family: str) -> None:
    path = tmp_path / "mine.yaml"
    estimated = some(family=family, quality=None if family == "none" else Estimate(27.0, 2.0))
    path.write_text(recipe_text((CONFIGS / f"{base}.yaml").read_text(), estimated, "tape.mkv"))
    made, before = read_recipe(path), read_recipe(CONFIGS / f"{base}.yaml")
    assert [d.kind for d in made.degradations] == ["bi", "real"]
    assert made.degradations[1] == replace(training_degradation(estimated), share=0.9)
    assert (made.optimiser, made.data, made.start) == (before.optimiser, before.data, before.start)
    assert "# blur: somewhat soft: sigma 2.0 ± 0.3 px" in path.read_text()
    assert f"configs/{base}.yaml" not in path.read_text()


def test_the_report_states_the_estimates_in_words() -> None:
    lines = report_lines(some())
    assert lines[1] == (
        "blur: somewhat soft: sigma 2.0 ± 0.3 px of the upscaled image, 0.50 px of yours; "
        "includes softness of lens and focus"
    )
    assert lines[2] == "noise: strong: 4.0 ± 1.0 code values, before compression"
    assert lines[3] == "compression: equivalent to x264 at CRF 27.0 ± 2.0"
    assert lines[4] == "quantizer recorded in the stream: 32.4 on average"


def test_the_quantizer_of_the_stream_takes_precedence(tmp_path: Path, calm: Tensor) -> None:
    """x264's quantizer exceeds the requested CRF by what its macroblock tree adds."""
    video = film(tmp_path / "film.mp4", calm, codec="libx264", options={"qp": "30", "preset": "medium"})
    found = estimate(video, scale=SCALE, simulation=TINY)
    assert (found.codec, found.family) == ("h264", "x264")
    assert found.quality is not None
    assert found.quantiser == pytest.approx(30.0, abs=2.5)
    assert found.quality.value == pytest.approx(found.quantiser - TREE_CRF)


def test_frames_on_both_sides_of_a_cut_are_not_measured_together(tmp_path: Path, calm: Tensor) -> None:
    for n in range(FRAMES):
        frame = calm[n] if n < FRAMES // 2 else 255 - calm[n]
        Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / f"{n}.png")
    with pytest.raises(ValueError, match="found none"):
        estimate(tmp_path, scale=SCALE, simulation=TINY)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_a_video_is_sampled_in_twelve_places(tmp_path: Path, calm: Tensor, name: str) -> None:
    """Including Matroska, which does not record its number of frames."""
    frames = torch.cat([calm[..., :WINDOW_PX, :WINDOW_PX]] * 24)
    video = film(tmp_path / name, frames, codec="mpeg4", options={"qmin": "3", "qmax": "3"})
    assert estimate(video, scale=SCALE, simulation=TINY).windows == 12


def test_windows_from_far_apart_are_measured_together(
    tmp_path: Path, calm: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group should contain both sharp edges and flat areas; a single place may have neither."""
    fading = torch.cat([(calm[..., :WINDOW_PX, :WINDOW_PX] * (1.0 - 0.04 * k)).to(torch.uint8) for k in range(12)])
    video = film(tmp_path / "film.mkv", fading, codec="ffv1", options={})
    groups: list[list[float]] = []

    def seen(windows: list[Tensor]) -> Values:
        groups.append([float(window.float().mean()) for window in windows])
        return measure(windows)

    monkeypatch.setattr("training.degrade.from_sample.measure", seen)
    estimate(video, scale=SCALE, simulation=TINY)
    first, second = groups[:2]  # of the footage; those of the simulation follow
    assert len(first) == len(second) == 6
    assert min(first) < 0.7 * max(first)
    assert min(second) < 0.7 * max(second)


def test_footage_without_detail_is_refused(tmp_path: Path) -> None:
    for n in range(FRAMES):
        Image.new("RGB", (80, 80)).save(tmp_path / f"{n}.png")
    with pytest.raises(ValueError, match="expected 4 consecutive frames with enough detail to measure, found none"):
        estimate(tmp_path, scale=4)


@pytest.mark.parametrize(("name", "taken"), [("mine.yaml", "mine.yaml"), ("mine.yaml", "mine.png"), ("mine.txt", "")])
def test_an_estimate_writes_over_nothing_but_earlier_ones(tmp_path: Path, name: str, taken: str) -> None:
    if taken:
        (tmp_path / taken).write_text("my recipe\n")
    with pytest.raises(ValueError, match=r"expected no file or an earlier|expected a name that ends in \.yaml"):
        from_sample.check_destination(tmp_path / name)
    (tmp_path / "mine.yaml").write_text(from_sample.HEADING + " tape.mkv:\n")
    from_sample.check_destination(tmp_path / "mine.yaml")
