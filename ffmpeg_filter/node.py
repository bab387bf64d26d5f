"""A node for ffmpeg-python graphs: `stream.iconvsr(model=…)`, run by `ffmpeg_filter.run()`.

ffmpeg itself has no such filter, so the graph is cut in two at the node: one ffmpeg runs what comes before, we read its
frames, and another one runs what comes after.
"""

import logging
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import ffmpeg

try:
    from ffmpeg.dag import topo_sort
    from ffmpeg.nodes import (
        FilterNode,
        GlobalNode,
        InputNode,
        MergeOutputsNode,
        OutputNode,
        Stream,
        filter_operator,
        get_stream_spec_nodes,
        output_operator,
    )
except ImportError as error:  # several packages install a module of this name
    raise ImportError(
        f"ffmpeg: expected the package ffmpeg-python, got another one at {ffmpeg.__file__}; "
        "pip uninstall it and pip install --force-reinstall ffmpeg-python"
    ) from error

from ffmpeg_filter.media import ffmpeg as ffmpeg_program
from ffmpeg_filter.media.ffmpeg import Child, Executable, FfmpegError
from ffmpeg_filter.pipe import upscale_pipe
from vs_iconvsr import options as upscaling
from vs_iconvsr import weights
from vs_iconvsr.colorspace import Colorimetry
from vs_iconvsr.plan import Settings

logger = logging.getLogger(__name__)

# Milliseconds, 1/90000 s and the frames of all usual rates, 24000/1001 too, are whole numbers of it.
TIME_BASE = "1/360000"

_OPTIONS = frozenset({*(option.name for option in upscaling.COMMAND), "bits"})
_UNKNOWN = {"_Range": 0, "_Matrix": 2, "_Primaries": 2, "_Transfer": 2}
_OWN_TIMING = ("r", "vsync", "fps_mode", "enc_time_base")


class IconVSRNode(FilterNode):  # type: ignore[misc]
    """The place in the graph where frames are upscaled."""

    def _get_filter(self, outgoing_edges: object) -> str:
        del outgoing_edges
        raise RuntimeError(
            "iconvsr is no filter of ffmpeg's own: run the graph with ffmpeg_filter.run(stream) or "
            "stream.run_iconvsr(), not with run(), run_async() or compile()"
        )


@filter_operator()  # type: ignore[untyped-decorator]
def iconvsr(stream: Stream, **options: Any) -> Stream:
    """Upscales, x4 with the default model. options: those of the filter that concern pixels, and bits.

    See `vs_iconvsr.options` for their meaning, units and limits. Raises ValueError for other names; `run` for values.
    """
    unknown = set(options) - _OPTIONS
    if unknown:
        raise ValueError(f"iconvsr: expected some of {', '.join(sorted(_OPTIONS))}, got {', '.join(sorted(unknown))}")
    return IconVSRNode(stream, iconvsr.__name__, kwargs=options).stream()


@output_operator()  # type: ignore[untyped-decorator]
def run_iconvsr(stream: Stream, **options: Any) -> int:
    """See `run`."""
    return run(stream, **options)


def run(stream: Stream, *, overwrite_output: bool = False, executable: str | None = None) -> int:
    """Runs an ffmpeg-python graph that holds one `iconvsr` node; returns the number of frames upscaled.

    Timestamps pass through; outputs that choose no rate of their own keep a variable one. Raises ValueError for graphs
    with no such node or several, FfmpegError with ffmpeg's own words, and what upscaling raises.
    """
    found = ffmpeg_program.find_executable(executable)
    node = _node_of(stream)
    options = dict(node.kwargs)
    network = weights.load(options.pop("model", weights.DEFAULT_MODEL))
    bits = options.pop("bits", None)
    settings = Settings.from_options(options)
    tags = _tags_of(found, node)
    before = Child(_command(found, _input_graph(node)), stdout=subprocess.PIPE)
    after: list[Child] = []

    def start_downstream(color: Colorimetry) -> BinaryIO:
        graph = _output_graph(stream, node, color)
        after.append(Child(_command(found, graph, overwrite=overwrite_output), stdin=subprocess.PIPE))
        stdin = after[0].process.stdin
        assert stdin is not None
        return stdin  # type: ignore[return-value]

    try:
        return _run_both(
            before,
            after,
            lambda source: upscale_pipe(network, settings, source, start_downstream, bits=bits, tags=tags).frames,
        )
    finally:
        for child in (before, *after):
            child.kill()


def _run_both(before: Child, after: list[Child], upscale: Callable[[BinaryIO], int]) -> int:
    """Whoever failed first is quoted: a broken pipe is only the symptom."""
    stdout = before.process.stdout
    assert stdout is not None
    try:
        with stdout:
            frames = upscale(stdout)  # type: ignore[arg-type]
    except OSError as error:
        if not after:
            raise
        raise FfmpegError(after[0].failure()) from error
    except Exception as error:
        try:
            before.process.wait(ffmpeg_program.KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise error from None
        if before.process.returncode:
            raise FfmpegError(before.failure()) from error
        raise
    before.finish()
    stdin = after[0].process.stdin
    assert stdin is not None
    stdin.close()
    after[0].finish()
    return frames


def _node_of(stream: Stream) -> IconVSRNode:
    nodes, _ = topo_sort(get_stream_spec_nodes(stream))
    found = [node for node in nodes if isinstance(node, IconVSRNode)]
    if len(found) != 1:
        raise ValueError(f"graph: expected one iconvsr node, got {len(found)}")
    return found[0]


def _command(executable: Executable, graph: Stream, *, overwrite: bool = False) -> list[str | bytes]:
    start = [executable.path, "-hide_banner", "-v", "warning", "-nostats", "-nostdin", "-copyts"]
    return [*start, *map(str, graph.get_args(overwrite_output=overwrite))]


def _input_graph(node: IconVSRNode) -> Stream:
    edge = node.incoming_edges[0]
    above = edge.upstream_node.stream(edge.upstream_label, edge.upstream_selector)
    return ffmpeg.output(
        above, "pipe:1", format="nut", vcodec="rawvideo", fps_mode="passthrough", enc_time_base=TIME_BASE
    )


def _tags_of(executable: Executable, node: IconVSRNode) -> dict[str, int]:
    """The color of the first frame that reaches the node, as frame properties: NUT would lose it.

    Raises FfmpegError if what comes before the node does not run.
    """
    edge = node.incoming_edges[0]
    above = edge.upstream_node.stream(edge.upstream_label, edge.upstream_selector)
    shown = ffmpeg.output(above.filter("showinfo"), "-", format="null", vframes=1).get_args()
    start = [executable.path, "-hide_banner", "-v", "info", "-nostats", "-nostdin"]
    output = "\n".join(ffmpeg_program.run([*start, *map(str, shown)], timeout_s=60))
    values = ffmpeg_program.option_values(executable, "setparams")
    properties = {}
    for name, unit, pattern in (
        ("_Range", "range", r"color_range:(\S+)"),
        ("_Matrix", "colorspace", r"color_space:(\S+)"),
        ("_Primaries", "color_primaries", r"color_primaries:(\S+)"),
        ("_Transfer", "color_trc", r"color_trc:(\S+)"),
    ):
        match = re.search(pattern, output)
        number = values.get((unit, match.group(1))) if match else None
        if number is None or number == _UNKNOWN[name]:
            continue
        properties[name] = number - 1 if name == "_Range" else number
    return properties


def _output_graph(stream: Stream, node: IconVSRNode, color: Colorimetry) -> Stream:
    """The graph with our pipe in the place of the node. NUT carries no color, so it is put on again here."""
    tags = {"color_primaries": color.primaries, "color_trc": color.transfer, "range": 2 if color.full_range else 1}
    if color.matrix != 0:
        tags["colorspace"] = color.matrix
    large = ffmpeg.input("pipe:0", format="nut").video.filter("setparams", **tags)
    return _copy(stream, {node: large}, {})


def _copy(stream: Stream, replacements: Mapping[Any, Stream], copies: dict[Any, Any]) -> Stream:
    """The same graph above `stream`, with nodes replaced by streams."""
    node = stream.node
    if node in replacements:
        return replacements[node]
    if isinstance(node, InputNode):
        return stream
    if node not in copies:
        above = {
            edge.downstream_label: _copy(_stream_above(edge), replacements, copies) for edge in node.incoming_edges
        }
        copies[node] = _rebuild(node, above)
    if isinstance(node, FilterNode):
        return copies[node].stream(stream.label, stream.selector)
    return copies[node].stream(stream.label)


def _stream_above(edge: Any) -> Stream:
    if isinstance(edge.upstream_node, FilterNode | InputNode):
        return edge.upstream_node.stream(edge.upstream_label, edge.upstream_selector)
    return edge.upstream_node.stream(edge.upstream_label)


def _rebuild(node: Any, above: dict[Any, Stream]) -> Any:
    if isinstance(node, FilterNode):
        return FilterNode(above, node.name, max_inputs=None, args=node.args, kwargs=node.kwargs)
    if isinstance(node, OutputNode):
        return OutputNode(above, node.name, args=node.args, kwargs=_output_options(node.kwargs))
    if isinstance(node, GlobalNode):
        return GlobalNode(above[None], node.name, args=node.args, kwargs=node.kwargs)
    if isinstance(node, MergeOutputsNode):
        return MergeOutputsNode(list(above.values()), node.name)
    raise ValueError(f"graph: expected nodes of ffmpeg-python, got {type(node).__name__}")


def _output_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """An output's options, with a time base that loses nothing unless the user chose a rate."""
    named = {**options, "filename": os.fspath(options["filename"])}
    if any(name in options for name in _OWN_TIMING):
        return named
    return {"fps_mode": "passthrough", "enc_time_base": TIME_BASE, **named}
