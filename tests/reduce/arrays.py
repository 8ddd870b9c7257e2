"""Arrays that norms are tried on."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LARGEST = float(np.finfo(np.float32).max)


def _bf16(values):
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _made(kind, seed, size):
    random = np.random.default_rng(seed)
    normal = random.standard_normal(size).astype(np.float32)
    return {
        "normal": lambda: normal * np.float32(1e-3),
        "sparse": lambda: np.where(random.random(size) < 0.9, np.float32(0), normal),
        "tied": lambda: _bf16(normal),
        "very tied": lambda: random.choice(np.float32([0, 0.5, -0.5, 1, 1.0000001]), size),
        "tiny": lambda: random.integers(-300, 300, size).astype(np.float32) * np.float32(1.4e-45),
        "huge": lambda: normal * np.float32(1e30),
        "equal": lambda: np.full(size, normal[0] if size else 0, np.float32),
        "zero": lambda: np.where(normal > 0, np.float32(0), np.float32(-0.0)),
        "wide": lambda: normal * np.float32(10) ** random.integers(-38, 38, size),
        "one bucket": lambda: np.float32(1) + random.integers(0, 65536, size) * np.float32(2**-23),
    }[kind]().astype(np.float32)


KINDS = ("normal", "sparse", "tied", "very tied", "tiny", "huge", "equal", "zero", "wide",
         "one bucket")  # fmt: skip


def arrays(smallest=0, largest=200):
    """Any float32 array that is finite: made of a kind, or found by hypothesis."""
    made = st.builds(
        _made, st.sampled_from(KINDS), st.integers(0, 2**16), st.integers(smallest, largest)
    )
    finite = st.floats(-LARGEST, LARGEST, width=32)
    found = hnp.arrays(np.float32, st.integers(smallest, 40), elements=finite)
    edge = np.float32([0, 1.4e-45, 1.1754942e-38, 1.1754944e-38, 1, LARGEST])
    edges = hnp.arrays(np.float32, st.integers(smallest, 20), elements=st.sampled_from(edge))
    return made | found | edges
