"""What every network here is: a list of passes over time, and a forward that only composes their steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from vs_iconvsr.networks.padding import extended


@dataclass(frozen=True)
class Pass:
    """One walk over the frames of a sequence. Each step makes the feature of one frame.

    backward: from the last frame to the first. reads: earlier passes, by name, whose features of the same frame a step
    takes. order: how many of its own features, those of the frames visited just before, a step takes; 0 where frames do
    not depend on each other, so that there is no walk and a feature can be made when it is wanted.
    """

    name: str
    backward: bool = False
    reads: tuple[str, ...] = ()
    order: int = 1

    def visits(self, frames: range) -> range:
        """The frames in the order of the walk."""
        return frames[::-1] if self.backward else frames

    def visited_before(self, i: int, t: int) -> tuple[int, ...]:
        """The frames of a sequence of t frames whose features the step of frame i takes, the nearest first."""
        towards = 1 if self.backward else -1
        return tuple(k for k in (i + towards * (d + 1) for d in range(self.order)) if 0 <= k < t)


class VideoNetwork(nn.Module, ABC):
    """A recurrent video super-resolution network (BasicVSR, CVPR 2021, section 3).

    The engine streams long segments with the single steps; `forward` composes the same steps over a whole clip, as
    training does. Steps take frames that went through `prepare`. No step changes its arguments or keeps a trace.

    hyper_parameters: the keyword arguments that build an equal network: plain numbers, stored in weight files.
    scale: hr size over lr size.
    carried_channels: channels of the features carried along time, for memory plans.
    passes: in their order; the last one goes forward, and hr frames leave as it goes.
    reduction: size of a frame over that of its features.
    upsampled: the passes, by name, whose features `upsample` takes; the last one is among them.
    cleaning: how often `prepare` cleans frames (RealBasicVSR), one of hyper_parameters; 0 for networks that do not.
    stored_flow_values: as stored_values, of flows, which are float32 in any precision: those that a later pass takes.
    """

    hyper_parameters: dict[str, int]
    scale: int
    carried_channels: int
    reduction: int = 1
    passes: tuple[Pass, ...]
    upsampled: tuple[str, ...]
    cleaning: int = 0
    stored_flow_values: int = 2

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

        def flow(i: int, k: int) -> Tensor:
            return flow_to_next[:, i] if k > i else flow_to_prev[:, k]

        features: dict[str, dict[int, Tensor]] = {}
        hr = []
        for at in self.passes:
            done = features[at.name] = {}
            for i in at.visits(range(t)):
                done[i] = _composed_step(self, at, i, frames, features, flow, refill)
                if at is self.passes[-1]:
                    hr.append(self.upsample(frames[:, i], [features[name][i] for name in self.upsampled]))
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
    def stored_values(self) -> int:
        """How many values wait for a later pass, per lr pixel and frame, for memory plans: features."""
        return self.carried_channels * (len(self.passes) - 1)

    def neighbour_flows(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (n, t, 3, h, w) → flow of frame i to frame i+1 and of frame i+1 to frame i, each (n, t-1, 2, h, w).

        h and w of the flows are those of the features.
        """
        n, t, c, h, w = frames.shape
        if t == 1:
            none = frames.new_zeros(n, 0, 2, h, w)
            return none, none
        earlier, later = frames[:, :-1].reshape(-1, c, h, w), frames[:, 1:].reshape(-1, c, h, w)
        to_next, to_prev = self.flows(earlier, later)
        shape = (n, t - 1, *to_next.shape[1:])
        return to_next.view(shape), to_prev.view(shape)

    def padded_side(self, side: int) -> int:
        """The height or width that a frame of that side gets in `prepare`."""
        return side

    def prepare(self, lr: Tensor) -> Tensor:
        """lr (n, 3, h, w) → what the steps take: finite, mirrored at the right and bottom where the network needs it.

        NaN becomes 0, ±infinity 1 and 0: one such pixel would otherwise blacken every frame of the segment.
        """
        finite = torch.nan_to_num(lr, nan=0.0, posinf=1.0, neginf=0.0)
        return extended(finite, self.padded_side(lr.shape[2]), self.padded_side(lr.shape[3]))

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
        """frame, neighbour (n, 3, h, w) → (n, 2, h, w): where each pixel of frame lies in neighbour, (dx, dy) in px.

        In the size and the pixels of the features, where these are smaller than the frame.
        """

    def flows(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        """The flow from frame to neighbour and from neighbour to frame, for less than two calls of `flow`.

        On a CPU the bytes are those of `flow`; elsewhere they may differ by rounding.
        """
        return self.flow(frame, neighbour), self.flow(neighbour, frame)

    @abstractmethod
    def step(
        self,
        at: Pass,
        frame: Tensor,
        *,
        earlier: Sequence[Tensor],
        carried: Sequence[Tensor],
        flows: Sequence[Tensor],
        refill: Tensor | None,
    ) -> Tensor:
        """The feature (n, c, h, w) of a frame (n, 3, h, w) in one pass.

        earlier: the features of this frame from the passes that `at` reads. carried: what this pass made of the frames
        of `at.visited_before`, the nearest first; empty at its first frame. flows: from this frame to the nearest of
        these, then from each to the one after it.
        """

    @abstractmethod
    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        """frame (n, 3, h, w), its features from the passes `upsampled` → hr (n, 3, scale*h, scale*w), padded."""


def _composed_step(
    network: VideoNetwork,
    at: Pass,
    i: int,
    frames: Tensor,
    features: Mapping[str, Mapping[int, Tensor]],
    flow: Callable[[int, int], Tensor],
    refill: Mapping[int, Tensor],
) -> Tensor:
    before = at.visited_before(i, frames.shape[1])
    return network.step(
        at,
        frames[:, i],
        earlier=[features[name][i] for name in at.reads],
        carried=[features[at.name][k] for k in before],
        flows=[flow(k, after) for k, after in pairwise((i, *before))],
        refill=refill.get(i),
    )
