"""What a rule of a method that looks at a whole tensor gets, and what it gives.

Model: a rule measures the pieces of a tensor in one pass or several, and combines each piece
(`raylab.merge.whole_tensors`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raylab.merge.compiled_blocks import Combining
from raylab.merge.compiled_rows import Words
from raylab.merge.directions import Array, Parameters
from raylab.merge.thread_memory import Memory


@dataclass(frozen=True)
class Rows:
    """Some rows of one tensor: of each model, and of the base.

    models: float32 (models, entries), values or task vectors; a rule sets to zero what it leaves
    out. base: float32 (entries,); moves: float64 (entries,), for the result. bounds: of the rows.
    is_vector: the tensor has one dimension, and so one row. width: how many entries differ in the
    tensor's last index alone. parameters: the method's own, of this tensor; own: those of each
    model.
    """

    models: Array
    base: Array
    moves: Array
    bounds: tuple[int, int]
    is_vector: bool
    width: int
    method: str
    parameters: Parameters
    own: Sequence[Parameters]

    @property
    def matrices(self) -> Array:
        """float32 (models, rows, columns)."""
        return self.models.reshape(len(self.models), self.bounds[1] - self.bounds[0], -1)


Measure = Callable[[Rows], Array]
"""What a piece says."""


MeasureWords = Callable[[Words, Memory, Array], Array]
"""What a piece of bfloat16 says, with memory of the thread. It adds the number of entries that are
not finite to the last array, int64 (models,)."""


class Passes(Protocol):
    """A pass over a tensor."""

    def __call__(
        self, measure: Measure, share: int = 1, of_words: MeasureWords | None = None
    ) -> list[Array]:
        """What each of its pieces says, in their order; of each piece, one row of `share`.
        of_words: says the same, and is asked in its place where pieces are bfloat16."""


@dataclass(frozen=True)
class TensorRule:
    """conclude: what the combination needs, of a pass or several over the tensor, the models'
    weights and the method's parameters. combine: writes what is added to the base or, for values,
    the result, into `moves` of the rows. by_entry: the same combination where it treats entries one
    by one, of what is concluded, the number of models and the parameters; None where it looks at
    rows."""

    combine: Callable[[Rows, Array | None], None]
    conclude: Callable[[Passes, Array, Parameters], Array] | None = None
    by_entry: Callable[[Array | None, int, Parameters], Combining | None] | None = None
