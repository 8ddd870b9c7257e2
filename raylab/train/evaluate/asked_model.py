"""The evaluation of a merge, or of a finished model that a merge takes.

Model: both are loaded where they lie, and asked what `raylab.plan.asked` says. A whole model is
asked as it is saved: in its own dtype, not quantised. An adapter is asked on the base model as
trials hold it. A whole model without a tokenizer has that of the base model.
Invariant: nothing is learned, and the same model gives the same evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from raylab.plan.asked import data_asked, merge_prompts
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import PlannedMerge
from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.spec.vocabularies import has_tokenizer
from raylab.store.phase import MODEL, Tell
from raylab.store.references import ModelLocation
from raylab.train.chat import teach_stopping
from raylab.train.evaluate.evaluate import ModelEvaluation, evaluate_model
from raylab.train.evaluate.loaded_models import with_adapter
from raylab.train.kept_values import keep_values
from raylab.train.model import load_as_saved, load_base, load_tokenizer


def evaluate_asked(
    asked: PlannedMerge | FinishedParent,
    place: ModelLocation,
    base: Path,
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    tell: Tell,
) -> ModelEvaluation:
    """The answers and likelihoods of the model at `place`, a checkpoint or one adapter over `base`.

    Raises ModelError, and what libraries raise for files that they cannot load.
    """
    tell(MODEL)
    source = study.base_models[asked.base_model]
    trusted = source.trust_remote_code
    if place.checkpoint:
        model = load_as_saved(place.checkpoint, trusted)
    else:
        model = load_base(base, study.quantization, trust_remote_code=trusted)
    own = place.checkpoint if place.checkpoint and has_tokenizer(place.checkpoint) else base
    tokenizer = load_tokenizer(own, source, study.template_date)
    teach_stopping(model, tokenizer)
    for adapter in place.adapters:
        model = with_adapter(model, adapter).eval()
    keep_values(model)
    questions = held_out_prompts(
        rows[data_asked(asked, rows)], study.held_out, study.evaluation.prompts
    )
    seed = asked.seed.init if asked.seed else 0
    beside = merge_prompts(study, rows).beside(asked)
    return evaluate_model(model, tokenizer, study, rows, questions, seed, beside=beside, tell=tell)
