"""A whole study: what of it is done, and what is left for the stages.

Model: a study is done if the records of all trials and merges are there with all of their bytes,
and the tables and the report were made of them. Only what is left loads torch and Ray
(`raylab.cluster.stages`).
Invariant: a second run over a finished store trains nothing, and starts no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_progress import StudyPhase
from raylab.imports import loading
from raylab.number_format import plural
from raylab.plan.cache import PlannedTrial
from raylab.plan.merges import Asked, PlannedMerge
from raylab.plan.stored import distinct
from raylab.plan.trials import Trial
from raylab.results.left_out import left_out, lines_of
from raylab.spec.identity import fingerprint
from raylab.store.columns import COLUMNS
from raylab.store.filesystem import REPORT, TABLES
from raylab.store.phase import CHECKED, RAY, Tell, silent
from raylab.store.records import RECORD, damaged_files, trial_key

Say = Callable[[str], None]

RESULTS_IDENTITY = f"{REPORT}/asked.txt"
"""Written last: the tables and the report are complete for the identity that it holds."""
_MOST_THREADS = 4
"""That read files; a file of a merge may have a gigabyte."""


def run(context: StudyContext, address: str | None, say: Say) -> bool:
    """Run every stage that has something to do; return whether every trial is done and reduced.

    Raises KeyboardInterrupt if the user stopped it; finished trials are then in the store.
    """
    phase = StudyPhase(say, context.store)
    states = checked_states(context, say, phase.tell)
    context = context.located(item.trial for item in states)
    if is_all_cached(states) and _is_reported(context):
        say(nothing_to_train(states))
        say_what_is_left_out(context, left_out(context.store, context.plan), say)
        return True
    phase.tell(RAY)
    with loading():
        from raylab.cluster.stages import run_missing

    return run_missing(context, address, say, states, phase)


def checked_states(context: StudyContext, say: Say, tell: Tell = silent) -> list[PlannedTrial]:
    """The state of everything that is asked, by records whose files have all of their bytes.

    A damaged record is reported and deleted, so that its trial is trained again.
    """
    found = context.stored()
    for problem in found.damaged:
        say(f"damaged, and made again: {problem}")
    has_damage = False
    results = distinct(found.planned)

    def damaged(trial: Asked) -> list[str]:
        record = found.records.get(trial.id)
        return damaged_files(context.store, trial.folder, record) if record else []

    # Files are read and hashed outside of Python's lock; each thread holds one file.
    with ThreadPoolExecutor(_MOST_THREADS) as pool:
        for place, (trial, wrong) in enumerate(
            zip(results, pool.map(damaged, results), strict=True)
        ):
            tell(CHECKED, place, len(results))
            if wrong:
                say(f"damaged, and made again: {trial.name}: {', '.join(wrong)}")
                context.store.delete(trial_key(trial.folder, RECORD))
                has_damage = True
    if has_damage:
        found = context.stored()
    return context.states(found)


def is_all_cached(states: Sequence[PlannedTrial]) -> bool:
    """Whether everything that is asked has a record."""
    return all(item.state == "cached" for item in states)


def _is_reported(context: StudyContext) -> bool:
    """Whether the tables and the report hold the trials and comparisons of the study."""
    store = context.store
    if not all(store.exists(f"{TABLES}/{name}.parquet") for name in COLUMNS):
        return False
    found = store.read_if_there(RESULTS_IDENTITY)
    return found is not None and found.decode() == fingerprint(context.results_identity())


def nothing_to_train(states: Sequence[PlannedTrial]) -> str:
    """The line that says that all of `states` are in the store."""
    trials = sum(isinstance(item.trial, Trial) for item in states)
    merges = sum(isinstance(item.trial, PlannedMerge) for item in states)
    and_merges = f" and {plural(merges, 'merge')}" if merges else ""
    return f"nothing to train: all {trials} trials{and_merges} are in the store"


def say_what_is_left_out(context: StudyContext, others: Sequence[str], say: Say) -> None:
    """A line for the finished results in OUT that the tables leave out."""
    for line in lines_of(context.store, context.study.name, others):
        say(line)
