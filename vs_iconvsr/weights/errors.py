"""The one exception of this package."""


class WeightsError(Exception):
    """A weight file is missing, damaged, unsafe or of another network; the message names the cause and a remedy."""
