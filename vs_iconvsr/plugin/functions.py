"""The functions of core.iconvsr: two filters, and three that answer with text."""

import json
from dataclasses import asdict

import torch

import vs_iconvsr
from vs_iconvsr import plan, weights
from vs_iconvsr.plugin.arguments import Arguments, Clip, Log, upscaling
from vs_iconvsr.plugin.scene_detect import SceneDetectFilter
from vs_iconvsr.plugin.upscale import UpscaleFilter


def call(
    function: str, clip: Clip | None, arguments: Arguments, threads: int, log: Log
) -> UpscaleFilter | SceneDetectFilter | dict[str, list[str]]:
    """One call of a function of core.iconvsr. threads: the core's. log(level, text) writes to the core's log."""
    if function == "Models":
        return _models()
    if function == "Version":
        return _version()
    assert clip is not None
    if function == "Plan":
        return _plan(clip, arguments)
    if function == "SceneDetect":
        return SceneDetectFilter(clip, arguments)
    return UpscaleFilter(clip, arguments, threads, log)


def _plan(clip: Clip, arguments: Arguments) -> dict[str, list[str]]:
    """What Upscale would do with the same arguments, as JSON; "text" in it is the line that it logs."""
    asked = upscaling(clip, arguments)
    settled = plan.plan_for(asked.settings, asked.network, asked.width, asked.height)
    return {"json": [json.dumps({"text": settled.describe()} | asdict(settled))]}


def _models() -> dict[str, list[str]]:
    models = weights.available()
    return {"name": [model.name for model in models], "description": [model.description for model in models]}


def _version() -> dict[str, list[str]]:
    return {"version": [vs_iconvsr.__version__], "torch": [torch.__version__], "devices": plan.devices_here()}
