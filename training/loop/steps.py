"""A network's steps for training: compiled, or computed again in the backward pass instead of kept."""

import copy
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from vs_iconvsr.networks.propagation import VideoNetwork

STEPS = ("flow", "refill", "backward_step", "forward_step", "upsample")


def stepwise[Network: VideoNetwork](network: Network, *, recompute: bool, compiled: bool) -> Network:
    """The same network over the same weights, whose `forward` takes its steps in another way.

    recompute: of each step only its results are kept for the backward pass. Gradients are the same.
    compiled: each step through torch.compile: one small program, used at every frame. Results differ by rounding.
    """
    if not recompute and not compiled:
        return network
    same = copy.copy(network)  # shares modules and weights; the methods below are its own
    for name in STEPS:
        step = getattr(network, name)
        if compiled:
            step = torch.compile(step, dynamic=False)  # patches have one size; torch 2.15 fails on dynamic ones
        if recompute:
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
        setattr(same, name, step)
    return same
