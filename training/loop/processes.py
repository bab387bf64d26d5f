"""Several processes under torchrun: joining them, and letting the first one go first."""

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch.distributed as dist

# The others wait for the first process while it evaluates or pretrains flow: longer than torch's default.
TIMEOUT = datetime.timedelta(hours=12)


def join_processes(device: str) -> str:
    """Under torchrun, join the other processes. Returns the device of this one: each takes its own GPU."""
    if "WORLD_SIZE" not in os.environ:
        return device
    with_nccl = device.startswith("cuda") and dist.is_nccl_available()  # Windows has none
    dist.init_process_group("nccl" if with_nccl else "gloo", timeout=TIMEOUT)
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device


def is_first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def leave_processes() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The body runs in the first process, then in the others, which find the files that it wrote."""
    first = is_first_process()
    if not first:
        dist.barrier()
    yield
    if first and dist.is_initialized():
        dist.barrier()
