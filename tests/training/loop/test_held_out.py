"""Held-out gains, by which training selects weights."""

import pytest
import torch

from training.degrade.degradation import Degradation
from training.loop import held_out
from training.loop.recipe import Watch
from vs_iconvsr.networks.light import LightVSR


class Noise:
    """One sequence that bicubic cannot restore."""

    def __len__(self) -> int:
        return 1

    def name(self, i: int) -> str:
        return f"noise {i}"

    def shape(self, i: int) -> tuple[int, int, int]:
        del i
        return 3, 34, 32

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> torch.Tensor:
        del i
        everything = torch.randint(0, 256, (3, 3, 34, 32), generator=torch.Generator().manual_seed(0))
        return everything[frames.start : frames.stop, :, rows, columns].to(torch.uint8)


def test_kinds_are_weighted_by_their_shares() -> None:
    degradations = [Degradation(share=1.0), Degradation(kind="blur", share=2.0), Degradation(kind="blur", share=1.0)]
    assert held_out.weighted_mean({"bi": 4.0, "blur": 0.0}, degradations) == pytest.approx(1.0)


def test_held_out_sequences_that_are_too_small_are_named_before_the_first_step() -> None:
    held_out.check(Noise(), watch=Watch(), scale=4)
    with pytest.raises(ValueError, match="expected frames of at least 64 px, got 32x34 in noise 0; remove it"):
        held_out.check(Noise(), watch=Watch(), scale=8)


def test_a_network_that_does_nothing_gains_nothing_even_where_nothing_was_lost() -> None:
    """At scale 1, BI is the ground truth itself: doing nothing gains nothing, and a small change loses a little."""
    watch, kinds = Watch(held_out_sequences=1, held_out_frames=2), [Degradation()]
    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=1)
    assert held_out.gains(network, Noise(), kinds, watch=watch, device="cpu") == {"bi": 0.0}
    torch.nn.init.constant_(network.get_parameter("tail_last.bias"), 4 / 255)
    (loss,) = held_out.gains(network, Noise(), kinds, watch=watch, device="cpu").values()
    assert -15.0 < loss < -10.0


def test_each_sequence_has_its_own_reproducible_draw_of_the_blur() -> None:
    class Twice(Noise):
        def __len__(self) -> int:
            return 2

    network, kinds = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4), [Degradation(kind="blur")]
    torch.nn.init.constant_(network.get_parameter("tail_last.bias"), 4 / 255)
    one, two, again = (
        held_out.gains(network, Twice(), kinds, watch=Watch(held_out_sequences=count), device="cpu")
        for count in (1, 2, 2)
    )
    assert two == again
    assert one != two


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_in_evaluation_mode_only_while_it_is_measured(training: bool) -> None:
    seen = []

    class Observed(LightVSR):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            seen.append(self.training)
            return super().forward(lr)

    network = Observed(mid_channels=4, num_blocks=1, flow_channels=4).train(training)
    held_out.upscale(network, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), device="cpu")
    assert (seen, network.training) == ([False], training)


def test_comparison_images_are_bicubic_hr_and_gt_side_by_side() -> None:
    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4)
    torch.nn.init.constant_(network.get_parameter("tail_last.bias"), 1.0)  # white
    (image,) = held_out.comparison_images(network, Noise(), [Degradation()], device="cpu").values()
    assert image.shape == (3, 32, 3 * 32)
    assert image.dtype == torch.uint8
    assert int(image[:, :, 32:64].min()) > 200
    assert torch.equal(image[:, :, 64:], Noise().read(0, range(1, 2), slice(0, 32), slice(0, 32))[0])
