"""Scene lists: what other programs write is read as they mean it, and what is no list is refused."""

import json
from pathlib import Path

import pytest

from ffmpeg_filter.media.scene_list import SceneList, read_scene_list

STARTS = (0, 120, 301)
AV1AN = {"frames": 400, "scenes": [{"start_frame": n, "end_frame": 0, "zone_overrides": None} for n in STARTS]}
PYSCENEDETECT = """Scene Number,Start Frame,Start Timecode,Start Time (seconds),End Frame,End Timecode
1,1,00:00:00.000,0.000,120,00:00:05.000
2,121,00:00:05.000,5.000,301,00:00:12.542
3,302,00:00:12.542,12.542,400,00:00:16.667
"""


@pytest.mark.parametrize(
    ("text", "num_frames"),
    [
        ("0\t0.000\n120\t5.000\n301\t12.542\n", None),
        ('{"frame": 0, "time_s": 0.0}\n{"frame": 120, "time_s": 5.0}\n{"frame": 301, "time_s": 12.5}\n', None),
        ("# mine\n0\n120\n\n301\n", None),
        (json.dumps(AV1AN), 400),
        (json.dumps(AV1AN, indent=2), 400),
        (PYSCENEDETECT, None),
        ("\ufeffTimecode List:,00:00:05.000,00:00:12.542\n" + PYSCENEDETECT, None),
    ],
    ids=["ours", "ours-json", "by-hand", "av1an", "av1an-indented", "pyscenedetect", "pyscenedetect-timecodes"],
)
def test_each_program_is_read_as_it_counts(tmp_path: Path, text: str, num_frames: int | None) -> None:
    (tmp_path / "list").write_text(text)
    assert read_scene_list(tmp_path / "list") == SceneList("list", STARTS, num_frames)


@pytest.mark.parametrize(
    "text",
    [
        "0\t0.000\n120\t5.000 strength=0.4  # too sharp\n301 strength=1\n",
        '{"frame": 0, "time_s": 0.0}\n{"frame": 120, "time_s": 5, "strength": 0.4}\n{"frame": 301, "strength": 1}\n',
    ],
    ids=["text", "json"],
)
def test_a_scene_may_have_its_own_strength(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text)
    found = read_scene_list(tmp_path / "list")
    assert found == SceneList("list", STARTS, strengths=((120, 0.4), (301, 1.0)))
    assert found.strength_changes(1.0) == ((120, 0.4), (301, 1.0))
    assert found.strength_changes(0.4) == ((301, 1.0),)
    assert found.strength_changes(0.7) == ((120, 0.4), (301, 1.0))


def test_a_scene_without_its_own_strength_has_that_of_the_run() -> None:
    listed = SceneList("list", (5, 9, 12), strengths=((5, 0.5), (12, 0.5)))
    assert listed.strength_changes(1.0) == ((5, 0.5), (9, 1.0), (12, 0.5))
    assert SceneList("list", STARTS).strength_changes(0.5) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the start of at least one scene, got none"),
        (b"0\n5\n5\n", "expected ascending frame numbers from 0 on, got 5 after 5"),
        (b"0\n9\n5\n", "expected ascending frame numbers from 0 on, got 5 after 9"),
        (b"0\n-5\n", "got '-5' where a frame number should be"),
        (b"00:00:05.000\n", "got '00:00:05.000' where a frame number should be"),
        (b'{"scenes": [{"begin": 0}]}', "expected a start_frame in each of Av1an's scenes"),
        (b'{"scenes": [{"start_frame": "0"}]}', "expected whole frame numbers in Av1an's scenes"),
        (b'{"scenes": [{"start_frame": true}]}', "expected whole frame numbers in Av1an's scenes"),
        (b'{"scenes": [{"start_frame": 0}], "frames": 1.5}', "expected whole frame numbers in Av1an's scenes"),
        (b'{"scenes": 7}', "expected a start_frame in each of Av1an's scenes"),
        (b'{"split": []}', "where a frame number should be"),
        (b"Scene Number,Start Frame\n1\n", "got '' where a frame number should be"),
        (b"Scene Number,Start Frame\n1,0\n", "expected ascending frame numbers from 0 on, got -1"),
        (b"Scene Number,End Start Frame\n1,7\n", "got '' where a frame number should be"),
        (b"Scene Number,Start Frame\n1," + b"7" * 200_000, "got a damaged table"),
        (b"\x89PNG\r\n\x1a\n\xff", "got a file that is no text"),
        (b"0\n5 strength=1.5\n", r"strength: expected a share from 0 to 1, got 1.5, in '5 strength=1.5': "),
        (b"0\n5 strength=half\n", "strength: expected a number, got 'half', in '5 strength=half': "),
        (b"0\n5 strength 0.5\n", "strength: expected a number, got '', in "),
        (b"0\n5 strenght=0.5\n", "expected strength=SHARE as the only setting of a scene, got 'strenght' in '5 str"),
        (b"0\n5 model=light\n", "expected strength=SHARE as the only setting of a scene, got 'model' in '5 model=l"),
        (b'{"frame": 5, "strength": "x"}\n', "strength: expected a number, got 'x', in "),
        (b'{"frame": 5, "model": "light"}\n', "expected strength=SHARE as the only setting of a scene, got 'model'"),
        (b"9" * 5000, "where a frame number should be"),
        (b"[" * 100_000, "where a frame number should be"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(ValueError, match=f"^scenes: .*{message}"):
        read_scene_list(tmp_path / "list")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scenes: expected a readable file, got .*none: No such file"):
        read_scene_list(tmp_path / "none")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (SceneList("l", (0, 12)), "expected frames below 12, got a scene that starts at 12: l"),
        (SceneList("l", (0, 6), 13), "expected a list for 12 frames, got one for 13: l; make one from this"),
    ],
)
def test_a_list_of_another_video_is_refused(listed: SceneList, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listed.check(12)
    SceneList("l", (0, 11), 12).check(12)
