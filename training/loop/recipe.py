"""Everything a training run depends on: the dataclasses behind `configs/*.yaml`. Field names are the YAML keys."""

from dataclasses import dataclass, field
from pathlib import Path

from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import GENERATED, LAYOUTS, Patches
from ..data.synthesise import Generator
from ..degrade.degradation import Degradation
from .config import read

ARCHITECTURES: dict[str, type[VideoNetwork]] = {"LightVSR": LightVSR, "BasicVSR": BasicVSR, "IconVSR": IconVSR}
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Network:
    """architecture: a class of vs_iconvsr.networks. arguments: its keyword arguments that differ from the defaults."""

    architecture: str = "LightVSR"
    arguments: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}")

    def build(self) -> VideoNetwork:
        """The network with fresh weights, drawn from torch's global random state."""
        try:
            return ARCHITECTURES[self.architecture](**self.arguments)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:  # torch's, for impossible sizes
            raise ValueError(
                f"network.arguments: expected those of {self.architecture}, got {self.arguments} ({error})"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Data:
    """Folders below --data, and their layouts (sequences.LAYOUTS).

    train_generator, held_out_generator: what `synthesise` fills these folders from.
    """

    train: str
    held_out: str
    layout: str = GENERATED
    held_out_layout: str = GENERATED
    train_generator: Generator | None = None
    held_out_generator: Generator | None = None

    def __post_init__(self) -> None:
        for name in ("layout", "held_out_layout"):
            if getattr(self, name) not in LAYOUTS:
                raise ValueError(f"{name}: expected one of {', '.join(LAYOUTS)}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Names or files of weights to start from: the whole network's, or its flow or refill network's. None: fresh."""

    weights: str | None = None
    flow: str | None = None
    refill: str | None = None


@dataclass(frozen=True, kw_only=True)
class FlowPretraining:
    """Training of the flow network alone, on the exact flow of generated clips, before everything else.

    gate: the held-out end-point error must fall below this share of zero flow's.
    """

    steps: int = 2500
    batch: int = 8
    learning_rate: float = 1e-3
    gate: float = 0.4

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam with a cosine schedule to `last_learning_rate`; Charbonnier loss sqrt(d² + epsilon²), mean over all values.

    luma_share: 0 for the loss in RGB alone, up to 1 for luma alone, which is what PSNR-Y measures; colors then drift.
    flow_share: the flow network's learning rate relative to that of the rest. frozen: number of steps during which the
    parts that may be pretrained, the flow and refill networks, stay fixed.
    average: decay of the moving average of the weights, which is what is evaluated and kept; 0 disables it.
    clip_norm: largest norm of the gradient; 0 for no limit. precision: of the convolutions; weights stay float32, and
    float16 requires a GPU. compiled: run the steps through torch.compile, which rounds differently from eager torch.
    """

    steps: int
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.99)
    warm_up: int = 50
    flow_share: float = 0.25
    frozen: int = 0
    epsilon: float = 1e-3
    luma_share: float = 0.0
    average: float = 0.998
    clip_norm: float = 1.0
    precision: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")
        if not 0.0 <= self.luma_share <= 1.0:
            raise ValueError(f"luma_share: expected 0 to 1, got {self.luma_share}")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average: expected at least 0 and below 1, got {self.average}")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Intervals in steps between log lines, evaluations and checkpoints, and how much held-out data is evaluated.

    patience: the run ends after this many evaluations without a better one; 0: never. The best weights are kept anyway.
    """

    log: int = 20
    evaluate: int = 400
    save: int = 100
    held_out_sequences: int = 6
    held_out_frames: int = 30
    patience: int = 0

    def __post_init__(self) -> None:
        for name in ("log", "evaluate", "save", "held_out_sequences", "held_out_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.patience < 0:
            raise ValueError(f"patience: expected at least 0, got {self.patience}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run. network: None means that of start.weights."""

    seed: int = 1
    network: Network | None = None
    data: Data
    patches: Patches = field(default_factory=Patches)
    degradations: tuple[Degradation, ...] = (Degradation(),)
    start: Start = field(default_factory=Start)
    flow: FlowPretraining | None = None
    optimiser: Optimiser
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        if (self.network is None) == (self.start.weights is None):
            given = "neither" if self.network is None else "both"
            raise ValueError(f"network: expected either it or start.weights, got {given}")


def read_recipe(path: Path, *, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe file; raises RecipeError with file, line and key."""
    return read(path, Recipe, overrides=overrides)
