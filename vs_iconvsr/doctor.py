"""What works on this machine and, where something does not, the exact cause and the remedy.

Starts no programs: vspipe and ffmpeg are checked by ffmpeg_filter.commands.doctor. torch, and what depends on it, is
imported inside the checks, so that a torch that cannot be imported is a finding like any other.
"""

import ctypes
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vs_iconvsr import system

OK, WARN, FAIL = "ok", "warn", "fail"

OLDEST_PYTHON = (3, 12)
OLDEST_VAPOURSYNTH = 74
LITTLE_MEMORY_GIB = 4
HALF_TOLERANCE = 0.05
GIB = 2**30
REINSTALL = "pip install --force-reinstall --no-deps vapoursynth-iconvsr"


@dataclass(frozen=True)
class Check:
    """One finding. status: "ok", "warn" (a problem that leaves most things working) or "fail".

    remedy: what to do or type; empty if all is well.
    """

    name: str
    status: str
    detail: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.status not in (OK, WARN, FAIL):
            raise ValueError(f"status: expected {OK}, {WARN} or {FAIL}, got {self.status}")


def checks(*, plugin: Path | None = None) -> list[Check]:
    """All checks that need no other program; later ones depend on earlier ones.

    plugin: the native library, if not where pip installs it. Never raises: a check that raises is a failed check.
    """
    first: list[tuple[str, Callable[[], Check]]] = [
        ("Python", python_version),
        ("VapourSynth", vapoursynth_version),
        ("plugin", lambda: plugin_loads(plugin)),
        ("core.iconvsr", lambda: namespace_answers(plugin)),
        ("torch", torch_version),
    ]
    on_torch = [
        ("CUDA", cuda),
        ("devices", devices),
        ("precision", precision),
        ("memory", memory),
        ("models", models),
    ]
    found = [run_check(name, check) for name, check in first]
    return found if found[-1].status == FAIL else found + [run_check(name, check) for name, check in on_torch]


def run_check(name: str, check: Callable[[], Check]) -> Check:
    """The result of the check; if it raises, a failed one."""
    try:
        return check()
    except Exception as error:
        return Check(name, FAIL, f"{type(error).__name__}: {error}", "please report this, with the full output")


def all_well(found: Iterable[Check]) -> bool:
    """Whether nothing failed; warnings are allowed."""
    return all(check.status != FAIL for check in found)


def python_version(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}, {sys.executable}"
    if version < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        return Check(
            "Python", FAIL, f"{text}: expected {needed} or newer", f"create an environment with Python {needed}"
        )
    return Check("Python", OK, text)


def vapoursynth_version(module: str = "vapoursynth") -> Check:
    try:
        vapoursynth = import_module(module)
    except ImportError as error:
        return Check("VapourSynth", FAIL, f"cannot be imported: {error}", 'pip install "vapoursynth>=74"')
    release = vapoursynth.__version__.release_major
    text = f"R{release}, {Path(str(vapoursynth.__file__)).parent}"
    if release < OLDEST_VAPOURSYNTH:
        needed = f"expected R{OLDEST_VAPOURSYNTH} or newer"
        return Check("VapourSynth", FAIL, f"{text}: {needed}", f'pip install "vapoursynth>={OLDEST_VAPOURSYNTH}"')
    return Check("VapourSynth", OK, text)


def plugin_loads(plugin: Path | None = None) -> Check:
    """Loads the native library itself: VapourSynth silently skips what it cannot load."""
    path = plugin or installed_plugin()
    if path is None or not path.is_file():
        where = path or "vapoursynth/plugins/iconvsr"
        return Check("plugin", FAIL, f"{where}: no such file", REINSTALL)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return Check("plugin", FAIL, f"{path} cannot be opened: {error}", _remedy_for(str(error)))
    if not hasattr(library, "VapourSynthPluginInit2"):
        cause = "is a library, but not a VapourSynth plugin (VapourSynthPluginInit2 is missing)"
        return Check("plugin", FAIL, f"{path} {cause}", REINSTALL)
    return Check("plugin", OK, str(path))


def namespace_answers(plugin: Path | None = None) -> Check:
    """Whether core.iconvsr exists and reaches Python."""
    try:
        core: Any = import_module("vapoursynth").core
    except ImportError:
        return Check("core.iconvsr", FAIL, "VapourSynth is missing", "see the VapourSynth check")
    if not hasattr(core, "iconvsr"):
        path = plugin or installed_plugin()
        cause = _refusal(core, path) if path else "its file is missing"
        return Check("core.iconvsr", FAIL, f"not in this core: {cause}", "see the plugin check")
    try:
        core.iconvsr.Version()
    except Exception as error:
        return Check(
            "core.iconvsr",
            FAIL,
            f"cannot call into Python: {error}",
            "start Python or vspipe from the environment in which vapoursynth-iconvsr is installed",
        )
    return Check("core.iconvsr", OK, ", ".join(sorted(function.name for function in core.iconvsr.functions())))


def torch_version(module: str = "torch") -> Check:
    try:
        torch = import_module(module)
    except (ImportError, OSError) as error:
        return Check("torch", FAIL, f"cannot be imported: {error}", "pip install --force-reinstall torch torchvision")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return Check("torch", OK, f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")


def cuda(*drivers: Path) -> Check:
    """Whether torch works with the NVIDIA driver, if there is one."""
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        if error := _first_cuda_error():
            return Check("CUDA", FAIL, f"{names}: {error}", "install a build of torch that supports this device")
        return Check("CUDA", OK, f"{names}, CUDA {torch.version.cuda}")
    driver = next((path for path in drivers or system.NVIDIA_DRIVERS if path.is_file()), None)
    if driver is None:
        return Check("CUDA", OK, "no NVIDIA driver found")
    driver_text = str(driver) if driver.suffix else driver.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    if torch.version.cuda is None:
        return Check(
            "CUDA",
            WARN,
            f"{driver_text}, but torch {torch.__version__} is a build without CUDA: the CPU does the work",
            "pip install --force-reinstall torch torchvision, without an index of CPU builds",
        )
    return Check(
        "CUDA",
        WARN,
        f"{driver_text}, torch is built for CUDA {torch.version.cuda}: {_first_cuda_error() or 'no device found'}",
        "update the driver, or install a torch built for an older CUDA; check CUDA_VISIBLE_DEVICES",
    )


def devices() -> Check:
    """What device= accepts, and what "auto" selects."""
    from vs_iconvsr import plan

    there = plan.devices_here()
    return Check("devices", OK, f"{', '.join(there)}; device='auto' is {there[0]}")


def precision() -> Check:
    """Whether half precision, the default on a GPU, gives numbers there, and what each GPU has no arithmetic for."""
    import torch

    if not torch.cuda.is_available():
        return Check("precision", OK, "float32 on the CPU; there is no CUDA device to examine")
    found = [precision_on(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]
    return next((check for check in found if check.status != OK), found[0])


def precision_on(device: Any) -> Check:
    """One device. float16 must agree with float32: some cards (GTX 16xx) answer a convolution with NaN."""
    import torch

    from vs_iconvsr import plan

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    error = half_precision_error(device)
    if not error <= HALF_TOLERANCE:  # NaN, too
        return Check(
            "precision",
            FAIL,
            f"{name}: convolutions in float16 differ from float32 by {error:.2g}, expected {HALF_TOLERANCE:g} or less",
            "pass precision=float32 (--precision float32)",
        )
    bfloat16 = ", bfloat16" if plan.has_bfloat16(device) else "; no bfloat16: it is refused"
    return Check("precision", OK, f"{name}: float32, float16{bfloat16}")


def half_precision_error(device: Any) -> float:
    """The largest difference of convolutions like ours in float16 from float32 on the CPU; NaN if there is one."""
    import torch

    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 64, 32, 32, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator) / 24
    with torch.inference_mode():
        expected = torch.conv2d(torch.conv2d(features, weight, padding=1).relu(), weight, padding=1)
        half_features, half_weight = features.to(device, torch.float16), weight.to(device, torch.float16)
        first = torch.conv2d(half_features, half_weight, padding=1).relu()
        difference = torch.conv2d(first, half_weight, padding=1).float().cpu() - expected
    return float(difference.abs().max())


def memory() -> Check:
    """Total memory of the host and of CUDA devices."""
    import torch

    host = system.total_memory_bytes() / GIB
    sizes = [f"host {host:.1f} GiB"]
    if torch.cuda.is_available():
        totals = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
        sizes += [f"cuda:{i} {total / GIB:.1f} GiB" for i, total in enumerate(totals)]
    if host < LITTLE_MEMORY_GIB:
        return Check("memory", WARN, ", ".join(sizes), "pass memory= and tile= to limit what is used")
    return Check("memory", OK, ", ".join(sizes))


def models() -> Check:
    """Whether the default model loads, and which others are installed."""
    from vs_iconvsr import weights

    try:
        weights.load(weights.DEFAULT_MODEL)
    except weights.WeightsError as error:
        return Check(
            "models",
            FAIL,
            f"the default model, {weights.DEFAULT_MODEL}, does not load: {error}",
            REINSTALL,
        )
    here = [model.name for model in weights.available() if model.path]
    absent = [model.name for model in weights.available() if not model.path]
    text = f"installed: {', '.join(here)}"
    text += f"; available with iconvsr models download: {', '.join(absent)}" if absent else ""
    return Check("models", OK, text)


def installed_plugin() -> Path | None:
    """Where pip installs the native library, beside VapourSynth; None if VapourSynth or the file is missing."""
    try:
        vapoursynth = import_module("vapoursynth")
    except ImportError:
        return None
    folder = Path(str(vapoursynth.__file__)).parent / "plugins" / "iconvsr"
    return next((path for path in sorted(folder.glob("*iconvsr.*")) if path.suffix in (".so", ".dll", ".dylib")), None)


def _first_cuda_error() -> str | None:
    """The error of a minimal computation on the first device; None if it succeeds."""
    import torch

    try:
        (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum().item()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


def _refusal(core: Any, path: Path) -> str:
    """The error that VapourSynth reports when the plugin is loaded by path."""
    try:
        core.std.LoadPlugin(str(path))
    except Exception as error:
        return str(error)
    return f"{path} loads by path, but VapourSynth does not search its folder"


def _remedy_for(error: str) -> str:
    if "GLIBC" in error:
        return (
            "this system's C library is too old for the wheel: "
            "pip install --no-binary vapoursynth-iconvsr vapoursynth-iconvsr"
        )
    if "undefined symbol: Py" in error:
        return (
            "it was loaded outside Python, or by a Python older than 3.12: use the environment in which it is installed"
        )
    return REINSTALL
