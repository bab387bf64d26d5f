"""The supported encoders: their options, their formats, and which format suits a source best."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError, command_prefix, run
from ffmpeg_filter.media.pixels import has_pixel_format, pixel_format_of
from vs_iconvsr.colorspace import Format

# 8-bit sources band when upscaled and rounded back to 8 bits.
LEAST_BITS = 10

TRIAL_S = 20.0


@dataclass(frozen=True)
class Preset:
    """One encoder.

    codec: FFmpeg's encoder. quality: the option that --crf sets; speed_option: that of --preset. crf, speed: defaults;
    None: it has no such option.
    subsamplings, bits, families: what it accepts. part: the container of parts. containers: possible containers of the
    output. sent_as: pixel formats that the encoder supports in another layout only. lacks: those that it does not
    support at all. full_range: how full range is marked: "coded" by the encoder, "tagged" in the container alone (the
    encoder would tag it wrongly, or ffmpeg convert the values), or "never".
    """

    codec: str
    options: tuple[str, ...] = ()
    quality: str | None = None
    crf: int | None = None
    speed: str | None = None
    subsamplings: tuple[tuple[int, int], ...] = ((1, 1),)
    bits: tuple[int, ...] = (8, 10)
    families: tuple[str, ...] = ("YUV",)
    part: str = "mov"
    containers: tuple[str, ...] = ("mkv", "mp4", "mov")
    tag: str | None = None
    least_width_px: int = 0
    sent_as: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    full_range: str = "coded"
    speed_option: str = "-preset"

    def formats(self) -> list[Format]:
        """The formats that it accepts and FFmpeg has a name for."""
        found = []
        for bits in self.bits:
            if "YUV" in self.families:
                found += [Format("YUV", "integer", bits, w, h) for w, h in self.subsamplings]
            found += [Format(family, "integer", bits) for family in self.families if family != "YUV"]
        return [f for f in found if has_pixel_format(f) and pixel_format_of(f) not in self.lacks]


_420, _422, _444, _440, _411, _410 = (1, 1), (1, 0), (0, 0), (0, 1), (2, 0), (2, 2)
_X = (_420, _422, _444)
_INTERMEDIATE = ("mov", "mkv")
_WEB = ("mkv", "mp4", "webm")


def _prores(profile: int, subsampling: tuple[int, int]) -> Preset:
    return Preset(
        codec="prores_ks",
        options=("-profile:v", str(profile), "-vendor", "apl0"),
        subsamplings=(subsampling,),
        bits=(10,),
        containers=_INTERMEDIATE,
        full_range="never",
    )


def _dnxhr(profile: str, subsampling: tuple[int, int], bits: int) -> Preset:
    return Preset(
        codec="dnxhd",
        options=("-profile:v", f"dnxhr_{profile}"),
        subsamplings=(subsampling,),
        bits=(bits,),
        containers=("mov",),
        least_width_px=256,
        full_range="tagged",
    )


def _nvenc(codec: str, bits: tuple[int, ...], tag: str | None = None, part: str = "mov") -> Preset:
    return Preset(
        codec=codec,
        options=("-rc", "vbr", "-b:v", "0"),
        quality="-cq",
        crf=16,
        speed="p6",
        bits=bits,
        tag=tag,
        part=part,
        containers=("mkv", "mp4", "mov") if part == "mov" else _WEB,
        sent_as={"yuv420p10le": "p010le"},
    )


PRESETS: Mapping[str, Preset] = {
    "x264": Preset(
        "libx264", quality="-crf", crf=16, speed="medium", subsamplings=_X, families=("YUV", "GRAY"), tag="avc1"
    ),
    "x265": Preset(
        "libx265",
        quality="-crf",
        crf=16,
        speed="medium",
        subsamplings=_X,
        bits=(8, 10, 12),
        families=("YUV", "GRAY"),
        tag="hvc1",
    ),
    "svtav1": Preset("libsvtav1", quality="-crf", crf=18, speed="6", part="mp4", containers=_WEB),
    "vp9": Preset(
        "libvpx-vp9",
        options=("-b:v", "0", "-deadline", "good", "-tile-columns", "2"),
        quality="-crf",
        crf=18,
        speed="2",
        speed_option="-cpu-used",
        subsamplings=_X,
        bits=(8, 10, 12),
        part="mp4",
        containers=_WEB,
    ),
    "ffv1": Preset(
        "ffv1",
        options=("-level", "3", "-g", "1", "-slices", "16", "-slicecrc", "1"),
        subsamplings=(*_X, _440, _411, _410),
        bits=(8, 10, 12, 14, 16),
        families=("YUV", "GRAY", "RGB"),
        part="mkv",
        containers=("mkv",),
        sent_as={"gbrp": "bgr0"},
        lacks=("yuv440p10le", "yuv440p12le"),
        full_range="tagged",
    ),
    "prores-proxy": _prores(0, _422),
    "prores-lt": _prores(1, _422),
    "prores": _prores(2, _422),
    "prores-hq": _prores(3, _422),
    "prores-4444": _prores(4, _444),
    "prores-4444xq": _prores(5, _444),
    "dnxhr-lb": _dnxhr("lb", _422, 8),
    "dnxhr-sq": _dnxhr("sq", _422, 8),
    "dnxhr-hq": _dnxhr("hq", _422, 8),
    "dnxhr-hqx": _dnxhr("hqx", _422, 10),
    "dnxhr-444": _dnxhr("444", _444, 10),
    "nvenc-h264": _nvenc("h264_nvenc", (8,), "avc1"),
    "nvenc-hevc": _nvenc("hevc_nvenc", (8, 10), "hvc1"),
    "nvenc-av1": _nvenc("av1_nvenc", (8, 10), part="mp4"),
}

DEFAULT_ENCODER = "auto"


def preset_for(name: str, source: Format, container: str, executable: Executable) -> tuple[str, Preset]:
    """The preset by name; "auto" is svtav1 in .webm, else x264, or x265 for sources above 10 bits, which x264 lacks.

    Raises ValueError for an unknown name, a container that cannot hold its video, or an ffmpeg without it.
    """
    if name == "auto" and container == "webm":
        name = "svtav1" if "libsvtav1" in executable.encoders else "vp9"
    elif name == "auto":
        name = "x265" if source.bits > 10 and "libx265" in executable.encoders else "x264"
    preset = PRESETS.get(name)
    if preset is None:
        raise ValueError(f"encoder: expected auto or one of {', '.join(PRESETS)}, got {name!r}")
    if container not in preset.containers:
        raise ValueError(
            f"encoder: expected one whose video fits into .{container}, got {name}; "
            f"name the output .{' or .'.join(preset.containers)}"
        )
    if preset.codec not in executable.encoders:
        raise ValueError(
            f"encoder: expected one that {executable.path} has, got {name} ({preset.codec}); "
            "pass --ffmpeg with another build, or choose another --encoder"
        )
    if name.startswith("nvenc"):
        _check_opens(name, preset, executable)
    return name, preset


def _check_opens(name: str, preset: Preset, executable: Executable) -> None:
    """Encodes two frames: ffmpeg also lists hardware encoders for which this machine has no hardware or driver."""
    picture = ["-f", "lavfi", "-i", "color=gray:s=256x256:r=25", "-frames:v", "2", "-pix_fmt", "yuv420p"]
    try:
        run([*command_prefix(executable), *picture, "-c:v", preset.codec, "-f", "null", "-"], timeout_s=TRIAL_S)
    except FfmpegError as error:
        raise ValueError(f"encoder: {name} does not work on this machine ({error}); use x264, x265 or svtav1") from None


def target_for(source: Format, name: str, preset: Preset, bits: int | None = None) -> tuple[Format, list[str]]:
    """The format to encode, and what it loses of the source, in words.

    The source's family and subsampling at 10 bits, or at its own depth if that is higher; if the encoder lacks that,
    the nearest that it has. bits: the depth that the user asked for; ValueError if the encoder does not have it.
    """
    depth = 16 if source.sample == "float" else source.bits
    wanted_bits = bits if bits is not None else max(LEAST_BITS, depth)
    formats = preset.formats()
    if bits is not None and all(f.bits != bits for f in formats):
        have = ", ".join(str(b) for b in sorted({f.bits for f in formats}))
        raise ValueError(f"bits: expected one of {have} for {name}, got {bits}")
    best = min(formats, key=lambda f: _distance(source, f, wanted_bits))
    lost = []
    if best.bits < depth and bits is None:
        lost.append(f"depth above {best.bits} bits ({name} holds no more; ffv1 does)")
    if source.family != "GRAY" and (best.subsampling_w, best.subsampling_h) > (
        source.subsampling_w,
        source.subsampling_h,
    ):
        lost.append(f"full chroma of {source} ({name} stores {best})")
    return best, lost


def _distance(source: Format, candidate: Format, wanted_bits: int) -> tuple[int, ...]:
    """Smaller where less is lost: family first, then chroma, then depth, then what is stored needlessly."""
    family = 0 if candidate.family == source.family else 1 if candidate.family == "YUV" else 2
    coarser = max(0, candidate.subsampling_w - source.subsampling_w) + max(
        0, candidate.subsampling_h - source.subsampling_h
    )
    finer = max(0, source.subsampling_w - candidate.subsampling_w) + max(
        0, source.subsampling_h - candidate.subsampling_h
    )
    if source.family == "GRAY" and candidate.family != "GRAY":
        coarser, finer = 0, 4 - candidate.subsampling_w - candidate.subsampling_h
        finer = 4 - finer
    return (family, coarser, max(0, wanted_bits - candidate.bits), finer, max(0, candidate.bits - wanted_bits))


def encoder_arguments(
    name: str, preset: Preset, target: Format, *, crf: float | None, speed: str | None, threads: int, hdr: Sequence[str]
) -> list[str]:
    """FFmpeg's options for the encoder. The number of threads is fixed: the bytes depend on it.

    hdr: settings for the encoder's own parameter string. Raises ValueError for a --crf or --preset it does not have.
    """
    arguments = ["-c:v", preset.codec, *preset.options]
    if crf is not None and not math.isfinite(crf):
        raise ValueError(f"crf: expected a number, got {crf}")
    if crf is not None and preset.quality is None:
        raise ValueError(f"crf: {name} has no such setting; leave it out")
    if speed is not None and preset.speed is None:
        raise ValueError(f"preset: {name} has no such setting; leave it out")
    if preset.quality is not None:
        arguments += [preset.quality, f"{preset.crf if crf is None else crf:g}"]
    if preset.speed is not None:
        arguments += [preset.speed_option, speed or preset.speed]
    pixels = pixel_format_of(target)
    # With the plus, a format that the encoder lacks is an error; without it, ffmpeg silently picks another one.
    arguments += ["-pix_fmt", preset.sent_as.get(pixels, f"+{pixels}")]
    parameters = {
        "libx265": ["log-level=error", f"pools={threads}", f"frame-threads={min(threads, 4)}", *hdr],
        "libsvtav1": [f"lp={min(threads, 6)}", *hdr],
    }.get(preset.codec)
    if parameters is not None:
        arguments += [f"-{preset.codec[3:]}-params", ":".join(parameters)]
    if preset.codec == "libx264" and target.bits == 8 and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        # Its AVX2 code for the macroblock tree of 8-bit frames reads uninitialized memory.
        arguments += ["-x264opts", "asm=AVX"]
    return [*arguments, "-threads", str(threads)]


_REFUSED = {
    **dict.fromkeys(("i", "f", "map", "map_metadata", "map_chapters", "filter_complex", "lavfi", "attach"), "muxing"),
    **dict.fromkeys(("y", "n", "progress", "stdin", "nostdin", "copyts", "init_hw_device"), "how ffmpeg runs"),
    **dict.fromkeys(("vf", "filter", "s", "aspect", "pix_fmt", "vn", "an", "sn", "dn"), "what is kept of the source"),
    **dict.fromkeys(
        ("r", "ss", "t", "to", "frames", "vframes", "vsync", "fps_mode", "enc_time_base"), "the timestamps"
    ),
    **dict.fromkeys(("c", "codec", "vcodec", "threads", "pass", "passlogfile"), "the encoder (use --encoder)"),
}


def extra_arguments(options: Sequence[str]) -> list[str]:
    """The user's own ffmpeg options for the video encoder. Raises ValueError for those that would break the job."""
    expects_value = False
    for token in options:
        is_option = re.fullmatch(r"-[A-Za-z].*", token) is not None
        if is_option:
            base = token[1:].split(":")[0]
            if base in _REFUSED:
                raise ValueError(
                    f"ffmpeg options: {token} would change {_REFUSED[base]}, which this program controls; leave it out"
                )
            expects_value = True
        elif expects_value:
            expects_value = False
        else:
            raise ValueError(f"ffmpeg options: expected -name value pairs after --, got {token!r} without a name")
    return list(options)
