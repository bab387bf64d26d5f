"""`iconvsr train …`: python -m training in this process's place, so that Ctrl-C and SIGTERM reach it and it saves."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def become(arguments: Sequence[str]) -> NoReturn:
    """Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "training", *arguments])
