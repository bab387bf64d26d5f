"""Data sets as their archives unpack."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.frames import open_frames, read_image


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


def test_reds_is_read_as_its_archives_unpack(tmp_path: Path) -> None:
    """Beside lr folders that hold clips of the same names."""
    for clip in ("000", "001", "011", "015", "020"):
        for folder in (
            "train/train_sharp",
            "train/train_sharp_bicubic/X4",
            "val/val_sharp",
            "val/val_sharp_bicubic/X4",
        ):
            picture(tmp_path / folder / clip / "00000000.png", value=200 if folder == "train/train_sharp" else 0)
    assert names(tmp_path, "reds4") == ["000", "011", "015", "020"]
    assert int(open_frames(tmp_path, layout="reds4").read(0, range(1), slice(0, 1), slice(0, 1)).max()) == 200
    assert names(tmp_path, "reds") == ["001", *(f"val_sharp/{clip}" for clip in ("000", "001", "011", "015", "020"))]


def test_udm10_and_vimeo_are_found_in_the_folders_of_their_archives(tmp_path: Path) -> None:
    """UDM10 with lr frames beside each clip's truth; Vimeo-90K below vimeo_septuplet."""
    for name in ("udm10/archpeople/truth", "udm10/archpeople/blur4", "udm10/clap/truth", "udm10/clap/blur4"):
        picture(tmp_path / name / "0000.png")
    assert names(tmp_path / "udm10", "udm10") == ["archpeople", "clap"]
    for k in range(1, 8):
        picture(tmp_path / "vimeo_septuplet" / "sequences" / "00001" / "0001" / f"im{k}.png")
    (tmp_path / "vimeo_septuplet" / "sep_testlist.txt").write_text("00001/0001\n")
    assert names(tmp_path, "vimeo90k-test") == ["00001/0001"]


def test_an_image_that_is_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"1\.png: expected an image, got a git-lfs pointer to one; run: git lfs pull"):
        read_image(tmp_path / "1.png")


def test_what_macs_leave_is_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    for name in ("a/._1.png", "__MACOSX/a/._1.png", "__MACOSX/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert names(tmp_path, "any") == ["a"]
    assert open_frames(tmp_path).shape(0) == (1, 6, 8)


def test_frames_behind_links_are_found(tmp_path: Path) -> None:
    picture(tmp_path / "disk" / "clips" / "a" / "1.png")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "more").symlink_to(tmp_path / "disk")
    assert names(tmp_path / "given", "any") == ["more/clips/a"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_gray_is_as_bright_as_its_eight_bit_copy(tmp_path: Path, suffix: str) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / f"gray{suffix}")
    assert (read_image(tmp_path / f"gray{suffix}").numpy() == values).all()


def test_floating_point_and_damaged_images_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.ones((6, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif: expected 8 or 16 bits, got floating point"):
        read_image(tmp_path / "float.tif")
    picture(tmp_path / "cut.png", 9)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cut\.png: expected an image, got"):
        read_image(tmp_path / "cut.png")


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2\.png: expected 8x6 as its first frame has, got 4x4"):
        open_frames(tmp_path).read(0, range(2), slice(0, 4), slice(0, 4))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected folders of images .* as in any, found none"):
        open_frames(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of frames, found none"):
        open_frames(tmp_path / "nowhere")
