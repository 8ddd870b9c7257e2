#!/bin/bash
# transformers 5.23.0: `generate(generation_config=mine)` takes every setting that `mine` does not
# mention from the model's own generation config, also where `mine` says `do_sample=False`.
#
# A good guess: a config that is passed takes the place of the model's, and greedy search without
# penalties is what remains.
# What happens: settings are None in a new GenerationConfig, and None is filled up from the model's
# config. Many published models bring a repetition_penalty, so two models of one study are compared
# under different rules of decoding, and "greedy" is not the most likely token.
# What helps: set the model's own generation_config aside for the call, or name every setting.
#
# Seen on 2026-11-30 with Python 3.11:
#   without a setting of the model: [47, 31, 35, 14, 6, 25, 29, 47, 55, 47, 45, 31]
#   with the model's penalty of 1.5, which the given config does not mention: [47, 31, 35, 14, 61, ...]
#   the given config says 1.0 itself: [47, 31, 35, 14, 6, 25, 29, 47, 55, 47, 45, 31]
#   penalty of the given config: None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "transformers==5.23.0" "accelerate==1.15.0"
cat > "$folder/tried.py" <<'PYTHON'
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, initializer_range=0.5)
model = LlamaForCausalLM(config).eval()
tokens = torch.arange(3, 11)[None]
asked = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 1}
plain = model.generate(tokens, generation_config=GenerationConfig(**asked))
model.generation_config.repetition_penalty = 1.5
mine = GenerationConfig(**asked)
given = model.generate(tokens, generation_config=mine)
stated = model.generate(tokens, generation_config=GenerationConfig(**asked, repetition_penalty=1.0))
print("without a setting of the model:", plain[0, 8:].tolist())
print("with the model's penalty of 1.5, which the given config does not mention:", given[0, 8:].tolist())
print("the given config says 1.0 itself:", stated[0, 8:].tolist())
print("penalty of the given config:", mine.repetition_penalty)
PYTHON
export HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
found=$("$folder/venv/bin/python" -W ignore "$folder/tried.py" 2> /dev/null)
echo "$found"
plain=$(sed -n 's/^without a setting of the model: //p' <<< "$found")
given=$(sed -n 's/^with the model.*mention: //p' <<< "$found")
stated=$(sed -n 's/^the given config says 1.0 itself: //p' <<< "$found")
test -n "$plain" && test "$plain" = "$stated"
test "$plain" != "$given" || { echo "the behaviour has changed"; exit 1; }
