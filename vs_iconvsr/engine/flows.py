"""The optical flows of one tile: both ways between two frames at once, and held for whoever takes them later."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vs_iconvsr.engine.features import FeatureKind, FeatureStore, MemoryStrategy
from vs_iconvsr.engine.passes import Span, flows_are_shared, flows_wanted
from vs_iconvsr.networks.propagation import VideoNetwork


class Flows:
    """The flows between neighbouring frames of a segment of t frames, each computed once.

    They depend on the segment alone, not on the memory strategy: where steps in both directions will want a pair, both
    its flows are computed when the first one is asked for. They are small beside features, so they stay on the device.
    """

    def __init__(self, network: VideoNetwork, spans: Mapping[str, Span], t: int, strategy: MemoryStrategy) -> None:
        self._network = network
        wanted = {towards: flows_wanted(network.passes, spans, t, towards=towards) for towards in (1, -1)}
        self._pairs = range(max(wanted[1].start, wanted[-1].start - 1), min(wanted[1].stop, wanted[-1].stop - 1))
        first = next((1 if at.backward else -1 for at in network.passes if at.order > 0), 1)
        again = flows_are_shared(network.passes) or strategy is MemoryStrategy.RECOMPUTE
        self._stores = {
            towards: FeatureStore(MemoryStrategy.KEEP, t, needed=len(frames), order=1, stride=1)
            for towards, frames in wanted.items()
            if again or towards != first  # those of the first walk are taken at once, and by nobody else
        }

    def reserve(self, feature: FeatureKind) -> None:
        """Takes the memory for all flows that will be held, for features of that kind."""
        n, _, h, w = feature.shape
        kind = FeatureKind((n, 2, h, w), torch.promote_types(feature.dtype, torch.float32), feature.device)
        for store in self._stores.values():
            store.reserve(kind)

    def between(self, frames: Sequence[Tensor], i: int, k: int) -> Tensor:
        """From frame i to its neighbour k."""
        store = self._stores.get(k - i)
        held = None if store is None else store.get(i, frames[i].device)
        if held is not None:
            return held
        earlier = min(i, k)
        if earlier not in self._pairs:
            return self._held(i, k, self._network.flow(frames[i], frames[k]))
        to_next, to_prev = self._network.flows(frames[earlier], frames[earlier + 1])
        self._held(earlier, earlier + 1, to_next)
        self._held(earlier + 1, earlier, to_prev)
        return to_next if k > i else to_prev

    def _held(self, i: int, k: int, flow: Tensor) -> Tensor:
        if k - i in self._stores:
            self._stores[k - i].put(i, flow, needed=True)
        return flow
