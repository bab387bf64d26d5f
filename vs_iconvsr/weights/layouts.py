"""Which network a table of keys and shapes belongs to: key names, hyper-parameters, strict comparison."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.edvr import EDVRFeatureExtractor
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR
from vs_iconvsr.networks.spynet import MEAN, STD, SPyNet
from vs_iconvsr.weights.errors import WeightsError
from vs_iconvsr.weights.files import Shape, WeightFile

Table = Mapping[str, Shape]

AnyNetwork = LightVSR | BasicVSR | IconVSR | BasicVSRPlusPlus | RealBasicVSR | SPyNet | EDVRFeatureExtractor

ARCHITECTURES: dict[str, Callable[..., AnyNetwork]] = {
    "LightVSR": LightVSR,
    "BasicVSR": BasicVSR,
    "IconVSR": IconVSR,
    "BasicVSRPlusPlus": BasicVSRPlusPlus,
    "RealBasicVSR": RealBasicVSR,
    "SPyNet": SPyNet,
    "EDVRFeatureExtractor": EDVRFeatureExtractor,
}
WHOLE_NETWORKS = "IconVSR, BasicVSR, BasicVSR++, RealBasicVSR or LightVSR"
HYPER_PARAMETER_LIMIT = 1024
SPYNET_PREFIX = {
    "SPyNet": "",
    "BasicVSR": "spynet.",
    "IconVSR": "spynet.",
    "BasicVSRPlusPlus": "spynet.",
    "RealBasicVSR": "basicvsr.spynet.",
}

# Where the authors' frameworks put a network's tensors: (dictionary in the file, prefix of its keys, what it is). The
# first that fits is taken: of two sets of weights, the one that the framework's own test program runs.
PLACES = (
    ("state_dict", "generator_ema.", "MMagic, averaged weights"),
    ("state_dict", "generator.", "MMagic"),
    ("params", "", "BasicSR"),
    ("params", "module.", "BasicSR"),
    ("params_ema", "", "BasicSR, averaged weights"),
    ("params_ema", "module.", "BasicSR, averaged weights"),
    ("state_dict", "module.", "state_dict"),
    ("state_dict", "", "state_dict"),
    ("", "generator_ema.", "MMagic, averaged weights"),
    ("", "generator.", "MMagic"),
    ("", "module.", "plain tensors"),
    ("", "", "plain tensors"),
)
# Beside the network in MMagic's files; the parts of a whole EDVR that follow its feature extractor.
IGNORED = re.compile(r"step_counter$|data_preprocessor\.")
BEYOND_EXTRACTOR = re.compile(r"(reconstruction|upsample[12]|upconv[12]|conv_hr|conv_last)\.")

# Key names, theirs → ours, applied in order. Ours are MMagic's, which no rule changes.
NAMES = (
    # sniklaus' SPyNet
    (r"(?:module|net)Basic\.(\d)\.(?:module|net)Basic\.", r"basic_module.\1.basic_module."),
    # BasicSR
    (r"^(forward|backward)_trunk\.", r"\1_resblocks."),
    (r"^upconv([12])\.", r"upsample\1.upsample_conv."),
    (r"\bconv_l([23])_([12])\.", r"feat_l\1_conv\2.conv."),
    (r"\bpcd_align\.", r"pcd_alignment."),
    (
        r"(pcd_alignment\.(?:offset_conv[123]\.l[123]|feat_conv\.l[12]|cas_offset_conv[12]))\.(weight|bias)$",
        r"\1.conv.\2",
    ),
    (r"\b(fusion\.(?:feat_fusion|spatial_attn(?:[1-4]|_l[1-3]|_add1)))\.(weight|bias)$", r"\1.conv.\2"),
    # both: their activations are counted as layers
    (r"(basic_module\.\d\.basic_module)\.0\.(weight|bias)$", r"\1.0.conv.\2"),
    (r"(basic_module\.\d\.basic_module)\.2\.(weight|bias)$", r"\1.1.conv.\2"),
    (r"(basic_module\.\d\.basic_module)\.4\.(weight|bias)$", r"\1.2.conv.\2"),
    (r"(basic_module\.\d\.basic_module)\.6\.(weight|bias)$", r"\1.3.conv.\2"),
    (r"(basic_module\.\d\.basic_module)\.8\.(weight|bias)$", r"\1.4.conv.\2"),
)

# Keys that identify other networks, for the message.
OTHER_NETWORKS = (
    (
        r"flow_network\.|tail_last\.",
        "LightVSR without its settings, as runs used to leave it; export the run: iconvsr train export",
    ),
    (r"rdb1\.|RRDB_trunk|model\.1\.sub\.", "an ESRGAN or Real-ESRGAN (RRDBNet)"),
    (r"^body\.\d+\.weight$", "a compact Real-ESRGAN (SRVGGNet)"),
    (r"relative_position_bias_table", "a SwinIR or VRT"),
    (r"^(encode|block\d)\.", "a RIFE"),
)


@dataclass(frozen=True)
class RecognizedNetwork:
    """A network found in a file. keys: our name of each tensor → its key in the file's table."""

    architecture: str
    hyper_parameters: Mapping[str, int]
    layout: str
    table: str
    keys: Mapping[str, str]


def recognize(file: WeightFile) -> RecognizedNetwork:
    """Which network the file holds, every key and shape compared. Raises WeightsError otherwise."""
    try:
        if "architecture" in file.metadata:
            return recognize_ours(file)
        return recognize_foreign(file)
    except (WeightsError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file.path}: {error}") from error


def recognize_ours(file: WeightFile) -> RecognizedNetwork:
    architecture = file.metadata["architecture"]
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    stated = json.loads(file.metadata.get("hyper_parameters", "{}"))
    table = file.tables.get("", {})
    hyper_parameters = parse_hyper_parameters(architecture, stated)
    check_shapes(table, architecture, hyper_parameters)
    return RecognizedNetwork(architecture, hyper_parameters, "vs_iconvsr", "", {key: key for key in table})


def recognize_foreign(file: WeightFile) -> RecognizedNetwork:
    for dictionary, prefix, layout in PLACES:
        table = file.tables.get(dictionary, {})
        keys = {our_name(key.removeprefix(prefix)): key for key in table if key.startswith(prefix)}
        keys = {name: key for name, key in keys.items() if not IGNORED.match(name)}
        shapes = {name: table[key] for name, key in keys.items()}
        architecture = architecture_of(shapes)
        if architecture is None:
            continue
        if architecture == "EDVRFeatureExtractor":
            keys = {name: key for name, key in keys.items() if not BEYOND_EXTRACTOR.match(name)}
            shapes = {name: table[key] for name, key in keys.items()}
        hyper_parameters = parse_hyper_parameters(architecture, infer_hyper_parameters(architecture, shapes))
        check_shapes(shapes, architecture, hyper_parameters)
        return RecognizedNetwork(architecture, hyper_parameters, layout, dictionary, keys)
    if "network" in file.tables:
        raise WeightsError(
            "expected a network, got the checkpoint of a training run; give average.safetensors beside it, or export "
            "the run: iconvsr train export RECIPE --data DATA --out RUN --file FILE.safetensors"
        )
    raise WeightsError(describe_unknown({key for table in file.tables.values() for key in table}))


def our_name(name: str) -> str:
    """The name in our networks of a key from any layout, without its prefix."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def architecture_of(shapes: Table) -> str | None:
    if any(name.startswith("flow_network.") for name in shapes):
        return None  # a LightVSR: its keys do not say all of its arguments
    if "image_cleaning.0.main.0.weight" in shapes:
        return "RealBasicVSR"
    if "deform_align.backward_1.weight" in shapes:
        return "BasicVSRPlusPlus"
    if "forward_resblocks.main.0.weight" in shapes:
        return "IconVSR" if "backward_fusion.weight" in shapes or "edvr.conv_first.weight" in shapes else "BasicVSR"
    if "pcd_alignment.cas_dcnpack.weight" in shapes:
        return "EDVRFeatureExtractor"
    if "basic_module.0.basic_module.0.conv.weight" in shapes:
        return "SPyNet"
    return None


def infer_hyper_parameters(architecture: str, shapes: Table) -> dict[str, int]:
    """The arguments of the network that has these shapes; what leaves no trace in them is as published."""
    match architecture:
        case "SPyNet":
            return {"channels": side(shapes, "basic_module.0.basic_module.0.conv.weight", 0)}
        case "EDVRFeatureExtractor":
            channels = side(shapes, "conv_first.weight", 0)
            return {
                "num_frames": side(shapes, "fusion.feat_fusion.conv.weight", 1) // max(channels, 1),
                "channels": channels,
                "num_blocks": count_blocks(shapes, r"feature_extraction\.(\d+)\."),
            }
        case "BasicVSRPlusPlus":
            return {
                "mid_channels": side(shapes, "deform_align.backward_1.weight", 0),
                "num_blocks": count_blocks(shapes, r"backbone\.backward_1\.main\.2\.(\d+)\."),
                "scale": 4 if "feat_extract.main.0.weight" in shapes else 1,
                "flow_channels": flow_channels(shapes),
            }
        case "RealBasicVSR":
            prefix = "basicvsr."
            inner = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
            cleaning_blocks = count_blocks(shapes, r"image_cleaning\.0\.main\.2\.(\d+)\.")
            return {**infer_hyper_parameters("BasicVSR", inner), "cleaning_blocks": cleaning_blocks}
        case "IconVSR":
            edvr_channels = side(shapes, "edvr.conv_first.weight", 0)
            window = side(shapes, "edvr.fusion.feat_fusion.conv.weight", 1) // max(edvr_channels, 1)
            return {
                **infer_hyper_parameters("BasicVSR", shapes),
                "edvr_channels": edvr_channels,
                "temporal_padding": window // 2,
            }
    scale = 4 if "upsample2.upsample_conv.weight" in shapes else 2 if "upsample1.upsample_conv.weight" in shapes else 1
    return {
        "mid_channels": side(shapes, "backward_resblocks.main.0.weight", 0),
        "num_blocks": count_blocks(shapes, r"backward_resblocks\.main\.2\.(\d+)\."),
        "scale": scale,
        "flow_channels": flow_channels(shapes),
    }


def flow_channels(shapes: Table) -> int:
    return side(shapes, "spynet.basic_module.0.basic_module.0.conv.weight", 0)


def side(shapes: Table, key: str, dim: int) -> int:
    """Raises WeightsError where there is no such tensor, or one without that dimension."""
    shape = shapes.get(key, ())
    if len(shape) <= dim:
        raise WeightsError(f"missing: {key}" if key not in shapes else f"misshapen: {key} {shape}")
    return shape[dim]


def count_blocks(names: Iterable[str], pattern: str) -> int:
    """The largest number that the pattern finds, plus one."""
    return 1 + max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1)


def parse_hyper_parameters(architecture: str, stated: object) -> dict[str, int]:
    if not isinstance(stated, dict):
        raise WeightsError(f"hyper_parameters: expected a JSON object, got {stated!r}")
    for name, value in stated.items():
        if type(value) is not int or not 0 <= value <= HYPER_PARAMETER_LIMIT:
            raise WeightsError(f"{name} of {architecture}: expected 0 to {HYPER_PARAMETER_LIMIT}, got {value!r}")
    return dict(stated)


def check_shapes(shapes: Table, architecture: str, hyper_parameters: Mapping[str, int]) -> None:
    """Raises WeightsError naming what is missing, unexpected and misshapen. Allocates no memory for the network."""
    expected = expected_shapes(architecture, hyper_parameters)
    missing = [name for name in expected if name not in shapes and name not in constants(architecture)]
    unexpected = [f"{name} {list(shapes[name])}" for name in shapes if name not in expected]
    misshapen = [
        f"{name} expected {list(expected[name])}, got {list(shape)}"
        for name, shape in shapes.items()
        if name in expected and expected[name] != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    faults = [f"{kind}: {shorten(names)}" for kind, names in kinds if names]
    if faults:
        arguments = ", ".join(f"{name}={value}" for name, value in hyper_parameters.items())
        raise WeightsError(f"does not fit {architecture}({arguments}); {'; '.join(faults)}")


def expected_shapes(architecture: str, hyper_parameters: Mapping[str, int]) -> dict[str, Shape]:
    with torch.device("meta"):
        network = build(architecture, hyper_parameters)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build(architecture: str, hyper_parameters: Mapping[str, int]) -> AnyNetwork:
    """The network with initial weights. Raises WeightsError for arguments that it does not accept."""
    try:
        return ARCHITECTURES[architecture](**hyper_parameters)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{architecture}: {error}") from error


def constants(architecture: str) -> dict[str, Tensor]:
    """Tensors that some files omit because they never change: SPyNet's mean and standard deviation of images."""
    prefix = SPYNET_PREFIX.get(architecture)
    if prefix is None:
        return {}
    values = {"mean": MEAN, "std": STD}
    return {
        prefix + name: torch.tensor(value, dtype=torch.float32, device="cpu").view(1, 3, 1, 1)
        for name, value in values.items()
    }


def describe_unknown(keys: set[str]) -> str:
    if not keys:
        return "holds no tensors"
    for pattern, network in OTHER_NETWORKS:
        if any(re.search(pattern, key) for key in keys):
            return f"expected {WHOLE_NETWORKS}, got what looks like {network}: {shorten(sorted(keys), 3)}"
    return f"expected {WHOLE_NETWORKS}, got an unknown network: {shorten(sorted(keys), 3)}"


def shorten(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
