"""The guarantees of the frontends, on this device."""

import random
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import torch
from benchmarking.cases import PROPERTIES, YUV420P8
from benchmarking.driving import fetch
from torch import Tensor

from gpu_checking.machine import Machine, equal, moving_clip, session_for, small_network
from gpu_checking.results import Finding


def check_any_order(machine: Machine) -> Finding:
    """The same bytes in any order, on any thread, with a cold and a warm store."""
    network, clip = small_network(machine), moving_clip(machine, 9 if machine.quick else 24)
    count = len(clip)
    shuffled = random.Random(0).sample(range(count), count)
    with session_for(machine, network, clip) as session:
        expected = [fetch(session, clip, n) for n in range(count)]
    with session_for(machine, network, clip) as session:
        for n in [*reversed(range(count)), *shuffled]:
            if not equal(fetch(session, clip, n), expected[n]):
                return Finding(False, f"frame {n} differs in another order")
    for n in (count - 1, count // 2):
        with session_for(machine, network, clip) as session:
            if not equal(fetch(session, clip, n), expected[n]):
                return Finding(False, f"frame {n} alone differs")
    with session_for(machine, network, clip, in_flight=4) as session, ThreadPoolExecutor(4) as pool:
        for n, hr in zip(shuffled, pool.map(lambda n: fetch(session, clip, n), shuffled), strict=True):
            if not equal(hr, expected[n]):
                return Finding(False, f"frame {n} differs with four threads")
    return Finding(True, f"{count} frames: backwards, shuffled, alone, by four threads: the same bytes")


def check_both_frontends(machine: Machine) -> Finding:
    """The filter hands VapourSynth the frames that the command gets; planes go in and out as memory of VapourSynth."""
    from vs_iconvsr import plugin
    from vs_iconvsr.plugin import arguments as plugin_arguments

    network, clip = small_network(machine), moving_clip(machine, 4 if machine.quick else 10)
    with session_for(machine, network, clip, target=YUV420P8) as session:
        expected = [fetch(session, clip, n) for n in range(len(clip))]
    height, width = clip[0][0].shape
    arguments = {"device": [str(machine.device)], "segment": [4], "context": [2]}
    with mock.patch.object(plugin_arguments.weights, "load", return_value=network):
        made = plugin.call("Upscale", (YUV420P8.id, width, height, len(clip)), arguments, 4, lambda *_: None)
    try:
        for n in range(len(clip)):
            missing = made.start(n)
            while missing:
                for k in missing:
                    planes = [_as_memory(plane) for plane in clip[k]]
                    made.take(k, planes, {name: [value] for name, value in PROPERTIES.items()}, None)
                missing = made.more(n)
            hr, _, properties = made.finish(n)
            frame = [_as_memory(torch.zeros_like(plane)) for plane in hr.planes]
            made.write(hr, frame)
            for (memory, w, h, _), plane in zip(frame, expected[n].planes, strict=True):
                if bytes(memory) != plane.numpy().tobytes() or (h, w) != tuple(plane.shape):
                    return Finding(False, f"frame {n} differs between the frontends")
            if properties != expected[n].properties:
                return Finding(False, f"properties of frame {n} differ between the frontends")
    finally:
        made.close()
    return Finding(True, f"{len(clip)} frames: the filter's planes and properties are the session's")


def _as_memory(plane: Tensor) -> tuple[memoryview, int, int, int]:
    samples = plane.numpy()
    height, width = samples.shape
    return memoryview(samples).cast("B"), width, height, width * samples.itemsize
