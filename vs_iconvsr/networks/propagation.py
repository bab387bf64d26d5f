"""What every network here is: a few steps over time, and a forward that only composes them."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class VideoNetwork(nn.Module, ABC):
    """A bidirectional recurrent video super-resolution network (BasicVSR, CVPR 2021, section 3).

    The engine streams long segments with the single steps; `forward` composes the same steps over a whole clip, as
    training does. Steps take frames that went through `prepare`. No step changes its arguments or keeps a trace.

    hyper_parameters: the keyword arguments that build an equal network: plain numbers, stored in weight files.
    scale: hr size over lr size.
    carried_channels: channels of the features carried along time, for memory plans.
    coupled: whether `forward_step` reads the backward features (coupled propagation, IconVSR section 3.3); where it
    does not, backward features of frames that are only read as context are never needed.
    """

    hyper_parameters: dict[str, int]
    scale: int
    carried_channels: int
    coupled: bool

    def forward(self, lr: Tensor) -> Tensor:
        """lr (n, t, 3, h, w), RGB in [0, 1] → hr (n, t, 3, scale*h, scale*w), unclamped; any t, h, w >= 1.

        NaN counts as 0 and ±infinity as 1 and 0 (see `prepare`). Raises ValueError for any other shape.
        """
        if lr.ndim != 5 or lr.shape[2] != 3 or 0 in lr.shape:
            raise ValueError(f"lr: expected (n, t, 3, h, w) with every size at least 1, got {tuple(lr.shape)}")
        n, t, _, h, w = lr.shape
        frames = self.prepare(lr.reshape(n * t, 3, h, w))
        frames = frames.view(n, t, 3, *frames.shape[-2:])
        flow_to_next, flow_to_prev = self.neighbour_flows(frames)
        refill = {i: self.refill(frames[:, list(self.window(i, t))]) for i in self.keyframes(t)}

        backward: list[Tensor] = []
        carried: Tensor | None = None
        for i in reversed(range(t)):
            flow = flow_to_next[:, i] if i + 1 < t else None
            carried = self.backward_step(frames[:, i], carried, flow, refill.get(i))
            backward.insert(0, carried)

        hr = []
        carried = None
        for i in range(t):
            flow = flow_to_prev[:, i - 1] if i > 0 else None
            carried = self.forward_step(frames[:, i], backward[i], carried, flow, refill.get(i))
            hr.append(self.upsample(frames[:, i], backward[i], carried))
        return torch.stack(hr, dim=1)[..., : self.scale * h, : self.scale * w]

    @property
    def working_values(self) -> int:
        """About how many values one step holds at its peak per lr pixel, for memory plans: hr layers and flow."""
        return 3 * self.carried_channels * self.scale**2 + 300

    @property
    def working_values_on_gpu(self) -> int:
        """The same on a GPU, where a convolution may hold what goes in and what comes out in two memory layouts."""
        return self.working_values

    @property
    def largest_values(self) -> int:
        """Values of the largest tensor of a step, per lr pixel: the kernels of GPUs count with 31 bits."""
        return self.carried_channels * self.scale**2

    @property
    def refill_values(self) -> float:
        """Values of refill features per lr pixel and frame, for memory plans."""
        return 0.0

    def neighbour_flows(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (n, t, 3, h, w) → flow of frame i to frame i+1 and of frame i+1 to frame i, each (n, t-1, 2, h, w)."""
        n, t, c, h, w = frames.shape
        if t == 1:
            none = frames.new_zeros(n, 0, 2, h, w)
            return none, none
        earlier, later = frames[:, :-1].reshape(-1, c, h, w), frames[:, 1:].reshape(-1, c, h, w)
        to_next = self.flow(earlier, later).view(n, t - 1, 2, h, w)
        to_prev = self.flow(later, earlier).view(n, t - 1, 2, h, w)
        return to_next, to_prev

    def prepare(self, lr: Tensor) -> Tensor:
        """lr (n, 3, h, w) → what the steps take: finite, padded at the right and bottom where the network needs it.

        NaN becomes 0, ±infinity 1 and 0: one such pixel would otherwise blacken every frame of the segment.
        """
        return torch.nan_to_num(lr, nan=0.0, posinf=1.0, neginf=0.0)

    def keyframes(self, t: int) -> tuple[int, ...]:
        """Frames of a sequence of t frames whose features are extracted afresh; counted from the first frame."""
        del t
        return ()

    def window(self, keyframe: int, t: int) -> tuple[int, ...]:
        """The frames, keyframe in the middle, that `refill` takes for one keyframe of a sequence of t frames."""
        raise NotImplementedError(f"{type(self).__name__} extracts no refill features")

    def refill(self, window: Tensor) -> Tensor:
        """window (n, k, 3, h, w) → the refill features (n, c, h, w) of its middle frame (section 3.3)."""
        raise NotImplementedError(f"{type(self).__name__} extracts no refill features")

    @abstractmethod
    def flow(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        """frame, neighbour (n, 3, h, w) → (n, 2, h, w): where each pixel of frame lies in neighbour, (dx, dy) in px."""

    @abstractmethod
    def backward_step(
        self, frame: Tensor, carried: Tensor | None, flow_to_next: Tensor | None, refill: Tensor | None
    ) -> Tensor:
        """The backward feature (n, c, h, w) of a frame from that of the next one; None, None at the last frame."""

    @abstractmethod
    def forward_step(
        self,
        frame: Tensor,
        backward: Tensor,
        carried: Tensor | None,
        flow_to_prev: Tensor | None,
        refill: Tensor | None,
    ) -> Tensor:
        """The forward feature (n, c, h, w) of a frame from that of the previous one; None, None at the first frame."""

    @abstractmethod
    def upsample(self, frame: Tensor, backward: Tensor, carried: Tensor) -> Tensor:
        """frame (n, 3, h, w) and its two features → hr (n, 3, scale*h, scale*w), padding of `prepare` included."""
