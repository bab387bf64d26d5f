"""make_ucrtbase.py WINE_DLLS FOLDER: wine_ucrt.dll, Wine's ucrtbase under another name, and ucrtbase.def for ours.

Ours forwards every function to that one, but for the complex functions that Wine lacks (complex_functions.c).
"""

import sys
from pathlib import Path

import pefile

OURS = {
    f"{name}{kind}"
    for name in ("cabs", "carg", "ccos", "ccosh", "cexp", "cimag", "cpow", "creal", "csin", "csinh", "ctan", "ctanh")
    for kind in ("", "f", "l")
}
BUILTIN = b"Wine builtin DLL"  # at 0x40; with it, Wine would load its own file instead of this copy


def main(dlls: Path, folder: Path) -> None:
    content = bytearray((dlls / "ucrtbase.dll").read_bytes())
    if content[0x40:0x50] != BUILTIN:
        raise SystemExit(f"{dlls}: expected Wine's own ucrtbase.dll, got another")
    content[0x40:0x50] = b"\0" * len(BUILTIN)
    (folder / "wine_ucrt.dll").write_bytes(content)
    library = pefile.PE(data=bytes(content), fast_load=True)
    library.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_EXPORT"]])
    names = [symbol.name.decode() for symbol in library.DIRECTORY_ENTRY_EXPORT.symbols if symbol.name]
    lines = [f"  {name}=our_{name}" if name in OURS else f'  "{name}"="wine_ucrt.{name}"' for name in names]
    (folder / "ucrtbase.def").write_text("\n".join(["LIBRARY ucrtbase.dll", "EXPORTS", *lines]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
