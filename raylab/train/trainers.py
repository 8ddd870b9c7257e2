"""The trl trainers of a study: cached data, an update and a held-out loss that no batch changes.

Model: trl takes the mean of a loss over a micro-batch. transformers adds the means of the
micro-batches of an update as if each had the same weight, and averages the held-out loss over
batches. Here each mean is weighted by its items: the tokens of the answers in SFT, the pairs of
rows in DPO.
Invariant: the update of some rows, and the held-out loss, are the same for every batch size up to
rounding. An evaluation moves no random state. No trainer is made of another loss than the model's.
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

import torch
from datasets import Dataset
from transformers import set_seed
from trl import DPOTrainer, SFTTrainer

from raylab.store.phase import Tell
from raylab.train.chat import ExampleCounts
from raylab.train.dataset_cache import TrialCache, tokenised
from raylab.train.framed_examples import CONVERSATION, FramedExamples
from raylab.train.model_loss import check_loss
from raylab.train.random_state import preserved_random_state
from raylab.train.reference_logprobs import with_reference
from raylab.train.steady_model import steady


class _Trainer:
    """What both trainers share; a subclass says how many items a batch has."""

    def __init__(
        self, *args: Any, cache: TrialCache | None, tell: Tell, noise: int, **kwargs: Any
    ) -> None:
        """noise: the seed of all that is random from the first step on, but the order of rows."""
        self.cache, self.tell = cache, tell
        self.counts: dict[str, ExampleCounts] = {}
        self._scored: list[tuple[Any, Any]] = []
        super().__init__(*args, **kwargs)
        if noise != self.args.seed:  # type: ignore[attr-defined]
            # trl has drawn A, and transformers has then set its seed for the training.
            set_seed(noise)
        # Before the reference of DPO scores every answer in the same way.
        check_loss(self)

    def _prepare_dataset(self, dataset: Dataset, tokenizer: Any, options: Any, *rest: Any) -> Any:
        """trl's own tokenisation, or its result out of the cache."""
        make = partial(super()._prepare_dataset, dataset, tokenizer, options, *rest)  # type: ignore[misc]
        count = None
        if CONVERSATION in dataset.column_names:
            framed = FramedExamples(dataset, tokenizer, options.max_length)
            own = super()._prepare_dataset  # type: ignore[misc]
            make = partial(self.prepare_framed, framed, own, tokenizer, options, *rest)
            count = partial(getattr, framed, "counts")
        made, counts = tokenised(dataset, tokenizer, options, make, self.cache, count)
        self.counts[rest[-1]] = counts
        return made

    def prepare_framed(self, framed: FramedExamples, own: Any, *rest: Any) -> Dataset:
        """What the trainer takes of examples that are framed; `own`: trl's own preparation."""
        raise NotImplementedError

    def items(self, batch: Any) -> Any:
        """How many items the loss of `batch` is a mean over."""
        raise NotImplementedError

    @cached_property
    def _weights(self) -> int:
        return int(self.model.num_parameters(exclude_embeddings=True))  # type: ignore[attr-defined]

    def floating_point_ops(self, inputs: Any) -> int:
        """As transformers 5.23 counts the operations of a batch, by weights that it counts anew for
        each: 6 for each weight, but for embeddings, and each place of a token."""
        return 6 * int(inputs["input_ids"].numel()) * self._weights

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the model is steady meanwhile."""
        with steady(self.model):  # type: ignore[attr-defined]
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of one update, with the items of all of them."""
        batches, _ = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        return batches, sum(self.items(batch) for batch in batches)

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Score one batch of the held-out rows, and remember its loss and its items."""
        found = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self._scored.append((found[0], self.items(inputs)))
        return found

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """The trainer's own loop, whose loss is the mean over items in place of batches."""
        self._scored = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)  # type: ignore[misc]
        weights = [int(items) for _, items in self._scored]
        sums = [float(loss) * n for (loss, _), n in zip(self._scored, weights, strict=True)]
        output.metrics[f"{metric_key_prefix}_loss"] = math.fsum(sums) / sum(weights)
        return output

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The trainer's own evaluation, which leaves every random state as it was."""
        with preserved_random_state():
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)  # type: ignore[misc]
            return metrics


class TokenWeightedSFT(_Trainer, SFTTrainer):
    """SFT: the loss is a mean over the tokens of the answers."""

    # trl divides by the tokens of the whole update. transformers counts them only for models whose
    # `forward` takes any argument; of others, it would divide each micro-batch by its own.
    loss_is_scaled_for_ga = True

    def prepare_framed(self, framed: FramedExamples, own: Any, *rest: Any) -> Dataset:
        """Labels of the learned tokens, cut at max_length, by trl."""
        prepared: Dataset = own(framed.sft, *rest)
        return prepared.select_columns(["input_ids", "labels"])

    def items(self, batch: Any) -> torch.Tensor:
        """The tokens that are learned; nothing predicts the first of a row."""
        return batch["labels"][:, 1:].ne(-100).sum()


class PairWeightedDPO(_Trainer, DPOTrainer):
    """DPO: the loss is a mean over pairs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_dataset, self.eval_dataset = with_reference(self, self.cache, self.tell)
        self.precompute_ref_logps = True

    def prepare_framed(self, framed: FramedExamples, own: Any, *rest: Any) -> Dataset:
        """The tokens of prompts and of both answers."""
        return framed.dpo

    def items(self, batch: Any) -> int:
        """The pairs: a batch holds all chosen answers, then all rejected ones."""
        return len(batch["input_ids"]) // 2

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """trl's mean over the pairs of `inputs`, weighted by their share of the update.

        transformers divides by the number of micro-batches afterwards. Where all have as many
        pairs the weight is 1, and the bits are trl's.
        """
        found = super().compute_loss(model, inputs, return_outputs=return_outputs)
        if num_items_in_batch is None:
            return found
        steps = self.current_gradient_accumulation_steps
        weight = self.items(inputs) * steps / num_items_in_batch
        return (found[0] * weight, *found[1:]) if return_outputs else found * weight
