"""Checks, before anything else is done, that the output can be written under its name."""

import os
from pathlib import Path

from ffmpeg_filter.job.journal import FINISHED, note_path
from vs_iconvsr import system


def check_output(output: Path, source: Path, *, work: Path, overwrite: bool) -> None:
    """Raises ValueError for an output that cannot be written. work: the work directory beside it.

    overwrite: whether an output that exists may be replaced. One whose killed run only had to clean up is accepted.
    """
    folder = output.absolute().parent
    if not folder.is_dir():
        remedy = system.remedy_for_missing_folder(folder)
        raise ValueError(f"output: expected an existing folder, got {folder}; create it first: {remedy}")
    if problem := system.name_problem(output.name):
        raise ValueError(f"output: expected a name {problem}; choose another")
    longest = system.longest_name_bytes(folder)
    if (length := len(os.fsencode(work.name))) > longest:
        spare = longest - (length - len(os.fsencode(output.name)))
        raise ValueError(f"output: expected a name of at most {spare} bytes, got {len(os.fsencode(output.name))}")
    if output.is_dir():
        raise ValueError(f"output: expected a file name, got a folder: {output}; name the file: {output / 'OUT.mkv'}")
    if output.exists() and not output.is_file():
        raise ValueError(f"output: expected a file name, got a pipe or a device: {output}; see iconvsr pipe --help")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"output: expected another file than the input, got the same: {output}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"output: expected a writable folder, got no permission to write in {folder}")
    if work.exists() and not work.is_dir():
        raise ValueError(f"output: expected {work} for the parts, got a file of that name; move it away")
    if output.exists() and not overwrite and not note_path(work, FINISHED).exists():
        raise ValueError(f"output: expected a new file, got one that exists: {output}; pass --overwrite to replace it")
