"""What a frame would take on a card that nobody here has: a prediction, to choose what to build first.

From the kernels that the card would be asked for, counted with tensors without contents, and from what its maker
publishes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarking.cases import YUV420P8, YUV420P10, Case, load_network
from tests.vs_iconvsr.fake_gpu import BIAS, Launch, fake_gpu, upscaled_on_a_gpu

LAUNCH_S = 5e-6  # of processor time until torch has launched one kernel
KERNEL_S = 2e-6  # no kernel is done sooner, however little it does
OF_BANDWIDTH, OF_ARITHMETIC = 0.8, 0.4  # what kernels reach of the published peaks
PAGEABLE = 6e9  # bytes a second between the device and memory that is not pinned
ASSUMED = (
    f"{1e6 * LAUNCH_S:g} us to launch a kernel, none shorter than {1e6 * KERNEL_S:g} us, {OF_BANDWIDTH:.0%} of the "
    f"bandwidth, {OF_ARITHMETIC:.0%} of the arithmetic, {PAGEABLE / 1e9:g} GB/s to memory that is not pinned"
)


@dataclass(frozen=True)
class Card:
    """Published peaks: bytes a second of memory and of the bus in one direction; operations a second, float16 with
    sums in float32, without sparsity, and float32."""

    memory: float
    half: float
    single: float
    bus: float


CARDS = {
    "H200": Card(4.8e12, 989e12, 67e12, 64e9),
    "H100": Card(3.35e12, 989e12, 67e12, 64e9),
    "A100": Card(2.04e12, 312e12, 19.5e12, 32e9),
    "L4": Card(0.3e12, 121e12, 30.3e12, 32e9),
    "T4": Card(0.32e12, 65e12, 8.1e12, 16e9),
    "RTX 5090": Card(1.79e12, 210e12, 104.8e12, 64e9),
    "RTX 4090": Card(1.01e12, 165e12, 82.6e12, 32e9),
    "RTX 3090": Card(0.936e12, 71e12, 35.6e12, 32e9),
    "RTX 3060": Card(0.36e12, 25.6e12, 12.7e12, 32e9),
}
PREDICTED = [Case("light", 960, 540, 1), Case("IconVSR-64x30", 320, 180, 5)]  # frames: from one keyframe to the next


@dataclass(frozen=True)
class Work:
    """What a frame asks of a card. launch_s: processor time for each kernel. bus_bytes: of planes up and down.

    beside: whether planes travel while the device computes.
    """

    launches: Sequence[Launch]
    bus_bytes: float
    launch_s: float = LAUNCH_S
    beside: bool = False


@dataclass(frozen=True)
class Prediction:
    """kernels: of a frame. Seconds of a frame: of the processor, of the device, of planes on their way."""

    kernels: float
    launching_s: float
    device_s: float
    bus_s: float
    beside: bool

    @property
    def frame_s(self) -> float:
        """Processor and device work side by side; planes that are not pinned stop both."""
        computing_s = max(self.launching_s, self.device_s)
        return max(computing_s, self.bus_s) if self.beside else computing_s + self.bus_s

    @property
    def limit(self) -> str:
        found = {self.launching_s: "launches", self.device_s: "the device", self.bus_s: "the bus"}
        return found[max(found)]


def predicted(card: Card, more: Work, fewer: Work, frames: int) -> Prediction:
    """Of one frame: what a segment takes beyond one that has so many frames less."""

    def each(measure: Callable[[Work], float]) -> float:
        return (measure(more) - measure(fewer)) / frames

    bus = OF_BANDWIDTH * card.bus if more.beside else min(PAGEABLE, card.bus)
    return Prediction(
        kernels=each(lambda work: len(work.launches)),
        launching_s=each(lambda work: work.launch_s * len(work.launches)),
        device_s=each(lambda work: sum(kernel_s(card, launch) for launch in work.launches)),
        bus_s=each(lambda work: work.bus_bytes / bus),
        beside=more.beside,
    )


def kernel_s(card: Card, launch: Launch) -> float:
    """The device's time: that of its memory or of its arithmetic, whichever is longer; at least KERNEL_S."""
    peak = card.single if launch.operation == "deform_conv2d" else card.half
    moving_s = (launch.moved_bytes + launch.layout_bytes) / (OF_BANDWIDTH * card.memory)
    return max(KERNEL_S, moving_s, launch.flop / (OF_ARITHMETIC * peak))


def work_of(case: Case, frames: int) -> Work:
    """A segment of so many frames in float16, from YUV420P8 to YUV420P10."""
    network = load_network(case.model)
    with fake_gpu() as gpu:
        upscaled_on_a_gpu(gpu, network, case.width, case.height, frames, source=YUV420P8, target=YUV420P10)
        px = case.width * case.height
        return Work(gpu.launches, frames * px * (1.5 + 3 * network.scale**2))


def as_it_is(work: Work) -> Work:
    return work


def in_channels_last(work: Work) -> Work:
    return replace(work, launches=[replace(launch, layout_bytes=0) for launch in work.launches])


def with_fused_convolutions(work: Work) -> Work:
    """Bias and ReLU are added as a convolution writes; a leaky ReLU is not among what cuDNN does."""
    kept: list[Launch] = []
    before = ""
    for launch in work.launches:
        if not (launch.operation == BIAS or (launch.operation in ("relu", "relu_") and before == BIAS)):
            kept.append(launch)
        before = launch.operation
    return replace(work, launches=kept)


def with_conversions_as_one_kernel(work: Work) -> Work:
    """One kernel each way for each frame, which reads and writes everything once."""
    network = [launch for launch in work.launches if launch.part == "network"]
    frames = sum(launch.operation == "nan_to_num" for launch in network)  # once as each frame is prepared
    return replace(work, launches=[*network, *[Launch("conversion", round(work.bus_bytes / frames))] * 2 * frames])


def as_cuda_graphs(work: Work) -> Work:
    return replace(work, launch_s=0.0)


def with_planes_beside(work: Work) -> Work:
    return replace(work, beside=True)


LEVERS: dict[str, Callable[[Work], Work]] = {
    "as it is": as_it_is,
    "planes through pinned memory, beside": with_planes_beside,
    "CUDA graphs": as_cuda_graphs,
    "channels_last": in_channels_last,
    "bias and ReLU in the convolution": with_fused_convolutions,
    "conversions as one kernel each": with_conversions_as_one_kernel,
}


def with_all(work: Work) -> Work:
    for lever in LEVERS.values():
        work = lever(work)
    return work


def prediction(name: str, cases: Sequence[Case] = PREDICTED) -> Iterator[str]:
    """Lines of the table of one card of CARDS."""
    card = CARDS[name]
    yield f"PREDICTION for {name}, not a measurement: published peaks, kernels counted without a GPU."
    yield f"Assumed: {ASSUMED}. float16, 4:2:0, no tiles, context not counted."
    columns = ("model", "lr size", "lever", "kernels", "launches ms", "device ms", "bus ms", "ms/frame", "limit", "x")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for case in cases:
        fewer, more = (work_of(case, n * case.frames) for n in (1, 2))
        plain = predicted(card, more, fewer, case.frames)
        for lever, changed in (LEVERS | {"all of these": with_all}).items():
            p = predicted(card, changed(more), changed(fewer), case.frames)
            spent = (p.launching_s, p.device_s, p.bus_s, p.frame_s)
            yield (
                f"| {case.model} | {case.width}x{case.height} | {lever} | {p.kernels:.0f} "
                f"| {' | '.join(f'{1e3 * seconds:.1f}' for seconds in spent)} | {p.limit} "
                f"| {plain.frame_s / p.frame_s:.2f} |"
            )
