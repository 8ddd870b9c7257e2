#!/bin/bash
# peft 0.21.2 with transformers 5.23.0: of a model whose head is tied to its embedding, a LoRA on
# `embed_tokens` gives other logits once it is merged.
#
# A good guess: `merge_and_unload` changes where the numbers are added, not what the model computes.
# What happens: in the forward pass the adapter changes the lookup of embeddings alone, and the head
# stays the base model's. The merge adds the delta to the one memory that both share, so the head
# moves as well; there is no warning, and both names still share their memory after it.
# What helps: write the head as a weight of its own (`tie_word_embeddings: false`) before the merge.
#
# Seen on 2026-11-30 with Python 3.11:
#   logits of up to 0.36 moved by up to 176.44
#   head and embedding are one weight after the merge: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "transformers==5.23.0" "peft==0.21.2" "accelerate==1.15.0"
cat > "$folder/tried.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules=["embed_tokens"],
                       init_lora_weights=False)).eval()
tokens = torch.arange(16)[None]
with torch.no_grad():
    before = model(tokens).logits
    merged = model.merge_and_unload()
    after = merged(tokens).logits
    head = merged.lm_head.weight is merged.model.embed_tokens.weight
print(f"logits of up to {before.abs().max():.2f} moved by up to {(after - before).abs().max():.2f}")
print(f"head and embedding are one weight after the merge: {head}")
PYTHON
export HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
found=$("$folder/venv/bin/python" -W ignore "$folder/tried.py" 2> /dev/null)
echo "$found"
grep -q "are one weight after the merge: True" <<< "$found"
moved=$(sed -n 's/.*moved by up to \([0-9.]*\)/\1/p' <<< "$found")
# A merge that changes nothing moves these logits by rounding, 1e-5 at most.
awk -v moved="$moved" 'BEGIN { exit !(moved > 1) }' || { echo "the behaviour has changed"; exit 1; }
