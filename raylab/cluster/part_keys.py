"""The keys of the parts of a reduction's tables: fingerprints of all that determines their rows.

Model: a part is what a reduction says of a comparison, of two models beside each other, of a group
of models, of a merge and one of its models, or of one model (`raylab.store.parts`).
Invariant: two studies that ask for the same of the same parameters have the same key, whatever
their models are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raylab.plan.comparisons import PlannedComparison
from raylab.plan.model_groups import ModelGroup
from raylab.spec.identity import fingerprint
from raylab.spec.spectra import BaseDirections


@dataclass(frozen=True)
class PartKeys:
    """The keys of parts over one base model in one view.

    contents: by model, a fingerprint of its parameters. common: one of what else determines every
    part: the base model, the view, the quantisation, the densities. tolerance: an entry above it
    moved. options: how models are related, by the study's field, where that is not as usual.
    directions: what is asked of the base model's own, if anything.
    """

    base: str
    contents: Mapping[str, str]
    common: str
    tolerance: float
    options: Mapping[str, str]
    directions: BaseDirections | None = None

    def of_comparison(self, comparison: PlannedComparison) -> str:
        """The key of a comparison's part."""
        sides = [self.contents[comparison.a.name], self.contents[comparison.b.name]]
        common = {"common": self.common, "tolerance": self.tolerance}
        return fingerprint({"comparison": sides, **common})

    def of_models(self, first: str, second: str) -> str:
        """The key of two models beside each other, in either order."""
        sides = sorted((self.contents[first], self.contents[second]))
        return fingerprint({"models": sides, "common": self.common, **self.options})

    def of_group(self, group: ModelGroup) -> str:
        """The key of a group of models, in any order."""
        contents = sorted(self.contents[name] for name in group.models)
        return fingerprint({"group": contents, "common": self.common, **self.options})

    def of_kin(self, merge: str, parent: str) -> str:
        """The key of a merge and one of its models."""
        sides = [self.contents[merge], self.contents[parent]]
        return fingerprint({"kin": sides, "common": self.common, **self.options})

    def of_model(self, name: str) -> str:
        """The key of one model's details."""
        return fingerprint({"model": self.contents[name], "common": self.common})

    def of_directions(self, name: str) -> str:
        """The key of one model against the base model's directions."""
        assert self.directions is not None
        asked = self.directions.model_dump()
        sides = {"model": self.contents[name], "base": self.contents[self.base]}
        return fingerprint({"directions": asked, **sides})
