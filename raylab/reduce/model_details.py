"""The details of single models in a shard: spectra, the parts of chains, the precision audit.

Model: `detail` goes through the trained models of a job, one after another, over the tensors of
a shard; the parts of shards are dictionaries of disjoint tensors, and add up.
Invariant: a model that has no adapters (a checkpoint, the base model) has no details; one that is
no chain has no parts of a chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.reduce.audit import AuditSums, audit_parts, audit_rows
from raylab.reduce.chains import ChainSums, chain_parts, chain_rows
from raylab.reduce.spectra import spectra_of
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.names import natural_order
from raylab.weights.views import ViewedModel

Row = dict[str, Any]


@dataclass
class Details:
    """By model: rows of spectra, and sums of chains and audits by tensor."""

    spectra: dict[str, list[Row]] = field(default_factory=dict)
    chains: dict[str, dict[str, ChainSums]] = field(default_factory=dict)
    audits: dict[str, dict[str, AuditSums]] = field(default_factory=dict)

    def merge(self, other: Details) -> None:
        """Add the results of another shard."""
        for key, rows in other.spectra.items():
            self.spectra.setdefault(key, []).extend(rows)
        for key, chain in other.chains.items():
            self.chains.setdefault(key, {}).update(chain)
        for key, audit in other.audits.items():
            self.audits.setdefault(key, {}).update(audit)


def detail(
    places: Mapping[str, ModelLocation],
    names: Sequence[str],
    base: Checkpoint | None,
    quantization: Quantization | None,
) -> Details:
    """The details of the models at `places` over the tensors `names`."""
    found = Details()
    for key, place in places.items():
        if not place.adapters:
            continue
        found.spectra[key] = spectra_of(place, names, base)
        found.audits[key] = audit_parts(place, base, names, quantization)
        if len(place.adapters) > 1:
            parent = ViewedModel(ModelLocation(place.adapters[:-1], base=place.base), base=base)
            child = ViewedModel(ModelLocation(place.adapters[-1:], base=place.base), base=base)
            found.chains[key] = chain_parts(parent, child, names)
    return found


def detail_rows(found: Details) -> dict[str, list[Row]]:
    """Rows of the tables spectra, chains and audit."""
    return {
        "spectra": list(_spectra_rows(found)),
        "chains": [row for key, sums in found.chains.items() for row in chain_rows(key, sums)],
        "audit": [row for key, sums in found.audits.items() for row in audit_rows(key, sums)],
    }


def _spectra_rows(found: Details) -> Iterator[Row]:
    for key, rows in found.spectra.items():
        for row in sorted(rows, key=lambda row: natural_order(row["tensor"])):
            yield {"model": key, **row}
