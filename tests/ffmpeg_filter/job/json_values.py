"""What a JSON file may hold in place of what we wrote, as hypothesis strategies."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def changed(values: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """The values with one replaced by anything, or left out, or with one more; or anything at all."""
    names = st.sampled_from(sorted(values))
    replaced = st.builds(lambda name, value: {**values, name: value}, names, ANY)
    left_out = names.map(lambda name: {other: value for other, value in values.items() if other != name})
    added = st.builds(lambda name, value: {**values, name: value}, st.text(min_size=1, max_size=8), ANY)
    return replaced | left_out | added | ANY
