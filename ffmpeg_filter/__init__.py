"""The upscaler between a decoder and an encoder: a command, a pipe and a node for ffmpeg-python graphs."""

from typing import Any

__all__ = ["run"]


def run(stream: Any, **options: Any) -> int:
    """Runs an ffmpeg-python graph with an `iconvsr` node in it; see `ffmpeg_filter.node`, which has to be imported."""
    from ffmpeg_filter.node import run as run_graph

    return run_graph(stream, **options)
