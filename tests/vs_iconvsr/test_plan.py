"""The plan: a pure function of size, network, arguments and kind of device; what cannot be is refused by name."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vs_iconvsr import options, plan
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR
from vs_iconvsr.plan import GIB, Settings, plan_for


def settings(**changes: object) -> Settings:
    return dataclasses.replace(Settings(device="cpu", threads=2), **changes)


def test_a_plan_does_not_ask_what_is_free(tiny_network: VideoNetwork) -> None:
    before = plan_for(settings(), tiny_network, 720, 576)
    ballast = torch.ones(GIB // 4)
    assert plan_for(settings(), tiny_network, 720, 576) == before
    del ballast


def test_the_default_budget_is_a_power_of_two_of_gib(tiny_network: VideoNetwork) -> None:
    gib = plan_for(settings(), tiny_network, 64, 64).memory_bytes // GIB
    assert gib & (gib - 1) == 0


def test_whole_frames_where_they_fit_and_tiles_where_they_do_not() -> None:
    network = LightVSR()
    assert plan_for(settings(memory_bytes=16 * GIB), network, 640, 480).tile == (0, 0)
    small = plan_for(settings(memory_bytes=GIB), network, 1920, 1080)
    assert small.tile != (0, 0)
    assert small.working_bytes < GIB


@pytest.mark.parametrize(("width", "height"), [(17, 2), (2, 300), (1, 1), (4000, 30)])
def test_frames_of_any_shape_are_planned_whole_where_they_fit(
    tiny_network: VideoNetwork, width: int, height: int
) -> None:
    assert plan_for(settings(), tiny_network, width, height).tile == (0, 0)


def test_tiles_that_do_not_fit_at_any_size_are_an_error_naming_memory() -> None:
    network = LightVSR(mid_channels=512, num_blocks=1)
    with pytest.raises(ValueError, match=r"^memory: expected enough .* memory="):
        plan_for(settings(memory_bytes=GIB // 4, halo=64), network, 640, 480)


def test_the_description_names_what_shapes_pixels(tiny_network: VideoNetwork) -> None:
    text = plan_for(settings(segment=7, context=2, tile=(64, 0), halo=9), tiny_network, 200, 100).describe()
    for part in ("7 frames + 2", "64x0 + 9 px", "float32", "cpu", "2 threads"):
        assert part in text
    assert "\n" not in text


def test_the_fingerprint_holds_what_shapes_pixels_and_nothing_that_does_not(tiny_network: VideoNetwork) -> None:
    one = plan_for(settings(memory_bytes=4 * GIB), tiny_network, 64, 64).fingerprint()
    assert one == plan_for(settings(memory_bytes=8 * GIB), tiny_network, 64, 64).fingerprint()
    for change in ({"segment": 9}, {"context": 1}, {"tile": (64, 64)}, {"halo": 1}, {"threads": 1}, {"dither": "none"},
                   {"matrix": 1}, {"sc_threshold": 0.5}, {"scene_detect": False}, {"strength": 0.5},
                   {"strengths": ((9, 0.5),)}):  # fmt: skip
        assert plan_for(settings(**change), tiny_network, 64, 64).fingerprint() != one


def real(cleaning: int = 1) -> RealBasicVSR:
    return RealBasicVSR(mid_channels=4, num_blocks=1, cleaning_blocks=1, flow_channels=2, cleaning=cleaning)


def test_frames_are_cleaned_as_often_as_the_model_does_unless_the_user_says() -> None:
    assert plan_for(settings(), real(), 64, 64).cleaning == 1
    assert plan_for(settings(), real(cleaning=2), 64, 64).cleaning == 2
    assert plan_for(settings(cleaning=3), real(cleaning=2), 64, 64).cleaning == 3
    assert plan_for(settings(cleaning=3), real(), 64, 64).shape(64, 64).cleaning == 3


def test_cleaning_is_part_of_the_fingerprint_and_the_description() -> None:
    once, twice = (plan_for(settings(cleaning=count), real(), 64, 64) for count in (1, 2))
    assert once.fingerprint() != twice.fingerprint()
    assert "cleaning 2 of 3" in twice.describe()


def test_cleaning_by_a_model_that_does_not_is_refused(tiny_network: VideoNetwork) -> None:
    assert plan_for(settings(), tiny_network, 64, 64).cleaning == 0
    assert "cleaning" not in plan_for(settings(), tiny_network, 64, 64).describe()
    with pytest.raises(ValueError, match=r"^cleaning: expected a model that cleans .* got a LightVSR; leave cleaning="):
        plan_for(settings(cleaning=1), tiny_network, 64, 64)


def test_the_description_says_when_the_size_is_kept() -> None:
    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=1)
    assert "whole frames, the size is kept, float32" in plan_for(settings(), network, 64, 64).describe()
    assert "the size is kept" not in plan_for(settings(), real(), 64, 64).describe()


def test_the_plan_counts_what_waits_for_every_later_pass() -> None:
    """Features and a flow, or spatial features, those of three passes and the flows both ways; at scale 1 with a
    quarter of the sides."""
    two, four = (network(mid_channels=8, num_blocks=1) for network in (BasicVSR, BasicVSRPlusPlus))
    same_size = BasicVSRPlusPlus(mid_channels=8, num_blocks=1, scale=1)
    assert [network.stored_values for network in (two, four, same_size)] == [8, 4 * 8, 2]
    assert [network.stored_flow_values for network in (two, four, same_size)] == [2, 4, 1]
    frame_bytes = [plan_for(settings(), network, 256, 256).frame_bytes for network in (two, four, same_size)]
    assert frame_bytes == [256**2 * (4 * values + 12) for values in (8 + 2, 4 * 8 + 4, 2 + 1)]
    assert plan_for(settings(), same_size, 30, 20).frame_bytes == frame_bytes[2]  # padded to 256 px


def test_strengths_hold_from_their_first_frame_to_the_next(tiny_network: VideoNetwork) -> None:
    plan = plan_for(settings(strength=0.8, strengths=((3, 0.5), (7, 1.0))), tiny_network, 64, 64)
    assert [plan.strength_of(n) for n in (0, 2, 3, 6, 7, 99)] == [0.8, 0.8, 0.5, 0.5, 1.0, 1.0]
    assert "strength by scene from 0.5" in plan.describe()


def test_strengths_are_distinct_in_the_fingerprint_and_take_memory(tiny_network: VideoNetwork) -> None:
    plans = [plan_for(settings(strengths=s), tiny_network, 64, 64) for s in ((), ((9, 0.5),), ((9, 0.6),), ((8, 0.5),))]
    assert len({str(plan.fingerprint()) for plan in plans}) == 4
    assert "strengths" not in plans[0].fingerprint()
    half = plan_for(settings(strength=0.5), tiny_network, 64, 64)
    assert plans[0].working_bytes < plans[1].working_bytes == half.working_bytes


def test_the_description_names_a_strength_below_one(tiny_network: VideoNetwork) -> None:
    assert "strength 0.5" in plan_for(settings(strength=0.5), tiny_network, 64, 64).describe()
    assert "strength" not in plan_for(settings(), tiny_network, 64, 64).describe()


def test_threads_follow_omp_num_threads(tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert plan_for(settings(threads=None), tiny_network, 64, 64).threads == 3


def test_auto_selects_the_best_device_and_the_cpu_is_always_available() -> None:
    assert plan.devices_here()[-1] == "cpu"
    assert [str(device) for device in plan.devices_named("auto")] == plan.devices_here()[:1]
    assert plan.devices_named("cpu,cpu") == [torch.device("cpu")] * 2


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cpu,,cpu"])
def test_a_missing_device_is_an_error_that_names_what_is_there(name: str) -> None:
    with pytest.raises(ValueError, match=r"^device: expected auto or some of .*cpu, got"):
        plan.devices_named(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment": -2}, "segment"),
        ({"context": -1}, "context"),
        ({"threads": 0}, "threads"),
        ({"sc_threshold": 0.0}, "sc_threshold"),
        ({"dither": "blue"}, "dither"),
        ({"precision": "fp4"}, "precision"),
        ({"tile": (8, 8)}, "tile"),
        ({"halo": -1}, "halo"),
        ({"memory_bytes": 1000}, "memory"),
        ({"cleaning": 4}, "cleaning"),
        ({"strength": 1.5}, "strength"),
        ({"strengths": ((0, 1.5),)}, "strength"),
        ({"strengths": ((5, 0.5), (4, 1.0))}, "strengths"),
    ],
)
def test_impossible_values_are_refused_by_name(
    tiny_network: VideoNetwork, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{message}: expected .* got"):
        plan_for(settings(**change), tiny_network, 64, 64)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_devices_of_different_models_are_refused_by_name(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pretend_gpus(monkeypatch, kind, ["Alpha 1", "Beta 2"])
    with pytest.raises(ValueError, match=rf"^device: expected .* got {kind}:0 \(Alpha 1\) and {kind}:1 \(Beta 2\)"):
        plan_for(settings(device=f"{kind}:0,{kind}:1"), tiny_network, 64, 64)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_the_fingerprint_names_the_model_of_the_devices_not_their_number(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pretend_gpus(monkeypatch, kind, ["Alpha 1", "Alpha 1"])
    both = plan_for(settings(device=f"{kind}:0,{kind}:1", precision="float32"), tiny_network, 64, 64)
    assert both.devices == (f"{kind}:0", f"{kind}:1")
    assert both.fingerprint()["devices"] == ["Alpha 1"]


@pytest.mark.parametrize(("reported_gib", "budget_gib"), [(16.0, 14.0), (11.76, 10.5), (7.79, 7.0), (0.4, 0.875)])
def test_the_budget_of_a_gpu_is_seven_eighths_of_what_its_label_says(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch, reported_gib: float, budget_gib: float
) -> None:
    pretend_gpus(monkeypatch, "xpu", ["Alpha 1"], memory_gib=reported_gib)
    assert plan_for(settings(device="xpu"), tiny_network, 64, 64).memory_bytes == budget_gib * GIB


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    names: list[str],
    *,
    memory_gib: float = 16,
    capability: tuple[int, int] = (8, 6),
) -> None:
    """GPUs of these names, as far as torch reports them."""
    module = {"cuda": torch.cuda, "xpu": torch.xpu}[kind]
    monkeypatch.setattr(module, "is_available", lambda: True)
    monkeypatch.setattr(module, "device_count", lambda: len(names))
    monkeypatch.setattr(module, "get_device_name", lambda device: names[torch.device(device).index])
    total = SimpleNamespace(total_memory=int(memory_gib * GIB))
    monkeypatch.setattr(module, "get_device_properties", lambda _: total)
    monkeypatch.setattr(module, "get_device_capability", lambda _: capability)


def test_a_short_name_of_a_precision_is_planned_in_full(tiny_network: VideoNetwork) -> None:
    assert plan_for(settings(precision="fp32"), tiny_network, 64, 64).precision == "float32"


@pytest.mark.parametrize("gib", [0.25, 0.5, 1.5, 2.5, 16])
def test_the_budget_is_printed_as_it_was_given(tiny_network: VideoNetwork, gib: float) -> None:
    assert plan_for(settings(memory_bytes=round(gib * GIB)), tiny_network, 64, 64).describe().endswith(f" {gib} GiB")


def test_a_precision_that_the_device_has_no_arithmetic_for_is_refused(tiny_network: VideoNetwork) -> None:
    with pytest.raises(ValueError, match=r"^precision: expected float32 on the CPU, .* got bfloat16"):
        plan_for(settings(precision="bfloat16"), tiny_network, 64, 64)


ANY_VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers())
# "cpu" alone: what "auto" and others mean depends on the machine.
SETTING_NAMES = sorted({option.name for option in options.OPTIONS} - {"model", "format", "auto_download", "device"})


@given(name=st.sampled_from(SETTING_NAMES), value=ANY_VALUE | st.integers(-1, 70) | st.sampled_from(["none", "709"]))
def test_any_value_of_a_setting_is_planned_or_refused_by_name(
    tiny_network: VideoNetwork, name: str, value: object
) -> None:
    try:
        chosen = Settings.from_options({"device": "cpu", "threads": 2, name: value})
        plan_for(chosen, tiny_network, 48, 32)
    except ValueError as error:
        assert str(error).startswith(f"{name}: expected")  # noqa: PT017 - either is right


@pytest.mark.parametrize("requested", ["0", "99999999999999999999", "many", "4096"])
def test_a_number_of_threads_that_torch_cannot_start_is_not_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", requested)
    assert 1 <= plan.usual_threads() <= options.MAX_THREADS
