"""The VapourSynth frontend.

native/shim.c calls `call` for each function of core.iconvsr, then the methods of the object that it returns; it turns
an exception into vs.Error("Upscale: …").
"""

from vs_iconvsr.plugin.functions import call

__all__ = ["call"]
