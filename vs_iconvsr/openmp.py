"""How the threads of torch's CPU operations wait for each other: to be set before torch is imported."""

import os


def let_threads_sleep() -> None:
    """Threads of torch, if it is not imported yet, will sleep while they wait, unless the user has set OMP_WAIT_POLICY.

    By default OpenMP lets them spin, which takes the core from other work, such as our own bands of rows or an encoder:
    beside one busy process a frame then takes four times as long. Figures are in scripts/benchmark.md.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
