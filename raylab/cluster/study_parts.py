"""All parts of its tables that a study asks for: by base model and view, with their keys.

Invariant: what a key is made of comes from the study and its records alone; nothing is reduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raylab.cluster.part_keys import PartKeys
from raylab.cluster.study_context import StudyContext
from raylab.cluster.wanted_parts import WantedParts
from raylab.plan.comparisons import PlannedComparison
from raylab.plan.merges import kin_of
from raylab.plan.model_groups import groups_of
from raylab.spec.identity import fingerprint
from raylab.store.records import Record
from raylab.store.references import ModelLocation
from raylab.weights.unreadable import view_of_study


def wanted_parts(
    context: StudyContext,
    records: Mapping[str, Record],
    ready: Sequence[PlannedComparison],
    places: Mapping[str, ModelLocation | None],
) -> Iterator[WantedParts]:
    """All parts of the tables, for every base model and view."""
    study, contents = context.study, context.contents(records)
    quantization = study.quantization.model_dump(mode="json")
    options: dict[str, str] = {"pairs": study.pairs} if study.pairs != "module" else {}
    options |= {"subspaces": study.subspaces} if study.subspaces != "angles" else {}
    for base in dict.fromkeys(model.base_model for model in context.models.values()):
        there = [n for n, m in context.models.items() if m.base_model == base and places[n]]
        groups = list(groups_of(t for t in context.trials if t.name in there))
        kin = list(kin_of(m for m in context.merges if m.name in there))
        kin = [(merge, parent) for merge, parent in kin if parent in there]
        identity = context.inputs.base_models[base].identity
        of_base = {name: contents[name] for name in there} | {base: fingerprint(identity)}
        for name in study.views:
            yield WantedParts(
                base=base,
                view=view_of_study(study, name),
                comparisons=[c for c in ready if c.a.base_model == base],
                groups=groups,
                kin=kin,
                keys=PartKeys(
                    base=base,
                    contents=of_base,
                    common=fingerprint([identity, name, quantization, list(study.densities)]),
                    details=fingerprint([identity, quantization]),
                    tolerance=study.tolerance,
                    options=options,
                    directions=study.base_directions,
                ),
            )
