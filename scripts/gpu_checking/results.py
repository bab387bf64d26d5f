"""The file of results: written after every check, so that whatever ends the run takes nothing along."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vs_iconvsr.atomic import write_atomically


@dataclass(frozen=True)
class Finding:
    """What a check found. ok None: not examined, for the reason in detail. figures: numbers and rows for the file."""

    ok: bool | None
    detail: str
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check of a stage; whatever it raises is its finding."""

    stage: str
    name: str
    run: Callable[[], Finding]

    @property
    def key(self) -> str:
        return f"{self.stage}: {self.name}"


def within(value: float, limit: float, what: str, *, figures: Mapping[str, object] | None = None) -> Finding:
    """Fails for a value above the limit, and for NaN."""
    return Finding(value <= limit, f"{what} {value:.3g}, allowed {limit:.3g}", {"value": value, **(figures or {})})


def at_least(value: float, limit: float, what: str) -> Finding:
    """Fails for a value below the limit, and for NaN."""
    return Finding(value >= limit, f"{what} {value:.4g}, expected at least {limit:.4g}", {"value": value})


class Results:
    """What was found so far on one machine.

    Raises ValueError where the file holds results of another machine: they must not be mixed.
    """

    def __init__(self, path: Path, machine: Mapping[str, object]) -> None:
        self._path = path
        self._content: dict = {"machine": dict(machine), "checks": {}, "running": None}
        if path.exists():
            before = json.loads(path.read_text())
            if before["machine"] != _plain(machine):
                raise ValueError(
                    f"{path}: expected results of {_short(machine)}, got those of {_short(before['machine'])}; "
                    "name another file with --json"
                )
            self._content = before
        if self._content["running"] is not None:
            died = "the process ended in this check; its own output says why"
            self.record(self._content["running"], Finding(False, died), 0.0)

    def passed(self, check: Check) -> bool:
        return self._content["checks"].get(check.key, {}).get("ok") is True

    def died(self, check: Check) -> bool:
        """Whether the check ended the process; it must not do so again and again."""
        return "the process ended" in self._content["checks"].get(check.key, {}).get("detail", "")

    def begin(self, check: Check) -> None:
        self._content["running"] = check.key
        self._write()

    def record(self, key: str, finding: Finding, seconds: float) -> None:
        self._content["running"] = None
        self._content["checks"][key] = {
            "ok": finding.ok,
            "detail": finding.detail,
            "figures": _plain(finding.figures),
            "seconds": round(seconds, 1),
        }
        self._write()

    def failed(self) -> list[str]:
        return [key for key, found in self._content["checks"].items() if found["ok"] is False]

    def _write(self) -> None:
        write_atomically(self._path, json.dumps(self._content, indent=1, allow_nan=False).encode() + b"\n")


def run_checks(checks: Iterable[Check], results: Results, *, limit_s: float, again: bool = False) -> None:
    """One check after the other, but for those that passed before. None starts after limit_s."""
    start = time.monotonic()
    for check in checks:
        if not again and (results.passed(check) or results.died(check)):
            print(f"{check.key}: done before", flush=True)
            continue
        began = time.monotonic()
        if began - start > limit_s:
            finding = Finding(None, "no time left; run the same command again")
        else:
            results.begin(check)
            finding = _found(check)
        seconds = time.monotonic() - began
        results.record(check.key, finding, seconds)
        word = {True: "ok", False: "FAILED", None: "not examined"}[finding.ok]
        print(f"{check.key}: {word}: {finding.detail} ({seconds:.1f} s)", flush=True)


def _found(check: Check) -> Finding:
    try:
        return check.run()
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {str(error)[:400]}")


def _plain(value: object) -> object:
    """As JSON can hold it: NaN and infinities as words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _short(machine: Mapping[str, object]) -> str:
    return ", ".join(str(machine.get(name)) for name in ("device", "torch", "cuda", "vs_iconvsr", "quick"))
