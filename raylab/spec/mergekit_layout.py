"""What a mergekit file merges: models, slices of their layers, or modules of these.

Model: `models` lists whole models. `slices` lists parts of the output, one after the other, each
with sources: layers of models, all as many. `modules` names the modules of a model, each with
models or slices of its own. A model that is the base itself adds nothing to a merge of task vectors
and is left out; `base+adapter` is the adapter, and `other+adapter` the whole model that both make,
which the base model may be as well.
What `linear` calls its base_model is one of the models, the last where it is not listed: mergekit
averages it with them in any case, but in slices only where it is a source. A method that needs the
base model, or looks at task vectors where there is one, wants its layers among the sources, since
they may be others than those of the models.
Invariant: an input is a model, however many slices it is in; in one slice it is once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.mergekit_file import Section, reference
from raylab.spec.mergekit_settings import Level, Levels
from raylab.spec.modules import NAMES, SYNONYMS
from raylab.spec.slices import Slice, Source

_KINDS = ("models", "slices", "modules")


@dataclass
class Layout:
    """models: by name, in order; places: where each stands first; slices: none where all is
    whole models; base: the base model."""

    base: str | None
    models: list[str] = field(default_factory=list)
    places: list[Section] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    of_models: list[list[Level]] = field(default_factory=list)
    of_slices: list[Level] = field(default_factory=list)
    of_modules: list[Level] = field(default_factory=list)
    common: list[Level] = field(default_factory=list)

    @property
    def levels(self) -> Levels:
        """All that say something of settings."""
        return Levels(self.of_models, [*self.of_slices, *self.of_modules, *self.common])

    def number(self, name: str, place: Section) -> int:
        """The number of a model, which is new where it was not seen before."""
        if name not in self.models:
            self.models.append(name)
            self.places.append(place)
            self.of_models.append([])
        return self.models.index(name)


def read_layout(config: Section, method: str, base: str | None) -> Layout:
    """What `config` merges by `method`. Raises InputError."""
    kinds = [kind for kind in _KINDS if config.value(kind) is not None]
    if len(kinds) != 1:
        line = min((config.line_of(kind) for kind in kinds), default=config.line)
        raise InputError(
            f"{config.file}, line {line}: a merge has models, slices or modules",
            found=" and ".join(kinds) or "none of them",
            expected="one of them",
        )
    layout = Layout(base, common=[Level(config.section("parameters"))])
    if kinds == ["models"]:
        _read_models(layout, config, method)
    if kinds == ["slices"]:
        _read_slices(layout, config, method, None)
    if kinds == ["modules"]:
        _read_modules(layout, config, method)
    return layout


def _listed(layout: Layout, config: Section, method: str) -> list[tuple[str, Section]]:
    """(model, its entry) of `models`, as the method takes them: slerp starts at the base model."""
    base, found = layout.base, []
    for entry in config.sections("models"):
        entry.check_known(("model", "parameters"))
        name = reference(entry, "model").name(base)
        if name != base or METHODS[method].of == "values":
            found.append((name, entry))
    if METHODS[method].of == "values" and base and all(name != base for name, _ in found):
        found.append((base, config.empty))
    return _from_base(found, base, config, method)


def _from_base(
    found: list[tuple[str, Section]], base: str | None, config: Section, method: str
) -> list[tuple[str, Section]]:
    if method != "slerp":
        return found
    if base is None:
        raise config.refused("base_model", "slerp's first model")
    return sorted(found, key=lambda model: model[0] != base)


def _read_models(layout: Layout, config: Section, method: str) -> None:
    for name, entry in _listed(layout, config, method):
        layout.models.append(name)
        layout.places.append(entry)
        layout.of_models.append([Level(entry.section("parameters"))])


def _read_modules(layout: Layout, config: Section, method: str) -> None:
    modules = config.section("modules")
    modules.check_known(NAMES)
    for name in modules.values:
        module = modules.section(name)
        module.check_known(("slices", "models", "parameters"))
        first = len(layout.slices)
        if module.value("slices") is not None and module.value("models") is None:
            _read_slices(layout, module, method, SYNONYMS.get(name, name))
        elif module.value("models") is not None and module.value("slices") is None:
            _read_whole_module(layout, module, method, SYNONYMS.get(name, name))
        else:
            raise modules.refused(name, "models or slices")
        parameters = module.section("parameters")
        layout.of_modules += [Level(parameters, i) for i in range(first, len(layout.slices))]


def _read_whole_module(layout: Layout, module: Section, method: str, name: str) -> None:
    sources, number = [], len(layout.slices)
    for model, entry in _listed(layout, module, method):
        sources.append(Source(layout.number(model, entry)))
        layout.of_models[sources[-1].model].append(Level(entry.section("parameters"), number))
    base = 0 if _needs_base(layout, method) else None
    layout.slices.append(Slice(tuple(sources), None, base, name))


def _read_slices(layout: Layout, config: Section, method: str, module: str | None) -> None:
    for part in config.sections("slices"):
        part.check_known(("sources", "base_model", "parameters"))
        number = len(layout.slices)
        base = _base_of(layout, part, method)
        found = _sources(layout, part)
        firsts = {name: first for name, first, _, _ in found}
        layers = _same_layers(part, [stop - first for _, first, stop, _ in found])
        needs_base = _needs_base(layout, method)
        if (needs_base or method == "slerp") and base not in firsts:
            raise part.refused("sources", f"the base_model {base} with its layer_range among them")
        entries = [(n, e) for n, _, _, e in found if n != base or not needs_base]
        sources = []
        for name, entry in _from_base(entries, base, part, method):
            sources.append(Source(layout.number(name, entry), firsts[name]))
            layout.of_models[sources[-1].model].append(Level(entry.section("parameters"), number))
        first = firsts[base] if needs_base and base else None
        layout.slices.append(Slice(tuple(sources), layers, first, module))
        layout.of_slices.append(Level(part.section("parameters"), number))


def _needs_base(layout: Layout, method: str) -> bool:
    """Whether the method takes task vectors."""
    of = METHODS[method].of
    return of == "deltas" or (of == "either" and layout.base is not None)


def _base_of(layout: Layout, part: Section, method: str) -> str | None:
    """The base model of a slice, which is that of the merge where the file names none."""
    if part.value("base_model") is None:
        return layout.base
    base = reference(part, "base_model").name(None)
    if layout.base is None and not layout.slices:
        layout.base = base
    if base != layout.base and METHODS[method].of != "values":
        raise part.refused("base_model", f"one base model of all task vectors: {layout.base}")
    return base


def _sources(layout: Layout, part: Section) -> list[tuple[str, int, int, Section]]:
    """(model, its first layer, the one after its last, its entry) of every source of a slice."""
    found: list[tuple[str, int, int, Section]] = []
    for entry in part.sections("sources"):
        entry.check_known(("model", "layer_range", "parameters"))
        name, layers = reference(entry, "model").name(layout.base), entry.value("layer_range")
        if not _is_range(layers):
            raise entry.refused("layer_range", "[FIRST, END], two whole numbers with FIRST < END")
        if name in [known for known, *_ in found]:
            raise entry.refused("model", "a model that is once among the sources")
        found.append((name, layers[0], layers[1], entry))
    return found


def _is_range(layers: object) -> bool:
    if not isinstance(layers, list) or len(layers) != 2:
        return False
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in layers):
        return False
    return bool(0 <= layers[0] < layers[1])


def _same_layers(part: Section, counts: Sequence[int]) -> int:
    if len(set(counts)) > 1:
        raise InputError(
            f"{part.where}: the sources of a slice have different numbers of layers",
            found=", ".join(map(str, counts)),
            expected="as many layers of every source",
        )
    return counts[0]
