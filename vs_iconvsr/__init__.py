"""IconVSR and BasicVSR video super-resolution: the networks, the engine and the VapourSynth filter."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vapoursynth-iconvsr")
except PackageNotFoundError:  # a checkout that is used without having been installed
    __version__ = "0+unknown"
