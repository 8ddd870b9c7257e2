"""A whole study: train, merge, reduce, report; each stage reads what the store holds.

Model: `prepare` reads and checks everything that a study names before anything is written. Each
stage then does what is missing. Merges are made after the trials, in the same stage. A trial is
done if its record is there; it is then left alone.
Invariant: a trial that fails leaves a row; the tables always hold every planned trial; a second
run over a finished store trains nothing, and starts no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, NamedTuple

from raylab.cluster.doctor.examine import require_shared_storage, smallest_gpu_memory
from raylab.cluster.early_actor import EarlyActor
from raylab.cluster.session import connected, has_gpus, stop_on_signal
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_context import prepare as prepare
from raylab.cluster.study_progress import StudyPhase
from raylab.cluster.whole_study import (
    RESULTS_IDENTITY,
    Say,
    checked_states,
    is_all_cached,
    nothing_to_train,
    say_what_is_left_out,
)
from raylab.errors import StoreError
from raylab.number_format import plural
from raylab.plan.cache import PlannedTrial
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import PlannedMerge
from raylab.plan.resources import too_large
from raylab.plan.stored import distinct
from raylab.plan.this_machine import dtype_warning, has_gpu
from raylab.plan.trials import Trial
from raylab.results.left_out import left_out
from raylab.results.notes import with_notes
from raylab.results.table_rows import (
    attempt_rows,
    likelihood_rows,
    path_rows,
    rate_by_data_rows,
    rate_rows,
    read_results,
    sample_rows,
    trial_rows,
)
from raylab.spec.identity import fingerprint
from raylab.store.lease import HeldLease, hold_lease
from raylab.store.phase import NODES, RAY, REPORT, WORKERS, Tell
from raylab.store.studies import forget_former_place
from raylab.store.tables import write_table

_OF_TRAINING = (
    "raylab.cluster.tune",
    "tensorboardX",
    # Tune counts callbacks of these kinds, and loads the trackers for it.
    "ray.air.integrations.mlflow",
    "ray.air.integrations.wandb",
)
_OF_REDUCTION = ("torch", "raylab.reduce.passes")
"""What a driver loads while Ray starts."""

_TABLES_OF_MODELS = {
    "attempts": attempt_rows,
    "samples": sample_rows,
    "rates": rate_rows,
    "rates_by_data": rate_by_data_rows,
    "likelihoods": likelihood_rows,
    "paths": path_rows,
}


class Driving(NamedTuple):
    """A driver at work: it holds the store, and may leave Ray before it lets go of the store."""

    lease: HeldLease
    leave_ray: Callable[[], None]


@contextmanager
def driving(
    context: StudyContext, address: str | None, phase: StudyPhase, aside: Sequence[str] = ()
) -> Iterator[Driving]:
    """Hold the store, connect to Ray, and check that every node sees OUT; then write the study.
    A thread loads the modules `aside` meanwhile.

    Raises LeaseError if another driver works on OUT, ClusterError, and OutError, before anything
    of the study is written.
    """
    with hold_lease(context.store) as lease, phase.held(lease):
        phase.tell(RAY)
        with connected(address, aside) as leave_ray:
            phase.tell(NODES)
            require_shared_storage(context.store)
            context.write_study()
            yield Driving(lease, leave_ray)


def run_missing(
    context: StudyContext,
    address: str | None,
    say: Say,
    states: Sequence[PlannedTrial],
    phase: StudyPhase,
) -> bool:
    """Run every stage for what `states` lacks; see `raylab.cluster.whole_study.run`."""
    _warn_of_dtype(context, address, states, say)
    aside = _OF_REDUCTION if is_all_cached(states) else _OF_TRAINING
    with driving(context, address, phase, aside) as at_work, closing(EarlyActor()) as early:
        complete = _train(context, at_work.lease, say, states, phase, early, reduces_next=True)
        is_reduced = _reduce(context, say, phase.tell, early.take())
        at_work.leave_ray()
        phase.tell(REPORT)
        others = left_out(context.store, context.plan)
        report(context, others, is_whole=is_reduced)
    say_what_is_left_out(context, others, say)
    return complete and is_reduced


def train(context: StudyContext, address: str | None, say: Say) -> bool:
    """Train and merge what is missing, and write the tables of trials.

    Returns whether every trial is done. Starts Ray only if something is missing.
    """
    phase = StudyPhase(say, context.store)
    states = checked_states(context, say, phase.tell)
    context = context.located(item.trial for item in states)
    if is_all_cached(states):
        with hold_lease(context.store):
            context.write_study()
            say(nothing_to_train(states))
            return write_trial_tables(context)
    _warn_of_dtype(context, address, states, say)
    at_work = driving(context, address, phase, _OF_TRAINING)
    with at_work as (lease, _), closing(EarlyActor()) as early:
        return _train(context, lease, say, states, phase, early)


def reduce(context: StudyContext, address: str | None, say: Say) -> bool:
    """Reduce every comparison whose two sides are there, compare what models predict, evaluate the
    lines between them, and write the tables. Returns whether every model could be reduced."""
    phase = StudyPhase(say, context.store)
    with driving(context, address, phase, _OF_REDUCTION):
        return _reduce(context, say, phase.tell)


def _reduce(context: StudyContext, say: Say, tell: Tell, first: Any = None) -> bool:
    """The stages after the training, on one pool of actors; `first`: one that is there."""
    from raylab.cluster.actors import ActorPool
    from raylab.cluster.connectivity import evaluate_lines
    from raylab.cluster.functions import compare_functions
    from raylab.cluster.reduction import reduce_study

    with closing(ActorPool(cpus=1, first=first)) as pool:
        is_reduced = reduce_study(context, pool, say, tell)
        compare_functions(context, pool, say, tell)
        evaluate_lines(context, pool, say, tell)
    return is_reduced


def report(context: StudyContext, others: Sequence[str] = (), *, is_whole: bool = True) -> str:
    """Write the report out of the tables, in every language that it has; return its address.

    others: finished results in OUT that the tables leave out. is_whole: whether all models could
    be reduced; if not, the next run tries again.
    """
    from raylab.report.page.render import build_report, languages_of

    study, store = context.study, context.store
    addresses = [build_report(study, store, lang, others) for lang in languages_of(store)]
    if is_whole:
        store.write(RESULTS_IDENTITY, fingerprint(context.results_identity()).encode())
    forget_former_place(store, study.name)
    return addresses[0]


def write_trial_tables(context: StudyContext) -> bool:
    """Write the tables of trials out of the store; return whether everything is done."""
    store = context.store
    limits = context.study.evaluation.limits
    results = read_results(context.asked, store, context.questions, limits)
    write_table(store, "trials", trial_rows(results))
    for name, make in _TABLES_OF_MODELS.items():
        write_table(store, name, with_notes(make(results), {}, results.notes))
    return all(result.record for result in results.trials)


def _train(
    context: StudyContext,
    lease: HeldLease,
    say: Say,
    states: Sequence[PlannedTrial],
    phase: StudyPhase,
    early: EarlyActor,
    *,
    reduces_next: bool = False,
) -> bool:
    missing = distinct(item.trial for item in states if item.state != "cached")
    to_train = [item for item in missing if isinstance(item, Trial)]
    merges = [item for item in missing if isinstance(item, PlannedMerge)]
    finished = [item for item in missing if isinstance(item, FinishedParent)]
    if not missing:
        say(nothing_to_train(states))
        return write_trial_tables(context)
    try:
        if to_train:
            _train_trials(context, lease, to_train, merges, say, phase, early, reduces_next)
        if merges:
            _merge(context, say, phase.tell)
        if finished:
            _ask_finished(context, finished, say, phase.tell)
    except KeyboardInterrupt:
        # Whatever the tables may lack: it was stopped, and the next run writes them again.
        with suppress(StoreError):
            _write_own_tables(context, lease)
        raise
    except BaseException:
        _write_own_tables(context, lease)
        raise
    return _write_own_tables(context, lease)


def _write_own_tables(context: StudyContext, lease: HeldLease) -> bool:
    """As `write_trial_tables`, unless another driver may be at work: then they are its own."""
    return not lease.lost.is_set() and write_trial_tables(context)


def _train_trials(
    context: StudyContext,
    lease: HeldLease,
    trials: Sequence[Trial],
    merges: Sequence[PlannedMerge],
    say: Say,
    phase: StudyPhase,
    early: EarlyActor,
    reduces_next: bool,
) -> None:
    from raylab.cluster.callbacks.prepare import while_training
    from raylab.cluster.callbacks.progress import PhaseCallback
    from raylab.cluster.tune import train_trials

    say(f"{len(trials)} of {len(distinct(context.trials))} trials to train")
    if not has_gpus():
        say("no GPU in the cluster: they run on its CPUs")
    memory = smallest_gpu_memory()
    if memory is not None:
        for warning in too_large(context.study, context.inputs, trials, memory):
            say(warning)
    phase.tell(WORKERS)
    with stop_on_signal(context.store, lease, say) as request:
        callbacks = while_training(context, early, len(trials), say, reduces_next=reduces_next)
        callbacks.append(PhaseCallback(phase.tell, len(trials)))
        train_trials(context, trials, request, callbacks, merges)


def _merge(context: StudyContext, say: Say, tell: Tell) -> None:
    """Make the merges whose trials are done by now."""
    from raylab.cluster.callbacks.progress import stderr_display
    from raylab.cluster.merge_tasks import make_merges

    states = context.states(context.stored())
    found = [item.trial for item in states if item.state == "to run"]
    ready = [item for item in found if isinstance(item, PlannedMerge)]
    say(f"{len(ready)} of {plural(len(distinct(context.merges)), 'merge')} to make")
    make_merges(context, ready, stderr_display(), tell)


def _ask_finished(
    context: StudyContext, models: Sequence[FinishedParent], say: Say, tell: Tell
) -> None:
    """Ask finished models what the merges that take them are asked."""
    from raylab.cluster.finished_tasks import ask_finished

    say(f"{plural(len(models), 'finished model')} of merges to ask")
    ask_finished(context, models, say, tell)


def _warn_of_dtype(
    context: StudyContext, address: str | None, states: Sequence[PlannedTrial], say: Say
) -> None:
    """Before Ray starts on this machine alone: what the compute dtype may cost without a GPU."""
    trains = any(isinstance(s.trial, Trial) and s.state != "cached" for s in states)
    warning = dtype_warning(context.study.quantization)
    if trains and warning and address is None and not has_gpu():
        say(f"warning: {warning}")
