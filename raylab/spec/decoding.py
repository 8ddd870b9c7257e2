"""How trained models are asked: greedily, or by the study's own settings, never by the model's.

Model: a checkpoint may come with decoding settings (generation_config.json, or config.json where
there is none), which transformers follows in every call: penalties, beams, a least length. They
change greedy answers and the rate of answers that stop. raylab takes only the special tokens from
them. `set_aside` names those that would have changed an answer.
Invariant: pure functions of files; a checkpoint without such settings gives nothing. The sampling
settings do_sample, temperature, top_k and top_p are not named: a study always gives its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylab.spec.models import json_of

SET_ASIDE = "decoding_set_aside"
"""The metric of a record that holds what was set aside; absent where nothing was."""

# Of transformers 5.23's GenerationConfig: a setting that may change an answer, and the values at
# which it does not. None and False change nothing anywhere.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "assistant_early_exit": (),
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "max_time": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "min_p": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (),
    "repetition_penalty": (1,),
    "sequence_bias": ({}, []),
    "stop_strings": ([], ""),
    "suppress_tokens": ([],),
    "token_healing": (),
    "top_h": (),
    "typical_p": (1,),
    "use_mtp": (),
    "watermarking_config": (),
}
# These have an effect among beams alone.
_OF_BEAMS: Mapping[str, tuple[Any, ...]] = {
    "early_stopping": (),
    "length_penalty": (1,),
    "renormalize_logits": (),
}


def set_aside(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a generation config's `settings` that would change an answer, by name."""
    known = dict(_NEUTRAL)
    if (settings.get("num_beams") or 1) != 1:
        known |= _OF_BEAMS
    return {
        name: value
        for name, neutral in sorted(known.items())
        if (value := settings.get(name)) is not None and value is not False
        if value not in neutral
    }


def set_aside_of(directory: Path) -> dict[str, Any]:
    """`set_aside` of the checkpoint at `directory`, as transformers reads its settings.

    Raises ModelError where the file with them is no JSON object.
    """
    own = json_of(directory / "generation_config.json")
    return set_aside(own if own is not None else json_of(directory / "config.json") or {})


def set_aside_message(name: str, found: Mapping[str, Any]) -> str | None:
    """One line on the settings that are not followed of the model `name`; None without any."""
    if not found:
        return None
    listed = ", ".join(f"{key} {json.dumps(value)}" for key, value in found.items())
    return (
        f"{name} comes with decoding settings that are set aside: {listed}; greedy answers are "
        "greedy, sampled ones follow the study alone"
    )
