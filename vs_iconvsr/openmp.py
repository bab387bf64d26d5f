"""How the threads of torch's CPU operations wait for each other: it must be said before torch is imported."""

import os


def let_threads_sleep() -> None:
    """Threads of torch, if it is not imported yet, will sleep while they wait, unless the user has set OMP_WAIT_POLICY.

    By itself OpenMP lets them spin. That takes the core from whatever is to be done on it first, our own bands or an
    encoder: beside one busy process a frame then takes four times as long. Figures are in scripts/benchmark.md.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
