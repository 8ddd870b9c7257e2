"""Small faults, each of which the suite has to catch.

Model: a fault is a row of FAULTS: a text that stands once in one file, what it is changed into,
and the quickest tests that then fail. `run.py` makes the changes, one at a time, in a copy.
When code is moved or renamed, change `file`, `old`, `new` or `tests` here, and nothing else; the
mistake that a row makes stays the same.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """`old` stands once in raylab/`file`; `tests` are pytest's node ids below tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    # spec
    Fault(
        "a held-out row is trained on",
        "spec/data/rows.py",
        "sides[is_held_out(row.user_text, share)].append(row)",
        "sides[is_held_out(row.prompt, share)].append(row)",
        ("spec/data/test_rows.py::test_split_of_conversations_puts_each_row_on_one_side",),
    ),
    # plan
    Fault(
        "an id without the seed",
        "plan/trials.py",
        '        **seed.identity,\n        "held_out"',
        '        "held_out"',
        ("plan/test_trials.py::test_id_seeds_and_recipes_differ_all",),
    ),
    Fault(
        "an id without the parent",
        "plan/trials.py",
        'identity |= {"parent": parent.id, ',
        "identity |= {",
        ("plan/test_trials.py::test_id_field_of_parent_changed_moves_descendants_alone",),
    ),
    Fault(
        "an id of a merge without the rows of its tokens",
        "plan/merges.py",
        '        found[f"merge.tokenizer.tokens.{token}"] = of\n',
        "        del token, of\n",
        (
            "merge/test_study_tokenizers.py::test_mapping_that_says_no_more_than_a_source_has_the_id_of_the_source",
        ),
    ),
    Fault(
        "a longer vocabulary that is let through",
        "plan/vocabularies.py",
        "if have_columns and not shapes & wanted:",
        "if not have_columns:",
        (
            "merge/test_study_tokenizers.py::test_model_with_other_rows_that_are_taken_by_id_is_refused_before_anything_is_written",
        ),
    ),
    Fault(
        "a failed trial's row is dropped",
        "results/table_rows.py",
        "return list(rows.values())",
        'return [row for row in rows.values() if row["status"] != "failed"]',
        (
            "results/test_table_rows.py::test_trial_rows_after_a_failure_block_all_descendants_and_no_other",
        ),
    ),
    # store
    Fault(
        "a lease that is not renewed",
        "store/lease.py",
        "self.lease = self.lease.next()",
        "self.lease.next()",
        ("store/test_lease.py::test_lease_beats_while_held_and_is_gone_afterwards",),
    ),
    Fault(
        "a retry that gives up at once",
        "store/retry.py",
        "stop=stop_before_delay(policy.stop_after)",
        "stop=stop_before_delay(policy.first_wait)",
        ("store/test_retry.py::test_endless_fault_is_one_error_that_counts_tries",),
    ),
    Fault(
        "a damaged file is not noticed",
        "store/records.py",
        "if sizes.get(name) != entry.size",
        "if name not in sizes",
        ("store/test_records.py::test_record_file_of_wrong_size_is_named_damaged",),
    ),
    # weights
    Fault(
        "a tied head is counted twice",
        "weights/checkpoint.py",
        "if name not in self.skipped and name not in self.tied",
        "if name not in self.skipped",
        ("weights/test_checkpoint.py::test_checkpoint_stored_head_of_tied_model_is_an_alias",),
    ),
    Fault(
        "a scale by another rank",
        "weights/adapter_config.py",
        "rank = self.rank_of(module)",
        "rank = self.r",
        ("weights/test_adapter.py::test_scale_any_patterns_match_as_peft_matches",),
    ),
    Fault(
        "a path that leaves its directory",
        "spec/weight_files.py",
        'Path(name).name == name != ".."',
        "not Path(name).is_absolute()",
        ("weights/test_checkpoint.py::test_checkpoint_index_outside_its_directory_is_refused",),
    ),
    # train
    Fault(
        "a seed that is not set",
        "train/methods.py",
        "        seed=settings.seed.init,\n",
        "",
        ("train/test_seeds.py::test_seed_of_a_changes_the_start_of_a_alone[sft-d1]",),
    ),
    Fault(
        "a resume that skips the scheduler",
        "train/resume.py",
        '"optimizer.pt", "scheduler.pt",',
        '"optimizer.pt",',
        ("train/test_resume.py::test_training_that_was_stopped_goes_on_to_the_same_bytes[sft-d1]",),
    ),
    Fault(
        "an adapter that stays in bf16",
        "train/methods.py",
        "parameter.data = parameter.data.to(torch.float32)",
        "parameter.data = parameter.data.to(parameter.dtype)",
        ("train/test_trial.py::test_adapter_entries_at_1e_5_nearly_all_move",),
    ),
    Fault(
        "DPO's reference without the parent",
        "train/base_checkpoint.py",
        "(*below.frozen, adapters.directory(parent.name))",
        "below.frozen",
        ("train/test_trial.py::test_dpo_reference_of_stacked_child_is_base_plus_parent",),
    ),
    Fault(
        "a log-probability without the answer's first token",
        "train/reference_logprobs.py",
        "([0] * s.prompt + [1] * (s.length - s.prompt)",
        "([0] * (s.prompt + 1) + [1] * (s.length - s.prompt - 1)",
        (
            "train/test_dataset_cache.py"
            "::test_log_probabilities_are_those_of_a_plain_model_without_padding",
        ),
    ),
    Fault(
        "a point between models without the shares",
        "train/evaluate/shifted_model.py",
        "Factors(found.inner, found.outer * share)",
        "Factors(found.inner, found.outer)",
        ("train/evaluate/test_shifted_model.py::test_shifted_layer_is_that_of_the_added_matrices",),
    ),
    # reduce
    Fault(
        "a bucket off by one",
        "reduce/threshold.py",
        "return len(from_top) - 1 - int(",
        "return len(from_top) - int(",
        (
            "reduce/test_threshold.py"
            "::test_boundary_buckets_hold_the_last_kept_entry_unless_it_is_known_without",
        ),
    ),
    Fault(
        "a trimmed norm that holds all ties",
        "reduce/threshold.py",
        "kept[low] = keep - int(kept.sum())",
        "kept[low] = counts[low]",
        ("reduce/test_threshold.py::test_at_density_heavy_ties_keep_exactly_num_keep",),
    ),
    Fault(
        "an infinity that is let through",
        "reduce/shard.py",
        "found.largest >= INFINITY",
        "found.largest > INFINITY",
        (
            "reduce/test_interval_tally.py"
            "::test_reduction_not_finite_is_an_error_that_names_the_tensor",
        ),
    ),
    # merge
    Fault(
        "a NaN that is let through",
        "merge/compiled_rows.py",
        "count += not abs(row[i]) <= _LARGEST",
        "count += abs(row[i]) > _LARGEST",
        ("merge/test_steps.py::test_counts_of_any_values_are_those_of_python_in_both",),
    ),
    Fault(
        "a threshold that drops the entry at it",
        "merge/compiled_steps.py",
        "(abs(value) >= threshold)",
        "(abs(value) > threshold)",
        ("merge/test_steps.py::test_trim_any_threshold_is_the_definition_in_both",),
    ),
    Fault(
        "a sign that wins at a tie",
        "merge/compiled_steps.py",
        "rises = up[i] > down[i]",
        "rises = up[i] >= down[i]",
        ("merge/test_steps.py::test_disjoint_merge_any_models_is_the_definition_in_both",),
    ),
    Fault(
        "a shift that copies the sign, on a GPU",
        "merge/torch_steps.py",
        "(words >> bits).bitwise_and_((1 << (64 - bits)) - 1)",
        "words >> bits",
        ("merge/test_steps.py::test_drop_any_stream_is_splitmix64_in_both",),
    ),
    # cluster
    Fault(
        "a barrier that may lie below the straight line",
        "cluster/line_parts.py",
        "barrier = max(known) if",
        "barrier = max(known[1:-1]) if",
        ("cluster/test_connectivity.py::test_barrier_is_the_most_above_the_straight_line",),
    ),
    Fault(
        "a child that starts before its parent",
        "cluster/dag.py",
        "return is_new and (trial.parent is None or trial.parent in self._done)",
        "return is_new",
        ("cluster/test_dag.py",),
    ),
    # report
    Fault(
        "a seed baseline of equal seeds",
        "report/findings/seed_baseline.py",
        "at_other_seeds(pairs))",
        "pairs if x.seed == y.seed)",
        ("report/findings/test_seed_baseline.py",),
    ),
    # publish
    Fault(
        "a token that is left in a message",
        "publish/upload.py",
        'str(error).replace(token, "***").strip()',
        "str(error).strip()",
        ("publish/test_upload.py::test_upload_error_that_repeats_the_token_is_told_without_it",),
    ),
    Fault(
        "a stacked parent that is published as a merged one",
        "publish/provenance.py",
        'if i and item.identity.get("chain") != "stack"',
        "if i",
        (
            "publish/test_loading.py::test_facts_split_a_chain_into_merged_and_stacked_parents_as_training_does",
        ),
    ),
)
