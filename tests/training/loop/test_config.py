"""Mistakes in a recipe are reported with file, line and key."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from training.loop.config import RecipeError, fingerprint, read
from training.loop.recipe import Recipe, read_recipe

CONFIGS = sorted((Path(__file__).parents[3] / "training" / "configs").glob("*.yaml"))


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rate < 0.0:
            raise ValueError(f"rate: expected at least 0, got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: 3\ninner:\n  rate: 1.0e-4\n  names: [a, b]\n")
    return path


def error_for(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read(path, Outer)
    return str(caught.value)


def test_values_have_their_declared_types(file: Path) -> None:
    assert read(file, Outer) == Outer(steps=3, inner=Inner(rate=1e-4, names=("a", "b")))


def test_an_unknown_key_is_reported_with_its_line_and_a_suggestion(file: Path) -> None:
    message = error_for(file, "steps: 3\ninner:\n  raet: 1.0\n")
    assert message.startswith(f"{file}:3: inner.raet: expected one of rate, names, got no such key; did you mean rate?")


def test_a_wrong_type_is_reported_with_its_line(file: Path) -> None:
    assert error_for(file, "\nsteps: many\n") == f"{file}:2: steps: expected a whole number, got 'many'"


@pytest.mark.parametrize("text", ["steps: 1.5", "steps: true", "steps: '3'", "steps: null"])
def test_no_other_type_is_converted_to_a_whole_number(file: Path, text: str) -> None:
    assert "steps: expected a whole number" in error_for(file, text)


def test_a_missing_key_is_reported(file: Path) -> None:
    assert error_for(file, "inner: {rate: 1}\n") == f"{file}:1: steps: expected a value, got nothing"


def test_a_duplicate_key_is_reported(file: Path) -> None:
    assert error_for(file, "steps: 1\nsteps: 2\n") == f"{file}:2: steps: expected once, got twice"


def test_a_value_out_of_range_is_reported_with_the_line_of_its_group(file: Path) -> None:
    assert ":3: inner.rate: expected at least 0, got -1.0" in error_for(file, "steps: 1\ninner:\n  rate: -1\n")


def test_numbers_in_exponent_notation_without_a_point_are_numbers(file: Path) -> None:
    file.write_text("steps: 1\ninner: {rate: 2e-4}\n")
    assert read(file, Outer).inner.rate == 2e-4


def test_overrides_replace_values_and_are_checked_the_same_way(file: Path) -> None:
    assert read(file, Outer, overrides=["inner.rate=0.25", "steps=7"]) == Outer(
        steps=7, inner=Inner(rate=0.25, names=("a", "b"))
    )
    with pytest.raises(RecipeError, match=r"inner\.rat: expected one of rate, names"):
        read(file, Outer, overrides=["inner.rat=1"])
    with pytest.raises(RecipeError, match=r"--set: expected KEY\.KEY=VALUE, got 'steps'"):
        read(file, Outer, overrides=["steps"])


def test_overrides_create_missing_groups(file: Path) -> None:
    assert read(file, Outer, overrides=["maybe.rate=2"]).maybe == Inner(rate=2.0)


def test_the_fingerprint_covers_every_value(file: Path) -> None:
    assert fingerprint(read(file, Outer)) == fingerprint(read(file, Outer, overrides=["steps=3"]))
    assert fingerprint(read(file, Outer)) != fingerprint(read(file, Outer, overrides=["maybe.rate=0.5"]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_bundled_recipes_are_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert isinstance(recipe, Recipe)
    assert recipe.network is None or recipe.network.build().scale >= 1
