from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
KEY = "00112233445566778899aabbccddeeff"
CENC = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", KEY, "-encryption_kid", KEY)


@pytest.fixture
def with_sound(ffmpeg: Make) -> Make:
    def make(name: str, *options: str) -> Path:
        picture = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p", "-f", "lavfi", "-i", "sine=d=1")
        return ffmpeg(name, *picture, "-frames:v", "12", "-shortest", *options)

    return make


def test_an_encrypted_file_is_named_with_a_remedy_that_works(with_sound: Make, ffmpeg: Make) -> None:
    source = with_sound("in.mp4", "-c:v", "libx264", "-c:a", "aac", *CENC)
    with pytest.raises(
        SourceError, match=r"got video 0 h264 und, audio 1 aac und encrypted; .* -decryption_key KEY -i IN\.mp4"
    ):
        probe(source)
    assert probe(ffmpeg("out.mp4", "-decryption_key", KEY, "-i", source, "-map", "0", "-c", "copy")).num_frames == 12


@pytest.mark.parametrize(("name", "codec", "unit"), [("in.ts", "libx264", 188), ("in.vob", "mpeg2video", 0)])
def test_scrambled_broadcasts_and_discs_are_named(with_sound: Make, name: str, codec: str, unit: int) -> None:
    source = with_sound(name, "-c:v", codec, "-c:a", "mp2")
    content = bytearray(source.read_bytes())
    for at in range(0, len(content), unit) if unit else ():
        if (content[at + 1] & 0x1F) << 8 | content[at + 2] >= 0x100:
            content[at + 3] |= 0x80
    at = content.find(b"\0\0\1\xe0") if not unit else -1
    while at >= 0:
        content[at + 6] |= 0x10
        at = content.find(b"\0\0\1\xe0", at + 1)
    assert probe(source).num_frames > 0
    source.write_bytes(content)
    with pytest.raises(SourceError, match="expected a video that is not encrypted, got video encrypted; decrypt it"):
        probe(source)


def test_a_recording_without_its_index_is_named_with_the_tool_that_repairs_it(with_sound: Make) -> None:
    source = with_sound("in.mp4", "-c:v", "libx264", "-c:a", "aac")
    content = source.read_bytes()
    for cut in (content.index(b"moov") - 4, content.index(b"moov") + 300):
        source.write_bytes(content[:cut])
        with pytest.raises(SourceError, match=r"its index \(moov\) is missing, .*: untrunc WHOLE\.mp4 IN\.mp4"):
            probe(source)


def test_a_piece_of_a_stream_is_named_with_a_remedy_that_works(with_sound: Make) -> None:
    source = with_sound("in.mp4", "-c:v", "libx264", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov")
    content = source.read_bytes()
    begin = content.index(b"moof") - 4
    source.write_bytes(content[begin:])
    with pytest.raises(SourceError, match=r"its header \(moov\) is missing, .*: cat INIT\.mp4 IN\.m4s > OUT\.mp4"):
        probe(source)
    source.write_bytes(content[:begin] + content[begin:])
    assert probe(source).num_frames == 12


def test_noise_is_not_taken_for_a_cut_off_recording(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(SourceError) as raised:
        probe(tmp_path / "in.mp4")
    assert "moov" not in str(raised.value)
