"""A filter between two ffmpegs: a container on one pipe, NUT with large pictures and the same sound on the other."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import torch
from av.container import InputContainer, OutputContainer
from av.stream import Stream as AvStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ffmpeg_filter.job.pipeline import BoundedQueue, QueueClosed
from ffmpeg_filter.media.alpha import refuse_transparency
from ffmpeg_filter.media.container import exact, reason_of
from ffmpeg_filter.media.decode import THREAD_TYPE, THREADS
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.metadata import color_properties
from ffmpeg_filter.media.pixels import Layout, layout_of, pixel_format_of, plane_order
from ffmpeg_filter.media.presets import LEAST_BITS
from ffmpeg_filter.media.source import SourceError
from vs_iconvsr import system
from vs_iconvsr.colorspace import Colorimetry, Format, Planes, colorimetry_of, output_colorimetry
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, Session, iterate

logger = logging.getLogger(__name__)

_QUEUE_FRAMES = 8


@dataclass(frozen=True)
class Delivered:
    """What went through: frames, and the color that the next program has to be told of (NUT carries none)."""

    frames: int
    color: Colorimetry

    def next_options(self) -> str:
        """ffmpeg's filter that puts the color tags on, for the command behind the pipe."""
        c = self.color
        return (
            f"-vf setparams=range={2 if c.full_range else 1}:colorspace={c.matrix}"
            f":color_primaries={c.primaries}:color_trc={c.transfer}"
        )


@dataclass(frozen=True)
class _Frame:
    index: int
    pts: int
    planes: Planes
    properties: dict[str, int]


def upscale_pipe(
    network: VideoNetwork,
    settings: Settings,
    incoming: BinaryIO,
    outgoing: Callable[[Colorimetry], BinaryIO],
    *,
    bits: int | None = None,
    tags: Mapping[str, int] | None = None,
) -> Delivered:
    """Reads a container to its end and writes NUT: hr frames with the timestamps of the frames that they come from.

    Sound and other streams are copied. tags: frame properties that go before what the container says, which is nothing
    where the container is NUT. outgoing: opens the other end, knowing the color that NUT will not carry. Both
    ends must be real pipes or files. Raises SourceError for what cannot be
    read or upscaled, ValueError for settings, BrokenPipeError if nobody reads on.
    """
    if settings.segment == 0:
        raise ValueError("segment: expected at least 1 in a pipe, whose scenes have no known end, got 0")
    try:
        container = av.open(system.for_pyav(incoming))
    except (av.FFmpegError, OSError) as error:
        raise SourceError(
            f"pipe: expected a video on standard input, got something that cannot be read: {error}"
        ) from error
    with container:
        if not container.streams.video:
            raise SourceError("pipe: expected a video on standard input, got none in what was sent")
        return _Filter(network, settings, container, outgoing, bits, tags or {}).run()


class _Filter:
    """One run of the pipe: a thread reads and decodes, the calling thread does the rest."""

    def __init__(
        self,
        network: VideoNetwork,
        settings: Settings,
        container: InputContainer,
        outgoing: Callable[[Colorimetry], BinaryIO],
        bits: int | None,
        tags: Mapping[str, int],
    ) -> None:
        self._network, self._settings, self._container = network, settings, container
        self._outgoing, self._bits, self._tags = outgoing, bits, tags
        self._video: VideoStream = container.streams.video[0]
        self._video.thread_type = THREAD_TYPE
        self._video.codec_context.thread_count = THREADS
        self._time_base = exact(self._video.time_base) or Fraction(1, 90000)
        self._queue: BoundedQueue[_Frame] = BoundedQueue(_QUEUE_FRAMES)
        self._others: deque[av.Packet[AvStream]] = deque()
        self._layout: Layout | None = None
        self._stored = (0, 0, "")
        self._latest: int | None = None

    def run(self) -> Delivered:
        reader = threading.Thread(target=self._read, name="pipe-reader", daemon=True)
        reader.start()
        try:
            first = self._take()
            if first is None:
                raise SourceError("pipe: expected a video on standard input, got one of which no frame can be decoded")
            return self._deliver(first)
        finally:
            self._queue.abort()
            reader.join()

    def _read(self) -> None:
        """Decodes video onto the queue and puts the packets of other streams aside, in the order they come."""
        count = 0
        try:
            for packet in self._container.demux():
                if packet.stream.index != self._video.index:
                    if packet.size:
                        self._others.append(packet)
                    continue
                for frame in self._decoded(packet, count):
                    if isinstance(frame, VideoFrame):
                        self._queue.put(self._frame(count, frame))
                        count += 1
            self._queue.end()
        except QueueClosed:
            return
        except av.FFmpegError as error:
            self._queue.end(SourceError(f"pipe: expected a whole video, got an error after frame {count}: {error}"))
        except BaseException as error:
            self._queue.end(error)

    def _decoded(self, packet: "av.Packet[AvStream]", count: int) -> Sequence[object]:
        """The frames that a packet completes. Raises SourceError: no later frame could be told from the missing one."""
        try:
            return packet.decode()
        except av.FFmpegError as error:
            raise SourceError(
                f"pipe: expected frames that can be decoded, got a damaged one after {count}: {reason_of(error)}; "
                "upscale the file with iconvsr upscale, which goes on after damage"
            ) from error

    def _frame(self, index: int, frame: VideoFrame) -> _Frame:
        stored = (frame.width, frame.height, frame.format.name)
        if self._layout is None:
            self._layout, self._stored = layout_of(frame.format.name, opaque=True), stored
        if stored != self._stored:
            raise SourceError(
                f"pipe: expected {_described(self._stored)} to the end, got {_described(stored)} from frame {index} on"
                "; upscale what comes after it on its own"
            )
        refuse_transparency(frame, index)
        if frame.interlaced_frame:
            raise SourceError(
                f"pipe: expected progressive video, got an interlaced frame {index}; put bwdif before the pipe"
            )
        if frame.pts is None:
            raise SourceError(f"pipe: expected timestamps, got none on frame {index}; send NUT, Matroska or y4m")
        if self._latest is not None and frame.pts <= self._latest:
            raise SourceError(
                f"pipe: expected ascending timestamps, got {frame.pts} after {self._latest} on frame {index}; make "
                "them ascend before the pipe: ffmpeg -fflags +genpts -i IN -vf setpts=N/FRAME_RATE/TB -f nut -"
            )
        self._latest = frame.pts
        properties = {
            **color_properties(frame, self._layout, self._video.codec_context.name),
            **self._tags,
            "_FieldBased": 0,
        }
        return _Frame(index, frame.pts, planes_of(frame), properties)

    def _take(self) -> _Frame | None:
        try:
            return self._queue.take()
        except QueueClosed as broken:
            raise broken.__cause__ or broken from None

    def _deliver(self, first: _Frame) -> Delivered:
        assert self._layout is not None
        source = self._layout.format
        target = Format(
            source.family,
            "integer",
            self._bits or max(LEAST_BITS, 16 if source.sample == "float" else source.bits),
            source.subsampling_w,
            source.subsampling_h,
        )
        width, height, _ = self._stored
        scale = self._network.scale
        color, _ = colorimetry_of(first.properties, source, width, height, matrix=self._settings.matrix)
        color = output_colorimetry(color, source, target, width * scale, height * scale, matrix=self._settings.matrix)
        end = self._outgoing(color)
        output = av.open(system.for_pyav(end), "w", format="nut", container_options={"max_interleave_delta": "0"})
        count = 0
        session = Session(
            self._network,
            self._settings,
            source=source,
            width=width,
            height=height,
            num_frames=None,  # a pipe does not say how long it is
            target=target,
        )
        with output, session:
            video = _raw_stream(output, target, width * scale, height * scale, self._time_base, self._video)
            copies = {
                s.index: _copy_stream(output, s) for s in self._container.streams if s.type in ("audio", "subtitle")
            }
            output.start_encoding()
            for _, hr in iterate(session, self._fetch_from(first)):
                self._mux_others(output, copies)
                assert isinstance(hr.user_data, int), "the timestamp that was fetched with the frame"
                output.mux(_packet(hr.planes, target, video, hr.user_data, self._time_base))
                count += 1
            self._mux_others(output, copies)
        return Delivered(count, color)

    def _fetch_from(self, first: _Frame) -> Callable[[int], Fetched | None]:
        """Source frames in the order they are asked for, which is that of the pipe; None after the last one."""
        waiting: _Frame | None = first

        def fetch(n: int) -> Fetched | None:
            nonlocal waiting
            frame = self._take() if waiting is None else waiting
            waiting = None
            assert frame is None or frame.index == n, f"frame {n} follows in the pipe, got {frame.index}"
            return None if frame is None else Fetched(frame.planes, frame.properties, frame.pts)

        return fetch

    def _mux_others(self, output: OutputContainer, copies: dict[int, AvStream]) -> None:
        while self._others:
            packet = self._others.popleft()
            if packet.stream.index in copies:
                index, packet.stream = packet.stream.index, copies[packet.stream.index]
                try:
                    output.mux(packet)
                except (av.ArgumentError, av.InvalidDataError) as error:
                    raise SourceError(
                        f"pipe: expected packets that NUT can hold, got one of stream {index} ({packet.stream.type}) "
                        f"with timestamps {packet.pts}, {packet.dts}; leave it out before the pipe: -map -0:{index}"
                    ) from error


def _described(stored: tuple[int, int, str]) -> str:
    width, height, pixel_format = stored
    return f"{width}x{height} {pixel_format}"


def _raw_stream(
    output: OutputContainer, target: Format, width: int, height: int, time_base: Fraction, like: VideoStream
) -> VideoStream:
    stream = output.add_stream("rawvideo")
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format_of(target)
    stream.time_base = stream.codec_context.time_base = time_base
    if exact(like.sample_aspect_ratio):
        stream.codec_context.sample_aspect_ratio = exact(like.sample_aspect_ratio)
    return stream


def _copy_stream(output: OutputContainer, stream: AvStream) -> AvStream:
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    return copy


def _packet(
    planes: Planes, target: Format, stream: VideoStream, pts: int, time_base: Fraction
) -> "av.Packet[AvStream]":
    data = torch.cat([planes[i].contiguous().view(torch.uint8).flatten() for i in plane_order(target)])
    packet = av.Packet(data.numpy().tobytes())
    packet.stream = stream
    packet.time_base = time_base
    packet.pts = packet.dts = pts
    packet.is_keyframe = True
    return packet
