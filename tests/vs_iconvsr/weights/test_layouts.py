import pytest

from tests.vs_iconvsr.weights.files_of_others import KEYS, TO_BASICSR
from vs_iconvsr.weights.layouts import architecture_of, expected_shapes, infer_hyper_parameters, our_name


def shapes(table: str) -> dict[str, tuple[int, ...]]:
    return {our_name(key): tuple(shape) for key, shape in KEYS[table].items()}


def test_every_basicsr_name_becomes_the_mmagic_name_that_its_authors_meant() -> None:
    assert {theirs: our_name(theirs) for theirs in TO_BASICSR.values()} == {
        theirs: ours for ours, theirs in TO_BASICSR.items()
    }


def test_mmagic_names_stay_as_they_are() -> None:
    for table in KEYS:
        if table.startswith("mmagic"):
            assert [our_name(key) for key in KEYS[table]] == list(KEYS[table])


@pytest.mark.parametrize(
    ("table", "ours"),
    [
        ("basicsr_iconvsr", "mmagic_iconvsr_net"),
        ("basicsr_basicvsr", "mmagic_basicvsr_net"),
        ("basicsr_spynet_file", "mmagic_spynet_file"),
        ("sniklaus_spynet_moduleBasic_old", "mmagic_spynet_file"),
        ("sniklaus_spynet_netBasic", "mmagic_spynet_file"),
        ("basicsr_edvr_feature_extractor", "mmagic_edvr_feature_extractor"),
    ],
)
def test_whole_tables_of_other_layouts_become_ours(table: str, ours: str) -> None:
    assert shapes(table) == shapes(ours)


@pytest.mark.parametrize(
    ("table", "architecture", "hyper_parameters"),
    [
        (
            "mmagic_iconvsr_net_vimeo_padding3",
            "IconVSR",
            {
                "mid_channels": 64,
                "num_blocks": 30,
                "temporal_padding": 3,
                "edvr_channels": 64,
                "scale": 4,
                "flow_channels": 32,
            },
        ),
        (
            "basicsr_basicvsr",
            "BasicVSR",
            {"mid_channels": 64, "num_blocks": 30, "scale": 4, "flow_channels": 32},
        ),
        (
            "mmagic_basicvsrpp_c64n7_net",
            "BasicVSRPlusPlus",
            {"mid_channels": 64, "num_blocks": 7, "scale": 4, "flow_channels": 32},
        ),
        (
            "mmagic_basicvsrpp_same_c16n2_net",
            "BasicVSRPlusPlus",
            {"mid_channels": 16, "num_blocks": 2, "scale": 1, "flow_channels": 32},
        ),
        (
            "mmagic_realbasicvsr_c64n20k20_net",
            "RealBasicVSR",
            {"mid_channels": 64, "num_blocks": 20, "cleaning_blocks": 20, "scale": 4, "flow_channels": 32},
        ),
        ("sniklaus_spynet_netBasic", "SPyNet", {"channels": 32}),
        (
            "mmagic_edvr_feature_extractor",
            "EDVRFeatureExtractor",
            {"num_frames": 5, "channels": 64, "num_blocks": 5},
        ),
    ],
)
def test_hyper_parameters_are_read_from_keys_and_shapes(
    table: str, architecture: str, hyper_parameters: dict[str, int]
) -> None:
    assert architecture_of(shapes(table)) == architecture
    assert infer_hyper_parameters(architecture, shapes(table)) == hyper_parameters


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 1},
        {"scale": 2},
        {"mid_channels": 24, "num_blocks": 3},
        {"edvr_channels": 16, "temporal_padding": 3},
        {"flow_channels": 8},
    ],
)
def test_hyper_parameters_of_our_own_widths_are_read_back(arguments: dict[str, int]) -> None:
    whole = {
        "mid_channels": 8,
        "num_blocks": 1,
        "edvr_channels": 8,
        "temporal_padding": 2,
        "scale": 4,
        "flow_channels": 4,
        **arguments,
    }
    assert infer_hyper_parameters("IconVSR", expected_shapes("IconVSR", whole)) == whole
