"""Data sets as their archives unpack."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.frames import open_frames


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, dtype=np.uint8)).save(path)


def names(folder: Path, layout: str) -> list[str]:
    return [sequence.name for sequence in open_frames(folder, layout=layout).sequences]


def test_reds_leaves_out_the_four_clips_that_are_tested_on(tmp_path: Path) -> None:
    for clip in ("000", "001", "011", "015", "020", "269"):
        picture(tmp_path / "train_sharp" / clip / "00000000.png")
    assert names(tmp_path, "reds") == ["001", "269"]
    assert names(tmp_path, "reds4") == ["000", "011", "015", "020"]


def test_vimeo_takes_what_its_lists_name(tmp_path: Path) -> None:
    for clip in ("00001/0001", "00001/0002", "00002/0001"):
        for k in range(1, 8):
            picture(tmp_path / "sequences" / clip / f"im{k}.png")
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00002/0001\n")
    (tmp_path / "sep_testlist.txt").write_text("00001/0002\n")
    assert names(tmp_path, "vimeo90k") == ["00001/0001", "00002/0001"]
    assert names(tmp_path, "vimeo90k-test") == ["00001/0002"]
    (tmp_path / "sep_testlist.txt").write_text("00009/0009\n")
    with pytest.raises(ValueError, match=r"00009/0009: expected the frames that sep_testlist\.txt names, found none"):
        open_frames(tmp_path, layout="vimeo90k-test")


@pytest.mark.parametrize("layout", ["vid4", "udm10"])
def test_ground_truth_beside_lr_frames_is_found(tmp_path: Path, layout: str) -> None:
    picture(tmp_path / "GT" / "city" / "0000.png")
    picture(tmp_path / "BIx4" / "city" / "0000.png")
    assert names(tmp_path, layout) == ["city"]


def test_frames_count_as_numbers(tmp_path: Path) -> None:
    for k in (10, 2, 1):
        picture(tmp_path / f"frame{k}.png", value=k)
    frames = open_frames(tmp_path)
    assert frames.shape(0) == (3, 6, 8)
    read = frames.read(0, range(3), slice(0, 1), slice(2, 4))
    assert read.shape == (3, 3, 1, 2)
    assert read[:, 0, 0, 0].tolist() == [1, 2, 10]


def test_folders_of_folders_of_any_depth_work(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "scene 2" / "1.png")
    picture(tmp_path / "a" / "1.jpg")
    assert names(tmp_path, "any") == ["a", "b/scene 2"]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected folders with pictures .* as in any, found none"):
        open_frames(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of frames, found none"):
        open_frames(tmp_path / "nowhere")
