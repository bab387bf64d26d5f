import torch

from vs_iconvsr.networks.padding import extended, mirrored


def test_a_mirror_goes_back_and_forth() -> None:
    assert [mirrored(i, 3) for i in range(-3, 7)] == [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert {mirrored(i, 1) for i in range(-3, 4)} == {0}


def test_frames_are_mirrored_at_the_right_and_the_bottom() -> None:
    frames = torch.rand(2, 3, 5, 6)
    assert torch.equal(extended(frames, 8, 9), torch.nn.functional.pad(frames, (0, 3, 0, 3), mode="reflect"))


def test_sides_too_short_for_one_mirroring_are_mirrored_back_and_forth() -> None:
    frames = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert extended(frames, 2, 5)[0, 0].tolist() == [[1.0, 2.0, 1.0, 2.0, 1.0]] * 2


def test_frames_that_are_large_enough_stay_as_they_are() -> None:
    frames = torch.rand(1, 3, 4, 8)
    assert extended(frames, 4, 8) is frames
