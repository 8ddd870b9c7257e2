"""What the merges of a study are made of, in words.

Invariant: everything that decides a merge is said, whether the study gave it or a default did,
and nothing that its method has no use for.
"""

from __future__ import annotations

from collections.abc import Iterator

from raylab.report.blocks import Block, Item, Items
from raylab.report.numbers import listing, setting
from raylab.spec.merging import MergeInput, MergeRequest
from raylab.spec.study import Study

_KEEPS = {"random": ", a random share of {} kept", "largest": ", the largest {} kept", "all": ""}
_SCOPES = {"global": "of the whole task vector", "tensor": "of each tensor"}


def merge_blocks(study: Study) -> Iterator[Block]:
    """One item for each merge; nothing where there is none."""
    items = (Item(name, _said(m.request(m.models, ""))) for name, m in study.merges.items())
    if study.merges:
        yield Items(tuple(items))


def _said(request: MergeRequest) -> str:
    row = request.row
    parts = [f"{row.title} ({row.paper}) of {listing(_model(request, i) for i in request.inputs)}"]
    if row.of == "deltas":
        parts.append(f"lambda {setting(request.scaling)}")
    if request.seed is not None:
        parts.append(f"seed {request.seed}")
    return "; ".join(parts) + "."


def _model(request: MergeRequest, item: MergeInput) -> str:
    kept = _KEEPS[request.row.keeps].format(setting(item.density))
    where = f" {_SCOPES[request.scope]}" if request.scope else ""
    return f"{item.model} (weight {setting(item.weight)}{kept}{where})"
