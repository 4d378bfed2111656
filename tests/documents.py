"""Documents of any kind that is allowed, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from pipeline.strict_json import MAX_INTEGER

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5)
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=6)
