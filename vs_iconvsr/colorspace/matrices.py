"""The matrices of H.273: names, luma weights, and the usual one for a frame size."""

MATRIX_RGB = 0
UNSPECIFIED = 2

_KNOWN_MATRICES = {
    1: ("709", 0.2126, 0.0722),
    4: ("fcc", 0.30, 0.11),
    5: ("470bg", 0.299, 0.114),
    6: ("170m", 0.299, 0.114),
    7: ("240m", 0.212, 0.087),
    9: ("2020ncl", 0.2627, 0.0593),
}
"""H.273 number → zimg's name, the weights of red and of blue in luma."""

_OTHER_MATRICES = {
    0: "rgb",
    2: "unspec",
    3: "reserved",
    8: "ycgco",
    10: "2020cl",
    11: "ydzdx",
    12: "chromancl",
    13: "chromacl",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}


def matrix_named(name: str) -> int | None:
    """The H.273 number of a matrix given by zimg's name or by number: "709" or "1" → 1; "" → None.

    Raises ValueError for a matrix that is not supported.
    """
    if not name:
        return None
    supported = {zimg: number for number, (zimg, _, _) in _KNOWN_MATRICES.items()}
    others = {zimg: number for number, zimg in _OTHER_MATRICES.items()}
    number = (supported | others).get(name.lower(), int(name) if name.isdecimal() and len(name) < 3 else -1)
    if number == -1:
        raise ValueError(f"matrix: expected one of {', '.join(supported)} or their H.273 numbers, got {name}")
    luma_weights(number)
    return number


def usual_matrix(width: int, height: int) -> int:
    """The matrix of untagged video of this size: 470BG for PAL heights, 170M for other SD, 709 above."""
    if width > 1024 or height > 576:
        return 1
    return 5 if height in (288, 576) else 6


def is_supported(matrix: int) -> bool:
    """Whether `to_rgb` and `from_rgb` take this matrix for YUV."""
    return matrix in _KNOWN_MATRICES


def matrix_name(matrix: int) -> str:
    """zimg's name of a supported matrix."""
    return _KNOWN_MATRICES[matrix][0]


def luma_weights(matrix: int) -> tuple[float, float, float]:
    """The weights of red, green and blue in luma. Raises ValueError for a matrix not defined by such weights."""
    if matrix not in _KNOWN_MATRICES:
        known = ", ".join(f"{number} ({name})" for number, (name, _, _) in _KNOWN_MATRICES.items())
        raise ValueError(
            f"matrix: expected one of {known}, got {matrix} ({_OTHER_MATRICES.get(matrix, 'unknown')}); "
            "convert first, or pass the right one with matrix="
        )
    _, red, blue = _KNOWN_MATRICES[matrix]
    return red, 1 - red - blue, blue
