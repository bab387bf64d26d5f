import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.encode import Encoding, FrameEncoder, hdr_options, try_out
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError, find_executable
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.join import read_packets
from ffmpeg_filter.media.pixels import pixel_format_of
from ffmpeg_filter.media.presets import PRESETS, encoder_arguments
from vs_iconvsr import system
from vs_iconvsr.colorspace import Colorimetry, Format, Planes

pytestmark = pytest.mark.needs_ffmpeg

BT709 = Colorimetry(1, False, 0, 1, 1)
FFV1 = ("-c:v", "ffv1", "-level", "3")

FORMATS = [
    Format(family, "integer", bits, *subsampling)
    for family, subsamplings in (
        ("YUV", ((0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 2))),
        ("GRAY", ((0, 0),)),
        ("RGB", ((0, 0),)),
    )
    for subsampling in subsamplings
    for bits in (8, 9, 10, 12, 14, 16)
]
SENT = [f for f in FORMATS if f in PRESETS["ffv1"].formats()]


def encoding(chosen: Format, arguments: tuple[str, ...] = FFV1, suffix: str = "mkv", **changes: object) -> Encoding:
    values: dict[str, object] = {"width": 64, "height": 48, "color": BT709, "sample_aspect_ratio": Fraction(1)}
    values |= {"time_base": Fraction(1, 90000), "input_options": ()}
    return Encoding(format=chosen, arguments=arguments, suffix=suffix, **{**values, **changes})  # type: ignore[arg-type]


def noise(chosen: Format, seed: int, width: int = 64, height: int = 48) -> Planes:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(0, 1 << chosen.bits, (h, w), generator=generator).to(chosen.dtype)
        for w, h in chosen.plane_sizes(width, height)
    )


@pytest.fixture
def encoded(executable: Executable, tmp_path: Path) -> Callable[..., Path]:
    def make(how: Encoding, frames: list[Planes], pts: list[int]) -> Path:
        path = tmp_path / f"part.{how.suffix}"
        encoder = FrameEncoder(executable, how, path)
        for planes, when in zip(frames, pts, strict=True):
            encoder.put(planes, when)
        encoder.finish()
        return path

    return make


def moving(chosen: Format, num_frames: int, width: int, height: int) -> list[Planes]:
    """Large shapes that move, under noise: an encoder has something to look ahead for."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(1, 1, height // 8, width // 8, generator=generator)
    scene = torch.nn.functional.interpolate(scene, (2 * height, 2 * width), mode="bicubic")[0, 0]
    frames = []
    for n in range(num_frames):
        seen = [scene[n : n + h, 2 * n : 2 * n + w] for w, h in chosen.plane_sizes(width, height)]
        noisy = [plane + 0.02 * torch.randn(plane.shape, generator=generator) for plane in seen]
        frames.append(tuple((plane.clamp(0, 1) * ((1 << chosen.bits) - 1)).to(chosen.dtype) for plane in noisy))
    return frames


@pytest.mark.parametrize(("name", "bits"), [("x264", 8), ("x264", 10), ("x265", 10), ("svtav1", 10)])
def test_the_bytes_do_not_depend_on_what_the_memory_held_before(
    name: str, bits: int, encoded: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Format("YUV", "integer", bits, 1, 1)
    arguments = encoder_arguments(name, PRESETS[name], chosen, crf=None, speed=None, threads=2, hdr=[])
    frames = moving(chosen, 16, 320, 192)
    how = encoding(chosen, tuple(arguments), PRESETS[name].part, width=320, height=192)
    contents = set()
    for filling in ("1", "77", "200"):
        monkeypatch.setenv("MALLOC_PERTURB_", filling)  # of glibc; elsewhere this test says less
        contents.add(encoded(how, frames, [3600 * n for n in range(16)]).read_bytes())
    assert len(contents) == 1


def lossless(chosen: Format) -> tuple[str, ...]:
    return tuple(encoder_arguments("ffv1", PRESETS["ffv1"], chosen, crf=None, speed=None, threads=1, hdr=[]))


@pytest.mark.parametrize("chosen", SENT, ids=str)
def test_planes_reach_a_lossless_encoder_unchanged(chosen: Format, encoded: Callable[..., Path]) -> None:
    frames = [noise(chosen, 0), noise(chosen, 1)]
    path = encoded(encoding(chosen, lossless(chosen)), frames, [0, 3600])
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    for sent, got in zip(frames, decoded, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(sent, planes_of(got), strict=True))


def test_a_pipe_without_a_descriptor_takes_the_same_bytes(
    encoded: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Format("YUV", "integer", 10, 1, 1)
    frames = [noise(chosen, n) for n in range(3)]
    how = encoding(chosen, lossless(chosen))
    by_descriptor = encoded(how, frames, [0, 3600, 7200]).read_bytes()
    monkeypatch.setattr(system, "DESCRIPTORS_ARE_SHARED", False)  # as on Windows
    assert encoded(how, frames, [0, 3600, 7200]).read_bytes() == by_descriptor


def test_an_encoder_without_the_format_fails_instead_of_converting(encoded: Callable[..., Path]) -> None:
    chosen = Format("YUV", "integer", 10, 0, 1)
    boastful = replace(PRESETS["ffv1"], lacks=())
    arguments = encoder_arguments("ffv1", boastful, chosen, crf=None, speed=None, threads=1, hdr=[])
    with pytest.raises(FfmpegError):
        encoded(encoding(chosen, tuple(arguments)), [noise(chosen, 0)], [0])


def test_there_are_formats_to_send() -> None:
    assert {"YUV440P8", "YUV420P8", "YUV420P10", "YUV422P12", "YUV444P16", "GRAY10", "RGB30", "RGB48"} <= {
        str(f) for f in SENT
    }


def test_timestamps_reach_the_part_exactly(encoded: Callable[..., Path]) -> None:
    chosen = Format("YUV", "integer", 10, 1, 1)
    pts = [9000, 12003, 12050, 20001, 20002]
    how = encoding(chosen, ("-c:v", "libx264", "-bf", "3", "-preset", "ultrafast"), "mov")
    path = encoded(how, [noise(chosen, i) for i in range(5)], pts)
    assert sorted(read_packets(path).pts) == pts


@pytest.mark.parametrize("matrix", [0, 1, 4, 5, 6, 7, 8, 9, 10])
@pytest.mark.parametrize("full_range", [False, True])
def test_color_is_tagged_by_number(encoded: Callable[..., Path], matrix: int, full_range: bool) -> None:
    chosen = Format("YUV", "integer", 8)
    how = encoding(chosen, ("-c:v", "libx264"), "mov", color=Colorimetry(matrix, full_range, 0, 13, 9))
    with av.open(str(encoded(how, [noise(chosen, 0)], [0]))) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)) == (matrix, 13, 9)
    assert int(frame.color_range) == 1 + full_range


@pytest.mark.parametrize("location", range(6))
def test_chroma_siting_is_tagged(encoded: Callable[..., Path], location: int) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    how = encoding(chosen, ("-c:v", "libx264"), "mov", color=Colorimetry(1, False, location, 1, 1))
    with av.open(str(encoded(how, [noise(chosen, 0)], [0]))) as container:
        assert int(next(container.decode(video=0)).chroma_location) == location + 1


def test_the_encoder_writes_the_exact_shape_of_pixels(encoded: Callable[..., Path]) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    how = encoding(chosen, ("-c:v", "libx264"), "mov", sample_aspect_ratio=Fraction(172, 219))
    with av.open(str(encoded(how, [noise(chosen, 0)], [0]))) as container:
        next(container.decode(video=0))
        aspect = container.streams.video[0].codec_context.sample_aspect_ratio
    assert (aspect.numerator, aspect.denominator) == (172, 219)


def test_the_same_frames_give_the_same_bytes(encoded: Callable[..., Path]) -> None:
    chosen = Format("YUV", "integer", 10, 1, 1)
    how = encoding(chosen, ("-c:v", "libx264", "-threads", "8"), "mov")
    frames = [noise(chosen, i) for i in range(8)]
    first = encoded(how, frames, list(range(0, 8 * 3600, 3600))).read_bytes()
    assert encoded(how, frames, list(range(0, 8 * 3600, 3600))).read_bytes() == first


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("nvenc")])
def test_every_encoder_opens_and_gives_what_it_was_sent(
    name: str, encoded: Callable[..., Path], executable: Executable
) -> None:
    preset = PRESETS[name]
    if preset.codec not in executable.encoders:
        pytest.skip(f"{executable.path} has no {preset.codec}")
    for chosen in preset.formats():
        arguments = encoder_arguments(name, preset, chosen, crf=None, speed=None, threads=2, hdr=[])
        how = encoding(chosen, tuple(arguments), preset.part, width=256, height=128)
        frames = [noise(chosen, i, 256, 128) for i in range(2)]
        path = encoded(how, frames, [0, 3600])
        with av.open(str(path)) as container:
            decoded = list(container.decode(video=0))
        assert len(decoded) == 2
        if chosen.family == "YUV":  # decoders choose among equal names for the others
            assert decoded[0].format.name.removesuffix("le") in (
                pixel_format_of(chosen).removesuffix("le"),
                "yuv444p12",
            )


def test_killing_an_encoder_leaves_no_process(executable: Executable, tmp_path: Path) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    encoder = FrameEncoder(executable, encoding(chosen), tmp_path / "a.mkv")
    encoder.put(noise(chosen, 0), 0)
    encoder.close()
    assert not Path(f"/proc/{encoder.process_id}").exists()
    encoder.close()


def test_an_encoder_can_be_killed_while_another_thread_writes_to_it(
    fake_ffmpeg: Callable[[str], str], tmp_path: Path
) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    width, height = 2048, 1024  # more than a pipe holds
    never_reads = find_executable(fake_ffmpeg("exec sleep 60"))
    encoder = FrameEncoder(never_reads, encoding(chosen, width=width, height=height), tmp_path / "a.mkv")
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(encoder.put, noise(chosen, 0, width, height), 0)
        time.sleep(0.5)
        assert not writing.done()
        encoder.kill()
        with pytest.raises(FfmpegError):
            writing.result(10)
    encoder.close()


def test_an_encoder_that_cannot_start_is_quoted(executable: Executable, tmp_path: Path) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    encoder = FrameEncoder(executable, encoding(chosen, ("-c:v", "no_such_codec")), tmp_path / "a.mkv")
    with pytest.raises(FfmpegError, match="no_such_codec"):
        put_many(encoder, noise(chosen, 0))
    encoder.close()


def put_many(encoder: FrameEncoder, planes: Planes) -> None:
    for n in range(1000):
        encoder.put(planes, n)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("-preset", "snail"), "snail"), (("-tune", "nonsense"), "nonsense"), (("-pix_fmt", "+gbrp16le"), "format")],
)
def test_options_that_the_encoder_refuses_are_found_by_a_trial(
    executable: Executable, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    chosen = Format("YUV", "integer", 8, 1, 1)
    try_out(executable, encoding(chosen, ("-c:v", "libx264", "-preset", "ultrafast")), tmp_path)
    with pytest.raises(FfmpegError, match=rf"encoder: cannot be used with these options: ffmpeg .*{said}"):
        try_out(executable, encoding(chosen, ("-c:v", "libx264", *arguments)), tmp_path)


def test_hdr_metadata_goes_to_x265_itself_where_ffmpeg_is_old(executable: Executable) -> None:
    old = replace(executable, options=frozenset())
    assert hdr_options(old, "libx265", "G(1,2)", "10,20")[1] == [
        "master-display=G(1,2)",
        "max-cll=10,20",
        "hdr10=1",
        "repeat-headers=1",
    ]
    assert hdr_options(old, "libx264", "G(1,2)", None) == ([], [], False)
    assert hdr_options(old, "libx264", None, None) == ([], [], True)


def test_file_names_are_urls_that_mean_nothing_else(tmp_path: Path) -> None:
    assert children.safe_url("-i").startswith(b"file:/")
    assert children.safe_url(tmp_path / "http:x") == b"file:" + bytes(tmp_path) + b"/http:x"
