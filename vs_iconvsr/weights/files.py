"""Weight files on disk: what each holds, read without executing, trusting or loading it."""

import io
import json
import math
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from vs_iconvsr import system
from vs_iconvsr.atomic import open_atomically
from vs_iconvsr.weights import pickles
from vs_iconvsr.weights.errors import WeightsError

Shape = tuple[int, ...]

ZIP_PICKLE_LIMIT_BYTES = 64 * 2**20  # MMEngine's logs of a long training are in it
HEADER_LIMIT_BYTES = 8 * 2**20  # of a .safetensors file; a full-size IconVSR's has 0.05 MB
LFS_POINTER = b"version https://git-lfs.github.com/"
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.save before 1.6, and MMagic's publish_model.py
SAFETENSORS_TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

STORAGE_TYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.FloatStorage": torch.float32,
    "torch.IntStorage": torch.int32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}

# What zipfile raises for damaged archives, found by changing bytes.
ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error)


@dataclass(frozen=True)
class WeightFile:
    """An inspected file. tables: for each dictionary of tensors in it ("" is the top level), the shape of each key."""

    path: Path
    container: str
    tables: Mapping[str, Mapping[str, Shape]]
    metadata: Mapping[str, str]

    def tensors(self, table: str) -> dict[str, Tensor]:
        """All tensors of one table, in the file's own types, possibly memory-mapped: copy what you keep."""
        if self.container == "safetensors":
            # safetensors 0.5 puts tensors on the default device, whatever it is given.
            with open_safetensors(self.path) as file, torch.device("cpu"):
                return {key: file.get_tensor(key) for key in self.tables[table]}
        if self.container == "PyTorch":
            return zip_tensors(self.path, table, self.tables[table])
        try:
            with unicode_path(self.path) as path:
                content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch documents no exception types; whatever it raises is about this file
            raise refusal(
                self.path, f"PyTorch cannot read it: {str(error).splitlines()[0] if str(error) else error!r}"
            ) from error
        content = content[table] if table else content
        return {key: content[key].detach() for key in self.tables[table]}


@contextmanager
def unicode_path(path: Path) -> Iterator[Path]:
    """A path of the same file that is text: on Linux a name may be any bytes, which torch and safetensors refuse."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield system.unicode_path_of(file)
    else:
        yield path


def inspect(path: Path) -> WeightFile:
    """What the file holds. Raises WeightsError naming the cause; takes a few MB of memory, whatever the file claims."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise refusal(path, "expected a weight file, got a directory or a device")
        with path.open("rb") as file:
            start = file.read(pickles.LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # the last for a name with a zero in it
        raise refusal(path, "expected a weight file, got a path that does not exist") from error
    except OSError as error:
        raise refusal(path, f"cannot be read: {error.strerror}") from error
    try:
        return inspect_by_content(path, start)
    except pickles.DamagedError as error:
        raise refusal(path, f"damaged or cut off ({error}); download it again") from error
    except WeightsError as error:
        if str(error).startswith(str(path)):
            raise
        raise refusal(path, str(error)) from error


def inspect_by_content(path: Path, start: bytes) -> WeightFile:
    if not start:
        raise refusal(path, "expected a weight file, got one of 0 bytes; download it again")
    if start.startswith(LFS_POINTER):
        raise refusal(
            path,
            "expected a weight file, got a git-lfs pointer to one: the repository was cloned without git-lfs; "
            "install git-lfs and run: git lfs pull, or download the file itself",
        )
    if start.startswith(b"PK\x03\x04"):
        return inspect_zip(path)
    if start.startswith(LEGACY_MAGIC):
        return inspect_legacy(path, start)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_LIMIT_BYTES:
        return inspect_safetensors(path, start)  # first: the length of its header may begin as a pickle does
    if start[:1] == b"\x80" or path.suffix == ".pkl":
        pickles.read(io.BytesIO(start))  # names what it would run, if anything
        raise refusal(path, "expected what torch.save writes, got a bare pickle")
    if not start.strip(b"\0"):
        raise refusal(path, "expected weights, got zeros only: the download or the disk failed; download it again")
    if start.lstrip()[:1] == b"<":
        raise refusal(
            path,
            "expected a weight file, got a web page saved under this name (a login or error page?); download it again",
        )
    if start[8:9] == b"{":
        return inspect_safetensors(path, start)
    raise refusal(path, f"expected .safetensors or what torch.save writes, got a file that begins with {start[:8]!r}")


# --- PyTorch, two formats ---


def inspect_zip(path: Path) -> WeightFile:
    try:
        with zipfile.ZipFile(path) as archive:
            content, _ = zip_content(path, archive)
    except pickles.DamagedError:
        raise
    except ZIP_ERRORS as error:
        raise damaged_archive(path, error) from error
    return WeightFile(path, "PyTorch", tables_of(path, content), {})


def zip_content(path: Path, archive: zipfile.ZipFile) -> tuple[Any, str]:
    """What the archive's pickle describes, checked against the data beside it, and the folder of everything in it."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    check_entries(path, entries, path.stat().st_size)
    [name] = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = name.removesuffix("data.pkl")
    if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
        raise refusal(path, "expected little-endian numbers, got big-endian ones; save it again on another machine")
    content = pickles.read(io.BytesIO(archive.read(name)), step_over=True)
    for storage in storages_in(content):
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.file_size < storage.size_bytes:
            got = "none" if entry is None else f"{entry.file_size}"
            raise refusal(path, f"damaged: tensor data {storage.key!r} expected {storage.size_bytes} bytes, got {got}")
    return content, root


def zip_tensors(path: Path, table: str, keys: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of one table, read by our own code: torch.load would refuse, or build, what is beside them."""
    storages: dict[pickles.Storage, Tensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            content, root = zip_content(path, archive)
            found = {key: (content[table] if table else content)[key] for key in keys}
            for stored in found.values():
                if stored.storage not in storages:
                    storages[stored.storage] = read_storage(archive, root, stored.storage)
    except ZIP_ERRORS as error:
        raise damaged_archive(path, error) from error
    return {
        key: storages[stored.storage].as_strided(stored.shape, stored.strides, stored.offset)
        for key, stored in found.items()
    }


def read_storage(archive: zipfile.ZipFile, root: str, storage: pickles.Storage) -> Tensor:
    kind = STORAGE_TYPES[storage.kind]
    if not storage.num_items:
        return torch.empty(0, dtype=kind)
    with archive.open(f"{root}data/{storage.key}") as file:
        content = bytearray(file.read())
    return torch.frombuffer(content, dtype=kind, count=storage.num_items)


def damaged_archive(path: Path, error: Exception) -> WeightsError:
    return refusal(path, f"cut off or damaged ({error}); download it again")


def check_entries(path: Path, entries: Mapping[str, zipfile.ZipInfo], size_bytes: int) -> None:
    if any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in entries):
        raise refusal(path, "expected weights only, got a TorchScript program")
    pickled = [entry for name, entry in entries.items() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise refusal(path, "expected what torch.save writes, got another kind of zip archive")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise refusal(
            path,
            "expected uncompressed entries, as torch.save writes, got compressed ones; save it again with torch.save",
        )
    if sum(entry.file_size for entry in entries.values()) > size_bytes:
        raise refusal(path, "damaged: its parts are larger than the file")
    if pickled[0].file_size > ZIP_PICKLE_LIMIT_BYTES:
        raise refusal(path, f"expected a pickle of at most {ZIP_PICKLE_LIMIT_BYTES} bytes, got {pickled[0].file_size}")


def inspect_legacy(path: Path, start: bytes) -> WeightFile:
    stream = io.BytesIO(start)
    pickles.read(stream)  # the magic number
    protocol = pickles.read(stream)
    if protocol != 1001:
        raise refusal(path, f"expected PyTorch's file version 1001, got {protocol!r}")
    pickles.read(stream)  # the writer's byte order and integer sizes
    content = pickles.read(stream)
    keys = pickles.read(stream)
    storages = {storage.key: storage for storage in sorted(storages_in(content), key=lambda s: s.size_bytes)}
    if not isinstance(keys, list) or set(storages) != set(keys):
        raise refusal(path, "damaged: its list of tensor data does not match its tensors")
    needed = stream.tell() + sum(8 + storage.size_bytes for storage in storages.values())
    if path.stat().st_size < needed:
        raise refusal(path, f"cut off: expected {needed} bytes, got {path.stat().st_size}; download it again")
    return WeightFile(path, "PyTorch (before 1.6)", tables_of(path, content), {})


def storages_in(content: Any) -> set[pickles.Storage]:
    """Every storage that loading the content would allocate."""
    found: set[pickles.Storage] = set()
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, pickles.StoredTensor):
            found.add(value.storage)
        elif isinstance(value, pickles.Storage):
            found.add(value)
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def tables_of(path: Path, content: Any) -> dict[str, dict[str, Shape]]:
    if not isinstance(content, dict):
        raise refusal(path, f"expected a dictionary of tensors, got {type(content).__name__}")
    dictionaries = {"": content, **{str(key): value for key, value in content.items() if isinstance(value, dict)}}
    tables = {
        name: {str(key): value.shape for key, value in dictionary.items() if isinstance(value, pickles.StoredTensor)}
        for name, dictionary in dictionaries.items()
    }
    return {name: table for name, table in tables.items() if table}


# --- safetensors ---


def open_safetensors(path: Path) -> Any:
    try:
        with unicode_path(path) as readable:
            return safetensors.safe_open(readable, framework="pt", device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise refusal(path, f"damaged ({error}); download it again") from error


def inspect_safetensors(path: Path, start: bytes) -> WeightFile:
    [header_bytes] = struct.unpack("<Q", start[:8])
    size_bytes = path.stat().st_size
    if header_bytes > HEADER_LIMIT_BYTES - 8:
        raise refusal(
            path, f"expected a header of at most {HEADER_LIMIT_BYTES} bytes, got {header_bytes}: damaged or malicious"
        )
    if 8 + header_bytes > size_bytes:
        raise refusal(
            path,
            f"header cut off: expected at least {8 + header_bytes} bytes, got {size_bytes}; download it again",
        )
    try:
        header = json.loads(start[8 : 8 + header_bytes])
        metadata = header.pop("__metadata__", {})
        table = {str(key): tuple(int(side) for side in entry["shape"]) for key, entry in header.items()}
        stated = sum(math.prod(entry["shape"]) * SAFETENSORS_TYPES[entry["dtype"]] for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise refusal(path, f"damaged header ({error!r}); download it again") from error
    if 8 + header_bytes + stated != size_bytes:
        raise refusal(
            path, f"cut off or damaged: expected {8 + header_bytes + stated} bytes, got {size_bytes}; download it again"
        )
    open_safetensors(path)  # its own checks: offsets, overlaps
    return WeightFile(path, "safetensors", {"": table}, metadata)


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, half: bool = False
) -> None:
    """Writes the file atomically; the same content gives the same bytes (the safetensors library shuffles)."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    kind, stored, code = ("F16", torch.float16, "<f2") if half else ("F32", torch.float32, "<f4")
    blocks, offset = [], 0
    for key, tensor in sorted(tensors.items()):
        block = tensor.detach().to("cpu", stored).contiguous().numpy().astype(code, copy=False).tobytes()
        header[key] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(block)]}
        blocks.append(block)
        offset += len(block)
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)  # aligns the data
    with open_atomically(path) as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.writelines(blocks)


def refusal(path: Path, cause: str) -> WeightsError:
    return WeightsError(f"{path}: {cause}")
