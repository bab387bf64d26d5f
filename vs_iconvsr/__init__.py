"""IconVSR and BasicVSR video super-resolution: the networks, the engine and the VapourSynth filter."""

from importlib.metadata import version

__version__ = version("vs-iconvsr")
