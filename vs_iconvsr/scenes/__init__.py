"""Where a scene starts; `vs_iconvsr.scenes.cuts` keeps the answers for one clip."""

from vs_iconvsr.scenes.detector import (
    AFTER,
    BEFORE,
    DEFAULT_THRESHOLD,
    NEXT,
    PREV,
    cut_from_properties,
    is_cut,
    signature,
)

__all__ = ["AFTER", "BEFORE", "DEFAULT_THRESHOLD", "NEXT", "PREV", "cut_from_properties", "is_cut", "signature"]
