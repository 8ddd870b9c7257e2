"""What the merges of a study are made of, in words.

Invariant: everything that decides a merge is said, whether the study gave it or a default did,
and nothing that its method has no use for.
"""

from __future__ import annotations

from collections.abc import Iterator

from raylab.report.page.blocks import Block, Item, Items
from raylab.report.words import Translator
from raylab.spec.merges import MergeInput, MergeRequest
from raylab.spec.study import Study


def merge_blocks(translate: Translator, study: Study) -> Iterator[Block]:
    """One item for each merge; nothing where there is none."""
    asked = {name: merge.request(merge.models, "") for name, merge in study.merges.items()}
    if asked:
        yield Items(tuple(Item(name, _said(translate, request)) for name, request in asked.items()))


def _said(translate: Translator, request: MergeRequest) -> str:
    row, more = request.row, ""
    if row.of == "deltas":
        more += translate("merge-scaling", scaling=request.scaling)
    if request.seed is not None:
        more += translate("merge-seed", seed=request.seed)
    inputs = tuple(_model(translate, request, item) for item in request.inputs)
    return translate("merge-said", title=row.title, paper=row.paper, inputs=inputs, more=more)


def _model(translate: Translator, request: MergeRequest, item: MergeInput) -> str:
    scope = translate(f"merge-scope-{request.scope}") if request.scope else ""
    kept = translate(f"merge-{request.row.keeps}", density=item.density, scope=scope)
    return translate("merge-input", model=item.model, weight=item.weight, kept=kept)
