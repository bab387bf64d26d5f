"""Which extra of the package brings a module that is not installed. The filter itself needs none of them."""

DISTRIBUTION = "vapoursynth-iconvsr"

_EXTRA_WITH = {
    "av": "command",
    "ffmpeg": "command",
    "imageio_ffmpeg": "command",
    "rich": "command",
    "PIL": "train",
    "skimage": "train",
    "tensorboard": "train",
    "yaml": "train",
    "ray": "cluster",
}


class MissingExtraError(ImportError):
    """A module that comes with an extra is not installed; the message has the line to type."""


def with_extra_named(error: ImportError) -> ImportError:
    """A MissingExtraError for modules that an extra brings; any other error unchanged."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_WITH.get(module)
    if extra is None or not isinstance(error, ModuleNotFoundError):
        return error
    return MissingExtraError(
        # Double quotes: cmd knows no others.
        f'{module}: expected this Python package, found none; pip install "{DISTRIBUTION}[{extra}]"',
        name=error.name,
    )
