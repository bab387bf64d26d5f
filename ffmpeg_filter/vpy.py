"""A ready VapourSynth script for a video, and the vspipe and ffmpeg line that encodes it without losing anything."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ffmpeg_filter.media import mapping, presets
from ffmpeg_filter.media.encode import container_options
from ffmpeg_filter.media.ffmpeg import Executable, describe, safe_url
from ffmpeg_filter.media.orientation import check_orientation, display_options
from ffmpeg_filter.media.source import MediaSource
from ffmpeg_filter.media.target_size import KERNELS, LARGEST_RATIO_TERM, Resize, TargetSize, resize_for
from ffmpeg_filter.media.zimg import Resizing, format_between, resize_calls
from vs_iconvsr import options, system, weights
from vs_iconvsr.colorspace import Colorimetry, Format, colorimetry_of

_SCRIPT = '''\
"""{name}, upscaled by core.iconvsr. Preview it in an editor, or encode it with the command that came with it."""

import vapoursynth as vs

core = vs.core

SOURCE = {path!r}

clip = core.bs.VideoSource(SOURCE, track={stream}{unturned})
{timing}
# Your own filters may go here.

clip = core.iconvsr.Upscale(clip{arguments})
{resize}clip.set_output()
'''

_VARIABLE = """
# The source has a variable rate: each frame carries the time it is shown, in units of {base} s.
DURATIONS = {durations}


def timed(n, f):
    frame = f.copy()
    frame.props["_DurationNum"] = DURATIONS[n] * {numerator}
    frame.props["_DurationDen"] = {denominator}
    return frame


# Two rates in one clip make one of no rate, for which vspipe writes the frames' own times.
clip = core.std.AssumeFPS(clip[:1], fpsnum=1) + core.std.AssumeFPS(clip[1:], fpsnum=2) if clip.num_frames > 1 else clip
clip = core.std.ModifyFrame(clip, clip, timed)
"""


@dataclass(frozen=True)
class GeneratedScript:
    """The text of a script and the shell line that encodes it."""

    text: str
    command: str


def generate_script(
    source: MediaSource,
    executable: Executable,
    script: Path,
    output: Path,
    *,
    model: str | None = None,
    target_size: TargetSize | None = None,
) -> GeneratedScript:
    """The script, to be saved under the name `script`, and the command to `output`, a .mkv.

    target_size: None for that of the network.

    Raises ValueError for sources with interlaced frames or formats that VapourSynth has not.
    """
    if source.video.interlaced:
        raise ValueError(
            f"input: expected progressive video, got interlaced: {source.path}; deinterlace it in a script"
        )
    layout = source.video.layout.format
    target = _target_for(layout)
    resize = _resize_for(source, target, target_size, model)
    between = target if resize is None else format_between(target)
    # The target is of the source's family, so the output has the source's color, whatever its size.
    color, _ = colorimetry_of(source.video.properties, layout, source.video.width, source.video.height)
    arguments = f", model={model!r}" if model is not None else ""
    arguments += f", format={between.id}" if between != layout else ""
    text = _SCRIPT.format(
        name=source.path.name,
        path=str(source.path.absolute()),
        stream=source.video.index,  # BestSource counts all tracks of a file, covers too
        # Players turn the output: the command writes the orientation into it.
        unturned=", apply_rotation=False" if source.video.orientation else "",
        timing=_timing(source),
        arguments=arguments,
        resize="" if resize is None else _resize_lines(Resizing(resize, (0, 0), target, color, options.DITHER.default)),
    )
    aspect = source.video.sample_aspect_ratio if resize is None else resize.aspect
    return GeneratedScript(text, _command(source, executable, script, output, color, aspect))


def _target_for(source: Format) -> Format:
    bits = 16 if source.sample == "float" else max(presets.LEAST_BITS, source.bits)
    return Format(source.family, "integer", bits, source.subsampling_w, source.subsampling_h)


def _resize_for(
    source: MediaSource, target: Format, target_size: TargetSize | None, model: str | None
) -> Resize | None:
    if target_size is None:
        return None
    video = source.video
    scale = weights.scale_of(model or weights.DEFAULT_MODEL)
    return resize_for(target_size, (video.width, video.height), scale, video.sample_aspect_ratio, target)


def _resize_lines(resizing: Resizing) -> str:
    lines = []
    for call in resize_calls(resizing):
        arguments = ", ".join(
            f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in call.items()
        )
        lines.append(f"clip = core.resize.{KERNELS[resizing.resize.kernel]}(\n    clip, {arguments}\n)\n")
    return "".join(lines)


def _timing(source: MediaSource) -> str:
    durations, base = list(source.timeline.durations), source.timeline.time_base
    if len(set(durations[:-1])) <= 1:
        return ""
    return _VARIABLE.format(base=base, durations=durations, numerator=base.numerator, denominator=base.denominator)


def _command(
    source: MediaSource, executable: Executable, script: Path, output: Path, color: Colorimetry, sar: Fraction
) -> str:
    vspipe = [str(system.scripts_folder() / system.program_name("vspipe")), "-c", "mkv", str(script), "-"]
    keep = mapping.stream_mapping(source, "mkv")
    check_orientation(source.video.orientation, "mkv", executable)
    space = "" if color.matrix == 0 else f":colorspace={color.matrix}"
    filters = (
        f"setparams=range={2 if color.full_range else 1}:color_primaries={color.primaries}"
        f":color_trc={color.transfer}{space}"
        + (f",setsar={sar.numerator}/{sar.denominator}:max={LARGEST_RATIO_TERM}" if sar else "")
    )
    encode: list[str | bytes] = [
        executable.path,
        "-y",
        "-copyts",
        "-itsoffset",
        f"{source.timeline.time_of(0):.6f}",
        *(["-noautorotate", *turn] if (turn := display_options(source.video.orientation, executable)) else []),
        "-i",
        "-",
    ]
    encode += ["-i", safe_url(source.path), "-map", "0:v:0"]
    for track in (*keep.audio, *(t for t, _ in keep.subtitles), *keep.attachments):
        encode += ["-map", f"1:{track.index}"]
    encode += ["-map_metadata", "1", "-map_chapters", "1", "-c", "copy", "-c:v", "libx264", "-crf", "16"]
    encode += ["-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-vf", filters]
    encode += ["-chroma_sample_location", str(color.chroma_location + 1), "-max_interleave_delta", "0"]
    encode += [*container_options("mkv", source.timeline.time_base), safe_url(output)]
    return f"{system.command_line(vspipe)} | {describe(encode)}"
