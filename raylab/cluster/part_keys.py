"""The keys of the parts of a reduction's tables: fingerprints of all that determines their rows.

Model: a part is what a reduction says of a comparison, of two models beside each other, of a group
of models, of a merge and one of its models, or of one model (`raylab.store.parts`).
Invariant: two studies that ask for the same of the same parameters have the same key, whatever
their models are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.comparisons import PlannedComparison
from raylab.plan.model_groups import ModelGroup
from raylab.spec.identity import fingerprint
from raylab.spec.spectra import BaseDirections

_DEFINITIONS = {"comparison": 2, "models": 2, "group": 2, "kin": 2}
"""By kind of part: to be raised when the same models have other rows than before."""


@dataclass(frozen=True)
class PartKeys:
    """The keys of parts over one base model in one view.

    contents: by model, a fingerprint of its parameters. common: one of what else determines
    comparisons and relations: the base model, the view, the quantisation, the densities. details:
    one of what else determines the details of one model, whatever the densities. tolerance: an
    entry above it moved. options: how models are related, by the study's field, where that is not
    as usual. directions: what is asked of the base model's own, if anything.
    """

    base: str
    contents: Mapping[str, str]
    common: str
    details: str
    tolerance: float
    options: Mapping[str, str]
    directions: BaseDirections | None = None

    def of_comparison(self, comparison: PlannedComparison) -> str:
        """The key of a comparison's part."""
        return self._of_sides(comparison.a.name, comparison.b.name)

    def of_task_vector(self, name: str) -> str:
        """The key of a model's comparison with its base model."""
        return self._of_sides(name, self.base)

    def of_models(self, first: str, second: str) -> str:
        """The key of two models beside each other, in either order."""
        sides = sorted((self.contents[first], self.contents[second]))
        return self._key("models", sides, **self.options)

    def of_group(self, group: ModelGroup) -> str:
        """The key of a group of models, in any order."""
        contents = sorted(self.contents[name] for name in group.models)
        return self._key("group", contents, **self.options)

    def of_kin(self, merge: str, parent: str) -> str:
        """The key of a merge and one of its models."""
        sides = [self.contents[merge], self.contents[parent]]
        return self._key("kin", sides, **self.options)

    def of_model(self, name: str) -> str:
        """The key of one model's details."""
        return fingerprint({"model": self.contents[name], "common": self.details})

    def of_directions(self, name: str) -> str:
        """The key of one model against the base model's directions."""
        assert self.directions is not None
        asked = self.directions.model_dump()
        sides = {"model": self.contents[name], "base": self.contents[self.base]}
        return fingerprint({"directions": asked, **sides})

    def _of_sides(self, a: str, b: str) -> str:
        sides = [self.contents[a], self.contents[b]]
        return self._key("comparison", sides, tolerance=self.tolerance)

    def _key(self, kind: str, contents: Sequence[str], **more: Any) -> str:
        definition = _DEFINITIONS[kind]
        common = {"common": self.common, "definition": definition, **more}
        return fingerprint({kind: contents, **common})
