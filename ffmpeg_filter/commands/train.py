"""`iconvsr train …`: replaces this process with python -m training, so that it gets Ctrl-C and SIGTERM and saves."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def become(arguments: Sequence[str]) -> NoReturn:
    """Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "training", *arguments])
