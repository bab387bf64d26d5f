"""Weight files as MMagic, BasicSR and others write them, around a network of ours."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

KEYS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "keys.json").read_text())
TO_BASICSR: dict[str, str] = KEYS["map_mmagic_to_basicsr_iconvsr"]

State = Mapping[str, Tensor]


def prefixed(prefix: str, state: State) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + key, value) for key, value in state.items())


def basicsr(state: State) -> OrderedDict[str, Tensor]:
    # BasicVSR's `fusion` has the name that it has with us; its other keys are among IconVSR's.
    return OrderedDict((TO_BASICSR.get(key, key), value) for key, value in state.items())


def mmagic(state: State) -> dict[str, Any]:
    meta = {"iter": 300000, "time": "Tue Apr 13", "config": "model = dict(...)\n" * 100, "CLASSES": None, "lr": [2e-4]}
    return {"meta": meta, "state_dict": {**prefixed("generator.", state), "step_counter": torch.zeros(1)}}


def without_constants(state: State) -> OrderedDict[str, Tensor]:
    return OrderedDict((key, value) for key, value in state.items() if not key.endswith(("spynet.mean", "spynet.std")))


def trained_further(state: State) -> dict[str, Any]:
    parameter = next(iter(state.values()))
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.ones_like(parameter)}
    groups = [{"lr": 2e-4, "betas": (0.9, 0.99), "params": [0]}]
    return {**mmagic(state), "optimizer": {"state": {0: moments}, "param_groups": groups}}


# What they write: name of the layout → how it looks, given the tensors under our names.
LAYOUTS: dict[str, Callable[[State], Any]] = {
    "mmagic": mmagic,
    "mmagic, plain counter": lambda state: {"state_dict": {**prefixed("generator.", state), "step_counter": 300000}},
    "mmagic, averaged": lambda state: {
        "state_dict": {
            **prefixed("generator.", {key: value + 1 for key, value in state.items()}),
            **prefixed("generator_ema.", state),
        }
    },
    "mmagic, no constants": lambda state: mmagic(without_constants(state)),
    "mmagic, with an optimizer": trained_further,
    "basicsr": lambda state: {"params": basicsr(state)},
    "basicsr, both": lambda state: {
        "params_ema": basicsr({key: value + 1 for key, value in state.items()}),
        "params": basicsr(state),
    },
    "basicsr, averaged": lambda state: {"params_ema": basicsr(state)},
    "distributed": lambda state: {"state_dict": prefixed("module.", state)},
    "plain": OrderedDict,
    "parameters": lambda state: OrderedDict((key, nn.Parameter(value.clone())) for key, value in state.items()),
}


def write(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
