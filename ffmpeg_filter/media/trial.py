"""What a container can hold: the ffmpeg that will write it muxes a few packets of each stream on trial."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ffmpeg_filter.media import mapping, mux
from ffmpeg_filter.media.dynamic_hdr import DOLBY_VISION
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError
from ffmpeg_filter.media.join import JoinedVideo, mux_joined
from ffmpeg_filter.media.listing import ListedStream, list_streams
from ffmpeg_filter.media.mapping import StreamMapping
from ffmpeg_filter.media.source import MediaSource, SourceError, Track

# How much of each stream is muxed: by then the muxer has reported what it refuses.
_EXCERPT_S = 1

# Streams that begin within so many seconds of each other are tried together; beyond so many groups, only headers are.
_TOGETHER_S, _MOST_GROUPS = 30, 5

# For streams whose next packet is far away, which ffmpeg would look for to the end of the file.
_PATIENCE_S = 20.0

# (profile, base layer compatibility) whose pixels are IPT, not YUV: without the metadata nothing can show them.
_ONLY_DOLBY_VISION = ((5, 0), (10, 0), (20, 0))


def listed(executable: Executable, source: MediaSource) -> MediaSource:
    """The source with the tags of its tracks, and with Dolby Vision among what is lost if its video declares that.

    Raises SourceError for Dolby Vision without a base layer.
    """
    streams = list_streams(executable, source.path)
    dolby_vision = streams[source.video.index].dolby_vision
    if dolby_vision is not None and dolby_vision in _ONLY_DOLBY_VISION:
        raise SourceError(
            f"input: expected YUV or RGB video, got Dolby Vision profile {dolby_vision[0]}, whose colors are IPT; "
            "convert it first: ffmpeg -init_hw_device vulkan -i IN -vf libplacebo=apply_dolbyvision=true:"
            "colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:format=yuv420p10le "
            "-c:v ffv1 -c:a copy OUT.mkv"
        )
    tracks = tuple(replace(t, tag=streams[t.index].tag if t.index < len(streams) else "") for t in source.tracks)
    lost = {*source.lost, DOLBY_VISION} if dolby_vision else {*source.lost}
    return replace(source, tracks=tracks, lost=tuple(sorted(lost)))


@dataclass(frozen=True)
class Trial:
    """One attempt to mux: a single encoded frame, and the first packets of the source's streams.

    containers: those that the encoder's video may go into, the one asked for among them. folder: for what is written.
    """

    executable: Executable
    source: MediaSource
    video: JoinedVideo
    folder: Path
    containers: tuple[str, ...]

    def settle(self, container: str) -> StreamMapping:
        """What goes into the container, in which form, and what does not, with the reason.

        Raises ValueError, with a container that holds all, for sound that it cannot hold.
        """
        plan = mapping.stream_mapping(self.source, container)
        if self._problem(plan, container) is not None:
            plan = self._without_what_fails(plan, container)
            if problem := self._problem(plan, container):
                raise ValueError(f"output: .{container} cannot be written: {problem}; name the output .mkv")
        found = mux.side_data_of(self._path(container)) if self.source.lost else ()
        there = tuple(text for text in self.source.lost if text in found)
        left = tuple(text for text in plan.left if text not in {mapping.lost_text(t) for t in there})
        return replace(plan, left=left, side_data=there)

    def _without_what_fails(self, plan: StreamMapping, container: str) -> StreamMapping:
        self._refuse_sound(plan.audio, container)
        left, subtitles = list(plan.left), []
        for track, _ in plan.subtitles:
            forms = mapping.subtitle_codecs(track, container)
            form = next((f for f in forms if self._alone(track, container, f) is None), "")
            if form == "":
                left.append(self._left_text(track, container))
            else:
                subtitles.append((track, form))
        kept: dict[str, list[Track]] = {"attachment": [], "cover": [], "data": []}
        for track in (*plan.attachments, *plan.covers, *plan.data):
            if self._alone(track, container) is None:
                kept[track.kind].append(track)
            else:
                left.append(self._left_text(track, container))
        return StreamMapping(
            audio=plan.audio,
            subtitles=tuple(subtitles),
            attachments=tuple(kept["attachment"]),
            covers=tuple(kept["cover"]),
            left=tuple(left),
            changed=tuple(mapping.changed_text(track, codec) for track, codec in subtitles if codec is not None),
            data=tuple(kept["data"]),
        )

    def _refuse_sound(self, audio: Sequence[Track], container: str) -> None:
        failing = [(track, why) for track in audio if (why := self._alone(track, container))]
        if not failing:
            return
        others = [c for c in self.containers if c != container and not any(self._alone(t, c) for t in audio)]
        first, why = failing[0]
        remedy = (
            f"name the output .{' or .'.join(others)}"
            if others
            else "convert the sound first: ffmpeg -i IN -map 0 -c copy -c:a flac OUT.mkv"
        )
        tracks = ", ".join(str(track) for track, _ in failing)
        raise ValueError(f"output: .{container} cannot hold the sound {tracks}; {remedy} ({first.codec}: {why})")

    def _left_text(self, track: Track, container: str) -> str:
        others = [c for c in self.containers if c != container and self._alone(track, c) is None]
        keeps = f"; .{' and .'.join(others)} keep{'s' if len(others) == 1 else ''} it" if others else ""
        return f"{track}: .{container} cannot hold it{keeps}"

    def _alone(self, track: Track, container: str, form: str | None = None) -> str | None:
        """Why the container cannot hold the video with this track; None if it can."""
        if track.kind == "subtitle":
            return self._problem(StreamMapping(subtitles=((track, form),)), container)
        if track.kind == "attachment" and container != "mkv":
            return "no attachments"
        field = {"audio": "audio", "attachment": "attachments", "cover": "covers"}.get(track.kind, "data")
        return self._problem(replace(StreamMapping(), **{field: (track,)}), container)  # type: ignore[arg-type]

    def _problem(self, plan: StreamMapping, container: str) -> str | None:
        """Why ffmpeg refuses the plan; None if it writes all of it and it reads back as planned."""
        try:
            groups = _groups(mux.mapped_tracks(plan))
            for number, group in enumerate(groups):
                part = _only(plan, group, covers=number == 0)
                self._run(part, container, group[0].first if number else None)
                if problem := self._difference(part, container):
                    return problem
        except FfmpegError as error:
            return _reason(error)
        return None

    def _run(self, plan: StreamMapping, container: str, seek: Fraction | None) -> None:
        pictures = mux.extract_covers(self.source, plan.covers, self.folder) if container != "mp4" else []
        command = mux.mux_command(
            self.executable,
            self.video.input_options(),
            self.source,
            plan,
            pictures,
            container,
            self._path(container),
            stop=self._stop(plan, seek),
            seek=seek,
        )
        mux_joined(command, self.video, patience_s=_PATIENCE_S)

    def _stop(self, plan: StreamMapping, seek: Fraction | None) -> Fraction:
        """When the trial ends, on the output's clock: after the first packet of each of its tracks."""
        firsts = [t.first for t in mux.mapped_tracks(plan) if t.first is not None and (seek is None or t.first >= seek)]
        origin = mux.origin(self.source, None)
        last = max([self.video.pts[0] * self.video.time_base, *(first - origin for first in firsts)])
        return max(last, Fraction(0)) + _EXCERPT_S

    def _difference(self, plan: StreamMapping, container: str) -> str | None:
        written = list_streams(self.executable, self._path(container))
        forms = {track.index: codec for track, codec in plan.subtitles}
        for track, stream in zip(mux.mapped_tracks(plan), written[1:], strict=False):
            if track.kind == "data" and not _is_same(track, stream):
                return f"it would be written as {stream.codec} {stream.tag}"
            if track.kind in ("audio", "subtitle") and stream.kind.lower() != track.kind and not forms.get(track.index):
                return f"it would be written as {stream.kind.lower()}"
        return None if len(written) > len(mux.mapped_tracks(plan)) else "it is missing when read back"

    def _path(self, container: str) -> Path:
        return self.folder / f"trial.{container}"


def _is_same(track: Track, stream: ListedStream) -> bool:
    """Whether a data stream came out as it went in: one that ffmpeg has no name for has only its four characters."""
    named = track.codec not in ("bin_data", "none", "unknown")
    return stream.codec == track.codec if named else stream.tag == track.tag


def _groups(tracks: Sequence[Track]) -> list[list[Track]]:
    """Tracks whose first packets lie close together; those of the beginning, and those without any, come first."""
    groups: list[list[Track]] = [[]]
    begin = min((t.first for t in tracks if t.first is not None), default=Fraction(0))
    for track in sorted(tracks, key=lambda t: (t.first or begin, t.index)):
        first = track.first if track.first is not None else begin
        if first > begin + _TOGETHER_S and len(groups) < _MOST_GROUPS:
            groups.append([])
            begin = first
        groups[-1].append(track)
    return groups


def _only(plan: StreamMapping, tracks: Sequence[Track], *, covers: bool) -> StreamMapping:
    return replace(
        plan,
        audio=tuple(t for t in plan.audio if t in tracks),
        subtitles=tuple((t, codec) for t, codec in plan.subtitles if t in tracks),
        attachments=tuple(t for t in plan.attachments if t in tracks),
        covers=plan.covers if covers else (),
        data=tuple(t for t in plan.data if t in tracks),
    )


def _reason(error: FfmpegError) -> str:
    """ffmpeg's own first message, without addresses in memory."""
    said = str(error).split(": ", 1)[-1].split(" | ")[0]
    return re.sub(r"\[[^]]*\] ?", "", said)
