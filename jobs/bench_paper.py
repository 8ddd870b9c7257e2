"""How long studies that nobody ran would take: arithmetic with named assumptions, on paper.

Model: each model, and the base, is read once (twice where no threshold was foreseen), shard by
shard; every model is compared with its base, and all pairs of models go through matrix products
over the tiles. Reading overlaps with the arithmetic, so the longer of the two counts. Messages
do not grow with the model: a shard sends moments and candidates of each comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# What the extrapolation assumes. Not measured here.
BYTES_PER_PARAMETER = 2  # bf16
READ_PER_GPU = 2e9  # bytes/s: a GPU's share of local NVMe or of a parallel file system
ENTRIES_PER_GPU = 1e10  # entries/s that one GPU subtracts, sums and counts for a comparison
FLOPS_PER_GPU = 3e13  # float32 operations/s of matrix products, without tf32
PRODUCTS = 3  # for all pairs: values, signs, masks at one density
SHARDS_PER_GPU = 4
DENSITIES = 5
# One comparison from one shard, at most: moments 1 MiB, candidates of each density 1 MiB.
BYTES_PER_MESSAGE = (1 + DENSITIES) << 20
STUDIES = {"20 models of 8B": (20, 8.0e9), "100 models of 70B": (100, 70.6e9)}


@dataclass(frozen=True)
class Extrapolated:
    """A study on paper: bytes read once, messages in all, seconds of each part."""

    read_bytes: float
    messages: int
    message_bytes: float
    reading: float
    comparing: float
    multiplying: float

    @property
    def minutes(self) -> float:
        """Reading overlaps with the arithmetic of the tiles that are there."""
        return max(self.reading, self.comparing + self.multiplying) / 60


def extrapolated(models: int, parameters: float, gpus: int) -> Extrapolated:
    """Every model against its base, and all pairs through matrix products."""
    read = (models + 1) * parameters * BYTES_PER_PARAMETER
    messages = gpus * SHARDS_PER_GPU
    return Extrapolated(
        read,
        messages,
        messages * models * BYTES_PER_MESSAGE,
        read / (gpus * READ_PER_GPU),
        models * parameters / (gpus * ENTRIES_PER_GPU),
        PRODUCTS * 2 * models**2 * parameters / (gpus * FLOPS_PER_GPU),
    )


def extrapolation() -> str:
    lines = [
        "| study, on paper | GPUs | read once | read twice | messages | reading | comparing "
        "| all pairs | minutes, once | twice |",
        "|---|" + "---:|" * 9,
    ]
    for name, (models, parameters) in STUDIES.items():
        for gpus in (8, 64):
            one = extrapolated(models, parameters, gpus)
            two = replace(one, reading=2 * one.reading, comparing=2 * one.comparing)
            lines.append(
                f"| {name} | {gpus} | {one.read_bytes / 1e12:.2f} TB | "
                f"{2 * one.read_bytes / 1e12:.2f} TB | "
                f"{one.messages}, {one.message_bytes / 1e9:.1f} GB | {one.reading:.0f} s | "
                f"{one.comparing:.0f} s | {one.multiplying:.0f} s | "
                f"{one.minutes:.2f} | {two.minutes:.2f} |"
            )
    return "\n".join(lines)
