"""A clip through a session, and a file through the pipeline of iconvsr upscale without encoding."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarking.cases import PROPERTIES, YUV420P8, YUV420P10
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, HrFrame, Session, iterate

type Planes = tuple[Tensor, ...]


def open_session(
    network: VideoNetwork,
    settings: Settings,
    clip: Sequence[Planes],
    *,
    target: Format = YUV420P10,
    in_flight: int = 1,
) -> Session:
    """A session for a clip in YUV420P8."""
    height, width = clip[0][0].shape
    return Session(
        network,
        settings,
        source=YUV420P8,
        width=width,
        height=height,
        num_frames=len(clip),
        target=target,
        in_flight=in_flight,
    )


def fetch(session: Session, clip: Sequence[Planes], n: int) -> HrFrame:
    """hr frame n of the clip; may be called by several threads."""
    ((_, hr),) = iterate(session, lambda k: Fetched(clip[k], PROPERTIES), [n])
    return hr


def run_session(network: VideoNetwork, settings: Settings, clip: Sequence[Planes]) -> None:
    """All frames of the clip, in order."""
    with open_session(network, settings, clip) as session:
        for _ in iterate(session, lambda k: Fetched(clip[k], PROPERTIES), range(len(clip))):
            pass


def run_pipeline(network: VideoNetwork, settings: Settings, path: Path) -> None:
    """The file through decoder, engine and writer, with an encoder that discards everything."""
    from threading import Event

    from ffmpeg_filter.job.pipeline import FrameReader, Part, PartWriter
    from ffmpeg_filter.job.pool import Pipeline, PipelinePool
    from ffmpeg_filter.media import decode
    from ffmpeg_filter.media.probe import probe

    source = probe(path)

    def open_pipeline(sharers: int) -> Pipeline:
        session = Session(
            network,
            settings,
            source=source.video.layout.format,
            width=source.video.width,
            height=source.video.height,
            num_frames=source.num_frames,
            target=YUV420P10,
            sharers=sharers,
        )
        reader = FrameReader(lambda first: decode.decode_frames(source, first, decode.Damage()))
        return Pipeline(session, reader, PartWriter(NullParts(), source.timeline.pts))

    parts = [Part(0, range(source.num_frames))]
    PipelinePool(parts, open_pipeline, encoders=1, stop=Event(), on_frame=lambda _: None).run()


class NullParts:
    """A sink of parts and their encoder: it converts frames like a real encoder and keeps nothing."""

    path = Path(os.devnull)
    count = 0

    def open(self, part: object) -> "NullParts":
        del part
        return self

    def commit(self, part: object, encoder: object) -> None:
        del part, encoder

    def put(self, planes: Sequence[Tensor], pts: int) -> None:
        del pts
        torch.cat([plane.contiguous().view(torch.uint8).flatten() for plane in planes])
        self.count += 1

    def finish(self) -> None:
        return

    def kill(self) -> None:
        return
