"""The models that have a name, bundled or published by the authors, and where their files are."""

import difflib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vs_iconvsr import system
from vs_iconvsr.weights.errors import WeightsError

DEFAULT_MODEL = "light"
BUNDLED = Path(__file__).parent / "bundled"
BASE_URL = "https://download.openmmlab.com/mmediting/restorers/"
OFFICIAL_TERMS = (
    "The authors' code is Apache-2.0. They state no terms for these files; all but edvrm_* hold weights fine-tuned "
    "from SPyNet's, which are free for non-commercial and research use only."
)
SUFFIXES = (".safetensors", ".pth", ".pt", ".pytorch", ".ckpt", ".bin")


@dataclass(frozen=True)
class Official:
    """A file published by the authors. address: relative to BASE_URL; its last 8 hex digits start the sha256.

    The size is estimated from the number of parameters: the publisher does not state it.
    """

    name: str
    address: str
    expected_mb: int
    description: str

    @property
    def file_name(self) -> str:
        return self.address.rsplit("/", 1)[-1]

    @property
    def sha256_prefix(self) -> str:
        return self.file_name.removesuffix(".pth").rsplit("-", 1)[-1]


OFFICIAL = {
    official.name: official
    for official in (
        Official(
            "iconvsr_reds4",
            "iconvsr/iconvsr_reds4_20210413-9e09d621.pth",
            35,
            "IconVSR trained on REDS, bicubic x4: 31.69 dB on REDS4",
        ),
        Official(
            "iconvsr_vimeo90k_bi",
            "iconvsr/iconvsr_vimeo90k_bi_20210413-7c7418dc.pth",
            35,
            "IconVSR trained on Vimeo-90K, bicubic x4: 27.42 dB on Vid4",
        ),
        Official(
            "iconvsr_vimeo90k_bd",
            "iconvsr/iconvsr_vimeo90k_bd_20210414-5f38cb34.pth",
            35,
            "IconVSR trained on Vimeo-90K, blurred x4: 28.25 dB on Vid4, 40.06 dB on UDM10",
        ),
        Official(
            "basicvsr_reds4",
            "basicvsr/basicvsr_reds4_20120409-0e599677.pth",
            25,
            "BasicVSR trained on REDS, bicubic x4: 31.42 dB on REDS4",
        ),
        Official(
            "basicvsr_vimeo90k_bi",
            "basicvsr/basicvsr_vimeo90k_bi_20210409-d2d8f760.pth",
            25,
            "BasicVSR trained on Vimeo-90K, bicubic x4: 27.28 dB on Vid4",
        ),
        Official(
            "basicvsr_vimeo90k_bd",
            "basicvsr/basicvsr_vimeo90k_bd_20210409-0154dd64.pth",
            25,
            "BasicVSR trained on Vimeo-90K, blurred x4: 27.98 dB on Vid4, 40.00 dB on UDM10",
        ),
        Official(
            "basicvsrpp_reds4",
            "basicvsr_plusplus/basicvsr_plusplus_c64n7_8x1_600k_reds4_20210217-db622b2f.pth",
            29,
            "BasicVSR++ trained on REDS, bicubic x4: 32.39 dB on REDS4",
        ),
        Official(
            "basicvsrpp_vimeo90k_bi",
            "basicvsr_plusplus/basicvsr_plusplus_c64n7_8x1_300k_vimeo90k_bi_20210305-4ef437e2.pth",
            29,
            "BasicVSR++ trained on Vimeo-90K, bicubic x4: 27.79 dB on Vid4",
        ),
        Official(
            "basicvsrpp_vimeo90k_bd",
            "basicvsr_plusplus/basicvsr_plusplus_c64n7_8x1_300k_vimeo90k_bd_20210305-ab315ab1.pth",
            29,
            "BasicVSR++ trained on Vimeo-90K, blurred x4: 29.04 dB on Vid4, 40.72 dB on UDM10",
        ),
        Official(
            "basicvsrpp_ntire_vsr",
            "basicvsr_plusplus/basicvsr_plusplus_c128n25_ntire_vsr_20210311-1ff35292.pth",
            175,
            "BasicVSR++, the large network of NTIRE 2021, bicubic x4: no figure published",
        ),
        Official(
            "basicvsrpp_ntire_decompress1",
            "basicvsr_plusplus/basicvsr_plusplus_c128n25_ntire_decompress_track1_20210223-7b2eba02.pth",
            176,
            "BasicVSR++ that removes compression, same size (NTIRE 2021, track 1): no figure published",
        ),
        Official(
            "basicvsrpp_ntire_decompress2",
            "basicvsr_plusplus/basicvsr_plusplus_c128n25_ntire_decompress_track2_20210314-eeae05e6.pth",
            176,
            "BasicVSR++ that removes compression, same size (NTIRE 2021, track 2): no figure published",
        ),
        Official(
            "basicvsrpp_ntire_decompress3",
            "basicvsr_plusplus/basicvsr_plusplus_c128n25_ntire_decompress_track3_20210304-6daf4a40.pth",
            176,
            "BasicVSR++ that removes compression, same size (NTIRE 2021, track 3): no figure published",
        ),
        Official(
            "realbasicvsr",
            "real_basicvsr/realbasicvsr_c64b20_1x30x8_lr5e-5_150k_reds_20211104-52f77c2c.pth",
            50,
            "RealBasicVSR for real footage, cleans, then x4: NIQE 3.77, BRISQUE 29.03",
        ),
        Official(
            "realbasicvsr_wogan",
            "real_basicvsr/realbasicvsr_wogan_c64b20_2x30x8_lr1e-4_300k_reds_20211027-0e2ff207.pth",
            50,
            "RealBasicVSR before adversarial training, smoother: no figure published",
        ),
        Official(
            "spynet",
            "basicvsr/spynet_20210409-c6c1bd09.pth",
            6,
            "the flow network alone, for training",
        ),
        Official(
            "edvrm_reds",
            "iconvsr/edvrm_reds_20210413-3867262f.pth",
            9,
            "the refill feature extractor for 5 frames alone, for training",
        ),
        Official(
            "edvrm_vimeo90k",
            "iconvsr/edvrm_vimeo90k_20210413-e40e99a8.pth",
            9,
            "the refill feature extractor for 7 frames alone, for training",
        ),
    )
}


@dataclass(frozen=True)
class ModelInfo:
    """A model that has a name. path: None for an official file that was not downloaded. sha256: may be abbreviated."""

    name: str
    origin: str  # "bundled" or "official"
    description: str
    path: Path | None
    sha256: str
    url: str | None = None


def available() -> list[ModelInfo]:
    """All names that `load` knows, the default first. Hashes the bundled files, but reads no official ones.

    Without a directory for downloads none of those is installed.
    """
    files = sorted(bundled_files().items(), key=lambda item: (item[0] != DEFAULT_MODEL, item[0]))
    own = [ModelInfo(name, "bundled", "included in vs_iconvsr", path, sha256_of(path)) for name, path in files]
    return own + [
        ModelInfo(
            official.name,
            "official",
            official.description,
            downloaded(official),
            official.sha256_prefix,
            BASE_URL + official.address,
        )
        for official in OFFICIAL.values()
    ]


def downloaded(official: Official) -> Path | None:
    """Its file, None where it is not on this machine."""
    try:
        path = models_directory() / official.file_name
        return path if path.is_file() else None
    except (WeightsError, OSError):  # no home directory, or one that is not ours to read
        return None


def bundled_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(BUNDLED.glob("*.safetensors"))}


def models_directory() -> Path:
    """Where downloads are stored: $ICONVSR_MODELS, else vs_iconvsr/models below the user's cache directory.

    Raises WeightsError if neither is known: a service or a container may have no home directory.
    """
    if own := os.environ.get("ICONVSR_MODELS"):
        return expanded(own)
    return at_home("the user's cache directory", system.cache_folder) / "vs_iconvsr" / "models"


def expanded(path: str) -> Path:
    """The path with ~ expanded. Raises WeightsError if there is no such home directory."""
    return at_home(path, Path(path).expanduser)


def at_home(name: str, find: Callable[[], Path]) -> Path:
    """What `find` returns, or WeightsError where it has found no home directory."""
    try:
        return find()
    except RuntimeError as error:
        raise WeightsError(
            f"model: expected a home directory for {name}, got none; set the environment variable ICONVSR_MODELS to "
            "a directory for models, or pass the full path of a weight file"
        ) from error


def locate(model: str | os.PathLike[str]) -> Path:
    """The file of a bundled or official name, or of a path; a name takes precedence over a file of that name.

    The hash of an official file is checked. Raises WeightsError for a name that is unknown or not downloaded.
    """
    if not isinstance(model, str):
        return Path(model)
    if path := bundled_files().get(model):
        return path
    if official := OFFICIAL.get(model):
        return locate_official(official)
    if is_path(model):
        return expanded(model)
    names = [*bundled_files(), *OFFICIAL]
    close = difflib.get_close_matches(model, names, 1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise WeightsError(
        f"model: expected a name or the path of a weight file, got {model!r:.80}. {hint}Names: {', '.join(names)}"
    )


def is_path(model: str) -> bool:
    separators = {os.sep, os.altsep or os.sep}
    return model.endswith(SUFFIXES) or any(separator in model for separator in separators) or os.path.isfile(model)  # noqa: PTH113 - a Path raises for names that are too long


def locate_official(official: Official) -> Path:
    path = downloaded(official)
    if path is None:
        raise WeightsError(
            f"model: expected one that is installed, got {official.name!r}; download it: iconvsr models download "
            f"{official.name} (without a network: copy {BASE_URL}{official.address}, about {official.expected_mb} MB, "
            f"sha256 {official.sha256_prefix}…, to {models_directory()} under the same file name)"
        )
    check_hash(official, path)
    return path


def check_hash(official: Official, path: Path) -> None:
    """Raises WeightsError if the file is not the published one."""
    sha256 = sha256_of(path)
    if not sha256.startswith(official.sha256_prefix):
        raise WeightsError(
            f"{path}: sha256: expected {official.sha256_prefix}…, got {sha256[:8]}…: not the published "
            f"{official.name}; download it again: iconvsr models download {official.name}"
        )


def sha256_of(path: Path) -> str:
    """Raises WeightsError if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
