"""The first screen of a report as plain values: verdicts, their answer, and cautions.

Model: a verdict is a factor in one of three spaces: the size of the change, its direction, and
what the model predicts; each as a multiple of what another seed does, out of the frame `effects`.
A row is a factor, or a part of the randomness, of one base model.
Invariant: nothing is computed here that the frames do not hold; every factor of the frame has a
row, and a space that was not measured says so. Page, Markdown and terminal show the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylab.number_format import MISSING
from raylab.report.findings.effect_words import ANSWERED, is_of_seed, space_sentence
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.study_tables import Rows, grouped

WORDS: Mapping[str, str] = {
    "beyond": "clear",
    "near": "weak",
    "within": "noise",
    "unknown": "missing",
    "baseline": "baseline",
    "most": "most",
    "part": "part",
    "little": "little",
}
"""By verdict of the frame: the word that a reader sees, as verdict-WORD in a language."""
SIGNS: Mapping[str, str] = {
    "clear": "▲",
    "weak": "△",
    "noise": "○",
    "missing": MISSING,
    "baseline": "=",
    "most": "◕",
    "part": "◑",
    "little": "◔",
}
"""By word: a sign that says the same without a colour."""
MORE = ("clear", "weak")
"""The words of what does more than another seed."""
CAUTIONS = (
    "trust-none_done",
    "trust-undone",
    "floor-one_seed",
    "trust-marked",
    "effects-too_few",
    "effects-descriptive",
    "missing-comparisons",
    "attribution-inseparable",
    "effects-tied",
    "trust-unequal",
    "merges-few_prompts",
)
"""The keys of what a reader has to be careful about, what matters most first."""
MOST_CAUTIONS = 3
"""On the first screen."""


@dataclass(frozen=True)
class Verdict:
    """A factor in one space.

    `times` is its effect over that of another seed, None where it was not measured; `word` is a
    value of WORDS; `sentence` has the numbers.
    """

    space: str
    times: float | None
    word: str
    sentence: Sentence


@dataclass(frozen=True)
class VerdictRow:
    """A factor of a base model with a verdict for each of ANSWERED.

    `is_seed`: it is the seed, or a part of it.
    """

    base_model: str
    factor: str
    is_seed: bool
    verdicts: tuple[Verdict, ...]


def verdict_rows(effects: Rows) -> list[VerdictRow]:
    """The frame `effects` as verdicts: of each base model the factors, then the randomness."""
    found: list[VerdictRow] = []
    for base, of_base in grouped(effects, lambda row: str(row["model"])).items():
        rows = [
            VerdictRow(base, factor, is_of_seed(factor), tuple(_verdicts(of_factor)))
            for factor, of_factor in grouped(of_base, lambda row: str(row["factor"])).items()
        ]
        found += sorted(rows, key=lambda row: row.is_seed)
    return found


def _verdicts(rows: Rows) -> Iterator[Verdict]:
    of_space = {row["space"]: row for row in rows}
    for space in ANSWERED:
        row = of_space.get(space)
        if row is None or row["verdict"] == "unknown" or row["effect"] is None:
            yield Verdict(space, None, "missing", Sentence(f"effects-{space}-unknown"))
        else:
            # The baseline is what the others are multiples of.
            times = 1.0 if row["verdict"] == "baseline" else row["times"]
            yield Verdict(space, times, WORDS[row["verdict"]], space_sentence(row))


def answers(rows: Sequence[VerdictRow], bases: Sequence[str] = ()) -> Iterator[Sentence]:
    """A sentence for each base model: which factor matters most, and whether more than a seed.

    bases: the base models of the study; one without a row says that nothing was compared.
    """
    of_bases = grouped(rows, lambda row: row.base_model)
    names = list(dict.fromkeys((*bases, *of_bases))) or [""]
    for base in names:
        of_base = of_bases.get(base, [])
        factors = [row for row in of_base if not row.is_seed]
        # A factor within seed noise matters most only where all are.
        moving = [row for row in factors if _is_more_than_seed(row)]
        words = MORE if moving else tuple(SIGNS)
        best = [
            found for space in range(len(ANSWERED)) if (found := _largest(factors, space, words))
        ]
        by_factor = grouped(best, lambda item: item[0])
        kept = [row.factor for row in moving]
        values = {
            "subject": Sentence("answer-base", {"base": base}) if len(names) > 1 else "",
            "largest": tuple(
                (equal, tuple((found.space, found.times) for _, found in of_factor))
                for equal, of_factor in by_factor.items()
            ),
            "kept": tuple(kept),
            "kept_count": len(kept),
            "rest": tuple(row.factor for row in factors if row.factor not in kept),
            "total": len(factors),
        }
        yield Sentence(_answer_key(of_base, bool(best), kept), values)


def _answer_key(rows: Sequence[VerdictRow], is_measured: bool, kept: Sequence[str]) -> str:
    count = sum(not row.is_seed for row in rows)
    if not count:
        return "answer-no_factor" if rows else "answer-nothing"
    if not is_measured:
        return "answer-unknown"
    if not kept:
        return "answer-noise"
    return "answer-all" if len(kept) == count else "answer-some"


def _largest(
    rows: Sequence[VerdictRow], space: int, words: Sequence[str]
) -> tuple[tuple[str, ...], Verdict] | None:
    """The factors whose effect is the largest in a space, of those with one of these words.

    They are several where their effects are equal, as those without bound are.
    """
    known = [
        (row.factor, found)
        for row in rows
        if (found := row.verdicts[space]).times is not None and found.word in words
    ]
    if not known:
        return None
    largest = max((found for _, found in known), key=lambda found: found.times or 0.0)
    return tuple(factor for factor, found in known if found.times == largest.times), largest


def _is_more_than_seed(row: VerdictRow) -> bool:
    """Whether a factor does more than another seed in one space or more."""
    return any(verdict.word in MORE for verdict in row.verdicts)


def cautions(findings: Mapping[str, Finding], more: Sequence[Sentence] = ()) -> list[Sentence]:
    """What a reader has to be careful about, each once, in the order of CAUTIONS."""
    found = [*more, *(one for finding in findings.values() for one in finding.cautions)]
    known = {(one.key, repr(one.values)): one for one in found}
    return sorted(known.values(), key=lambda one: CAUTIONS.index(one.key))
