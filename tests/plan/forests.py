"""Random trials with parents, and how long each takes."""

from hypothesis import strategies as st


@st.composite
def forests(draw, most):
    """(parents, durations), parents first; some parents are done already."""
    parents, durations = {}, {}
    for index in range(draw(st.integers(1, most))):
        choices = [None, "done", *parents]
        parents[f"t{index}"] = draw(st.sampled_from(choices))
        durations[f"t{index}"] = draw(st.integers(1, 9))
    return parents, durations
