"""`python -m training COMMAND …`: see `training.cli`."""

import sys

from vs_iconvsr.extras import with_extra_named

if __name__ == "__main__":
    try:
        from .cli import main
    except ImportError as error:
        sys.exit(f"training: {with_extra_named(error)}")
    sys.exit(main())
