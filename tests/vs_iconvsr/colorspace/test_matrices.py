import pytest

from vs_iconvsr.colorspace import matrix_named
from vs_iconvsr.colorspace.matrices import is_supported, luma_weights, matrix_name


@pytest.mark.parametrize("number", [1, 4, 5, 6, 7, 9])
def test_a_supported_matrix_is_found_by_its_name_and_by_its_number(number: int) -> None:
    assert matrix_named(matrix_name(number)) == matrix_named(matrix_name(number).upper()) == number
    assert matrix_named(str(number)) == number
    assert is_supported(number)


def test_an_empty_matrix_name_leaves_the_choice_open() -> None:
    assert matrix_named("") is None


@pytest.mark.parametrize("name", ["ycgco", "8"])
def test_a_known_but_unsupported_matrix_is_refused_by_name_and_number(name: str) -> None:
    with pytest.raises(ValueError, match=r"matrix: expected one of 1 \(709\), .*got 8 \(ycgco\)"):
        matrix_named(name)
    assert not is_supported(8)


@pytest.mark.parametrize("name", ["bt709", "-1", "100"])
def test_an_unknown_matrix_name_is_refused_with_the_names_that_exist(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"matrix: expected one of 709, fcc, .*2020ncl or their H.273 numbers, got {name}"
    ):
        matrix_named(name)


def test_the_weights_of_red_green_and_blue_add_up_to_one() -> None:
    assert luma_weights(1) == pytest.approx((0.2126, 0.7152, 0.0722))
