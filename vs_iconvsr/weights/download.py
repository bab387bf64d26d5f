"""Downloads the authors' files: resumable, checked, renamed when complete; safe with several processes."""

import contextlib
import errno
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vs_iconvsr import locks
from vs_iconvsr.atomic import replace, temporary_for
from vs_iconvsr.weights.catalogue import BASE_URL, OFFICIAL, Official, check_hash, models_directory
from vs_iconvsr.weights.errors import WeightsError

BLOCK_BYTES = 2**18
LIMIT_BYTES = 2**30  # far larger than any file in the catalogue: an endless response must not fill the disk
STALL_S = 30.0
LOCK_POLL_S = 0.2

ReportBytes = Callable[[int, int | None], None]

log = logging.getLogger(__name__)


def download(
    name: str, *, progress: ReportBytes | None = None, base_url: str = BASE_URL, stall_s: float = STALL_S
) -> Path:
    """The checked file of an official name, downloaded if it is missing.

    progress: called with the bytes received so far and in total, None if the server does not state it. base_url: a
    mirror with the same directories. stall_s: how long a server may send nothing. A broken connection leaves a partial
    file, which the next call continues. Raises WeightsError.
    """
    official = OFFICIAL.get(name)
    if official is None:
        raise WeightsError(f"download: expected one of {', '.join(OFFICIAL)}, got {name!r}")
    if not base_url.startswith(("https://", "http://")):
        raise WeightsError(f"mirror: expected an address that begins with https:// or http://, got {base_url!r}")
    path = models_directory() / official.file_name
    url = base_url.rstrip("/") + "/" + official.address
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_process(path.with_name(path.name + ".lock")):
            if not already_there(official, path):
                fetch(official, url, path, progress=progress or ignore_progress, stall_s=stall_s)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(failure_message(official, url, path, error)) from error
    return path


def ignore_progress(done: int, whole: int | None) -> None:
    del done, whole


def already_there(official: Official, path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        check_hash(official, path)
    except WeightsError as error:
        log.warning("%s", error)
        return False
    return True


def fetch(official: Official, url: str, path: Path, *, progress: ReportBytes, stall_s: float) -> None:
    part = temporary_for(path)
    resumed = part.exists() and part.stat().st_size > 0
    receive(url, part, progress=progress, stall_s=stall_s)
    try:
        check_hash(official, part)
    except WeightsError:
        part.unlink()
        if not resumed:
            raise WeightsError(
                f"{official.name}: sha256: expected {official.sha256_prefix}…, got another from {url}; it was discarded"
            ) from None
        log.warning("%s: the partial file of an earlier download does not match; starting over", official.name)
        fetch(official, url, path, progress=progress, stall_s=stall_s)
        return
    replace(part, path)


def receive(url: str, part: Path, *, progress: ReportBytes, stall_s: float) -> None:
    """Appends the bytes of url to part, after those that it already holds."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=stall_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and done:  # nothing follows what we have: it is complete, or of another file
            return
        raise
    with response, part.open("ab") as file:
        if done and not continues(response, done):
            file.truncate(0)
            done = 0
        length = response.headers.get("Content-Length")
        whole = done + int(length) if length and length.isdigit() else None
        check_room(part, done, whole)
        copy(response, file, done=done, whole=whole, progress=progress)


def continues(response: http.client.HTTPResponse, done: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def check_room(part: Path, done: int, whole: int | None) -> None:
    if (whole or 0) > LIMIT_BYTES:
        raise WeightsError(f"{part.name}: expected at most {LIMIT_BYTES} bytes, got {whole} announced by the server")
    if whole is not None and shutil.disk_usage(part.parent).free < whole - done:
        raise OSError(errno.ENOSPC, "No space left on device")


def copy(
    response: http.client.HTTPResponse, file: IO[bytes], *, done: int, whole: int | None, progress: ReportBytes
) -> None:
    progress(done, whole)
    while block := response.read1(BLOCK_BYTES):
        file.write(block)
        done += len(block)
        if done > LIMIT_BYTES:
            raise WeightsError(f"{file.name}: expected at most {LIMIT_BYTES} bytes, got more")
        progress(done, whole)
    if whole is not None and done < whole:
        raise ConnectionError(f"ended after {done} of {whole} bytes")


@contextlib.contextmanager
def only_process(lock: Path) -> Iterator[None]:
    """A lock held by one process at a time; it is released when the process dies."""
    with contextlib.ExitStack() as held:
        waiting = False
        while True:
            try:
                held.enter_context(locks.hold(lock))
                break
            except BlockingIOError:
                if not waiting:
                    log.info("another process downloads %s; waiting for it", lock.stem)
                waiting = True
                time.sleep(LOCK_POLL_S)
        yield


def failure_message(official: Official, url: str, path: Path, error: OSError | http.client.HTTPException) -> str:
    """The cause, and what to do."""
    again = "what has arrived is kept: run the same command again to continue"
    by_hand = f"or copy the file to {path}"
    if isinstance(error, urllib.error.HTTPError):
        if error.code >= 500:
            return f"{official.name}: {url}: the server failed (HTTP {error.code}); try again later, {by_hand}"
        return f"{official.name}: {url}: the server refused (HTTP {error.code}); try --mirror, {by_hand}"
    if isinstance(error, http.client.HTTPException):
        return f"{official.name}: {url}: the response ended early ({error!r}); {again}, {by_hand}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{official.name}: expected about {official.expected_mb} MB free in {path.parent}, got a full disk; free "
            "some space, or set ICONVSR_MODELS to another directory"
        )
    if isinstance(error, PermissionError):
        return f"{official.name}: expected a writable directory, got {path.parent}; set ICONVSR_MODELS to another one"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"{official.name}: {url}: the server stopped sending; {again}, {by_hand}"
    if isinstance(error, ConnectionError):
        return f"{official.name}: {url}: the connection {error}; {again}, {by_hand}"
    cause = getattr(error, "reason", None) or error
    return f"{official.name}: {url}: no connection ({cause}); {again}, {by_hand}"
