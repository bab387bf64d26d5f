from pathlib import Path

import pytest

from vs_iconvsr import weights
from vs_iconvsr.weights.catalogue import DEFAULT_MODEL, OFFICIAL, bundled_files, locate, models_directory


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICONVSR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_the_published_files_are_known_by_address_and_hash() -> None:
    assert list(OFFICIAL) == [
        *("iconvsr_reds4", "iconvsr_vimeo90k_bi", "iconvsr_vimeo90k_bd"),
        *("basicvsr_reds4", "basicvsr_vimeo90k_bi", "basicvsr_vimeo90k_bd"),
        *("basicvsrpp_reds4", "basicvsrpp_vimeo90k_bi", "basicvsrpp_vimeo90k_bd", "basicvsrpp_ntire_vsr"),
        *(f"basicvsrpp_ntire_decompress{track}" for track in (1, 2, 3)),
        *("realbasicvsr", "realbasicvsr_wogan"),
        *("spynet", "edvrm_reds", "edvrm_vimeo90k"),
    ]
    assert OFFICIAL["iconvsr_reds4"].address == "iconvsr/iconvsr_reds4_20210413-9e09d621.pth"
    assert OFFICIAL["iconvsr_reds4"].sha256_prefix == "9e09d621"
    assert all(len(official.sha256_prefix) == 8 for official in OFFICIAL.values())


def test_official_files_are_stored_where_iconvsr_models_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICONVSR_MODELS", "/somewhere")
    assert models_directory() == Path("/somewhere")


def test_without_iconvsr_models_official_files_are_stored_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICONVSR_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert models_directory() == Path("/cache/vs_iconvsr/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert models_directory() == Path("/home/someone/.cache/vs_iconvsr/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_directory() == Path("/home/someone/.cache/vs_iconvsr/models")


def test_an_official_model_that_is_missing_names_the_download_command(models: Path) -> None:
    with pytest.raises(weights.WeightsError) as caught:
        weights.load("iconvsr_reds4")
    message = str(caught.value)
    assert "iconvsr models download iconvsr_reds4" in message
    assert "https://download.openmmlab.com/mmediting/restorers/iconvsr/iconvsr_reds4_20210413-9e09d621.pth" in message
    assert "about 35 MB" in message
    assert "sha256 9e09d621" in message
    assert str(models) in message


def test_an_official_file_that_is_another_is_refused(models: Path) -> None:
    (models / OFFICIAL["spynet"].file_name).write_bytes(b"something else")
    with pytest.raises(weights.WeightsError, match=r"sha256: expected c6c1bd09…, got .*not the published spynet"):
        weights.load_part("spynet")


def test_an_unknown_name_lists_the_names_and_the_closest() -> None:
    with pytest.raises(weights.WeightsError, match=r"got 'iconvsr_red4'. Did you mean 'iconvsr_reds4'\?.*edvrm_reds"):
        weights.load("iconvsr_red4")


@pytest.mark.parametrize("suffix", ["", ".pth", "/x"])
def test_a_name_that_is_too_long_for_a_file_is_an_error_of_the_usual_form(suffix: str) -> None:
    expected = "expected a name or the path of a weight file, got 'aaaa" if not suffix else "aa.*: cannot be read: "
    with pytest.raises(weights.WeightsError, match=expected) as raised:
        weights.load("a" * 5000 + suffix)
    assert suffix or len(str(raised.value)) < 600


def test_a_file_may_be_named_with_or_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").touch()
    assert locate("mine") == Path("mine")
    assert locate("./mine") == Path("mine")
    assert locate("mine.pth") == Path("mine.pth")
    assert locate(Path("light")) == Path("light")


def test_available_lists_every_model_with_its_path_and_origin(models: Path) -> None:
    (models / OFFICIAL["spynet"].file_name).touch()
    available = {model.name: model for model in weights.available()}
    assert set(available) == {*bundled_files(), *OFFICIAL}
    assert available["spynet"].path == models / OFFICIAL["spynet"].file_name
    assert available["iconvsr_reds4"].path is None
    assert available["iconvsr_reds4"].origin == "official"


def test_the_default_model_is_bundled_and_loads() -> None:
    if DEFAULT_MODEL not in bundled_files():
        pytest.skip("the default model is not trained yet")
    assert weights.available()[0].name == DEFAULT_MODEL
    assert weights.load(DEFAULT_MODEL).scale == 4
    assert len(weights.fingerprint(DEFAULT_MODEL)) == 64


def test_without_a_home_directory_names_are_listed_and_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "ICONVSR_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    listed = weights.available()
    assert {"light", "iconvsr_reds4"} <= {model.name for model in listed}
    assert not any(model.path for model in listed if model.origin == "official")
    assert weights.locate("light").is_file()
    for model in ("iconvsr_reds4", "~/own.pth"):
        with pytest.raises(weights.WeightsError, match=r"^model: expected a home directory .*set .*ICONVSR_MODELS"):
            weights.locate(model)
