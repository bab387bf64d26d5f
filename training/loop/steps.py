"""Other ways to run a network's steps in training: compiled, or recomputed in the backward pass."""

import copy
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from vs_iconvsr.networks.propagation import VideoNetwork

STEPS = ("flows", "refill", "step", "upsample")


def wrap_steps[Network: VideoNetwork](network: Network, *, recompute: bool, compiled: bool) -> Network:
    """A network over the same modules and weights whose `forward` runs its steps in another way.

    recompute: only the results of each step are stored for the backward pass. The gradients are identical.
    compiled: each step runs through torch.compile: one small program, reused at every frame. Results differ by
    rounding.
    """
    if not recompute and not compiled:
        return network
    wrapped = copy.copy(network)  # shares modules and weights; only the methods set below are its own
    for name in STEPS:
        step = getattr(network, name)
        if compiled:
            step = torch.compile(step, dynamic=False)  # patches have one size; torch 2.15 fails on dynamic ones
        if recompute:
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
        setattr(wrapped, name, step)
    return wrapped
