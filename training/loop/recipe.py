"""What a training run depends on, all of it: the dataclasses behind `configs/*.yaml`."""

from dataclasses import dataclass, field
from pathlib import Path

from training.data.sequences import GENERATED, LAYOUTS, Patches
from training.data.synthesise import Generator
from training.degrade.degradation import Degradation
from training.loop.config import read
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

ARCHITECTURES: dict[str, type[VideoNetwork]] = {"LightVSR": LightVSR, "BasicVSR": BasicVSR, "IconVSR": IconVSR}


PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Network:
    """architecture: a class of vs_iconvsr.networks; arguments: its keyword arguments where not the defaults."""

    architecture: str = "LightVSR"
    arguments: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}")

    def build(self) -> VideoNetwork:
        """With fresh weights from torch's random state."""
        try:
            return ARCHITECTURES[self.architecture](**self.arguments)
        except TypeError as error:
            raise ValueError(
                f"network.arguments: expected those of {self.architecture}, got {self.arguments}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Data:
    """Folders below --data and how they are laid out: one of sequences.LAYOUTS. Generators: `synthesise` makes them."""

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
    """Weight files or names to start from: of the whole network, or of its flow or refill network; fresh where none."""

    weights: str | None = None
    flow: str | None = None
    refill: str | None = None


@dataclass(frozen=True, kw_only=True)
class FlowPretraining:
    """Flow network on exact flow of generated clips, before everything else.

    gate: the held-out end-point error must come below this share of that of zero flow.
    """

    steps: int = 2500
    batch: int = 8
    learning_rate: float = 1e-3
    gate: float = 0.4


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam with a cosine to `last_learning_rate`; Charbonnier loss sqrt(d² + epsilon²), mean over all values.

    flow_share: learning rate of the flow network over that of the rest. frozen: steps before the parts that may come
    pretrained, flow and refill networks, move at all.
    average: decay of the moving average of the weights, which is what is evaluated and kept; 0 for none.
    clip_norm: largest norm of the gradient; 0 for no limit. precision: of the convolutions; weights stay float32;
    float16 wants a GPU. compiled: steps go through torch.compile, which rounds otherwise than eager torch.
    """

    steps: int
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.99)
    warm_up: int = 50
    flow_share: float = 0.25
    frozen: int = 0
    epsilon: float = 1e-3
    average: float = 0.998
    clip_norm: float = 1.0
    precision: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average: expected at least 0 and below 1, got {self.average}")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How often things are written, in steps, and how many held-out sequences and frames of each are looked at."""

    log: int = 20
    evaluate: int = 400
    save: int = 100
    held_out_sequences: int = 6
    held_out_frames: int = 30


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run. network: where none is given, it is that of start.weights."""

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
            raise ValueError("network: expected either it or start.weights")


def read_recipe(path: Path, *, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe file; raises RecipeError with file, line and key."""
    return read(path, Recipe, overrides=overrides)
