"""What a pass over shards measures, on a CPU or a GPU; results of shards add up.

Invariant: a tensor belongs to one shard, so that norms by tensor never have to be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raylab.reduce.histogram import Magnitudes, Norms
from raylab.reduce.pairwise import Relation

Buckets = Mapping[str, Sequence[int]]
"""By comparison: the buckets whose entries are counted by magnitude."""


@dataclass
class Measured:
    """Norms by comparison and tensor, magnitudes by comparison; results add up."""

    norms: dict[str, dict[str, Norms]] = field(default_factory=dict)
    magnitudes: dict[str, Magnitudes] = field(default_factory=dict)
    squares: dict[str, dict[str, float]] = field(default_factory=dict)
    """Sum of squares of weights, by model and tensor, for relative norms."""
    relation: Relation = field(default_factory=Relation)
    non_finite: int = 0
    bytes_read: int = 0

    def add(self, pair: str, tensor: str, found: Magnitudes) -> None:
        """Take in one tensor of one comparison."""
        self.norms.setdefault(pair, {})[tensor] = found.norms
        self.magnitudes.setdefault(pair, Magnitudes()).merge(found)

    def merge(self, other: Measured) -> None:
        """Take in the results of another shard."""
        for pair, tensors in other.norms.items():
            self.norms.setdefault(pair, {}).update(tensors)
            self.magnitudes.setdefault(pair, Magnitudes()).merge(other.magnitudes[pair])
        for key, squares in other.squares.items():
            self.squares.setdefault(key, {}).update(squares)
        self.relation.merge(other.relation)
        self.non_finite += other.non_finite
        self.bytes_read += other.bytes_read
