"""What a merge of adapters writes where it is asked for an adapter: its rank, or its energy.

Model: METHODS in EXACT add up what the adapters add, each times a number. Such a merge is an
adapter whose rank is the sum of theirs, and loses nothing. Any other merge is written as the best
approximation of a rank, for each tensor: a rank that is given, or the smallest that keeps a share
of the energy (the sum of squared singular values). Given neither, the rank is the sum of the
adapters' ranks, which is what an exact merge of them has.
Invariant: an AdapterOutput can be carried out for tensors that are large enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from raylab.errors import InputError

EXACT = ("linear", "task_arithmetic")
"""The methods whose result is a sum of the adapters, each times a number."""
FORMS = ("model", "adapter")


@dataclass(frozen=True)
class AdapterOutput:
    """The rank of every tensor, or the share of its energy that is kept; at most one of them."""

    rank: int | None = None
    energy: float | None = None

    @property
    def is_cut(self) -> bool:
        """Whether a rank or an energy was asked for."""
        return self.rank is not None or self.energy is not None


def adapter_output(
    form: str | None, rank: int | None = None, energy: float | None = None
) -> AdapterOutput | None:
    """What to write; None for a whole model. `form`: one of FORMS, None for a model.

    Raises InputError.
    """
    if form not in (None, *FORMS):
        raise InputError(
            "a merge is written in another form", found=form, expected="model, adapter"
        )
    given = {"rank": rank, "energy": energy}
    named = [f"{name} {value}" for name, value in given.items() if value is not None]
    if form != "adapter":
        if named:
            raise InputError(
                "only an adapter has a rank and an energy",
                found=", ".join(named),
                expected="--as adapter beside it, in a study `as: adapter`",
            )
        return None
    if len(named) > 1:
        raise InputError(
            "a rank and an energy exclude each other",
            found=", ".join(named),
            expected="one of them: a rank for all tensors, or what each tensor's rank has to keep",
        )
    if rank is not None and rank < 1:
        raise InputError(
            "the rank of an adapter is out of range", found=f"rank {rank}", expected="at least 1"
        )
    if energy is not None and not 0 < energy <= 1:
        raise InputError(
            "the energy of an adapter is out of range",
            found=f"energy {energy:g}",
            expected="in (0, 1]; 0.99 keeps 99 % of each tensor's squared singular values",
        )
    return AdapterOutput(rank, energy)
