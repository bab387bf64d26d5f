"""`iconvsr train …`: replaces this process with the training package, so that it gets Ctrl-C and SIGTERM and saves."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import NoReturn

from vs_iconvsr import system


def become(arguments: Sequence[str]) -> NoReturn:
    """Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Installed, it lies within vs_iconvsr; in a checkout that is not installed it stands beside it.
    module = "vs_iconvsr.training" if importlib.util.find_spec("vs_iconvsr.training") else "training"
    system.become([sys.executable, "-m", module, *arguments])
