#!/bin/bash
# mergekit 0.1.5: the same merge with `tokenizer_source: union` gives new tokens other ids each time.
#
# A good guess: the ids of a union follow from the files, so two runs write the same tokenizer and
# the same embedding, and a checksum says that two people merged the same.
# What happens: mergekit keeps the models of a merge in a set, whose order depends on the hash of
# their names, which Python draws anew for every process. New tokens get ids in that order, and rows
# move with them: a prompt in text means the same, and token ids that were stored with one model are
# wrong for the other. The first of the set also stands in for a base model that is not named.
# What helps: name the `base_model`, set PYTHONHASHSEED, and keep token ids with the very files that
# they were made by.
#
# Seen on 2026-12-01 with Python 3.11:
#   PYTHONHASHSEED=1: <oak> 5, <elm> 6, <ash> 7, <apple> 8, <pear> 9, <plum> 10
#   PYTHONHASHSEED=4: <apple> 5, <pear> 6, <plum> 7, <oak> 8, <elm> 9, <ash> 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "mergekit==0.1.5" \
  "transformers==5.23.0" "accelerate==1.15.0" "peft==0.21.2"
cat > "$folder/models.py" <<'PYTHON'
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
added = {"fruit": ["<apple>", "<pear>", "<plum>"], "tree": ["<oak>", "<elm>", "<ash>"]}
for name, tokens in added.items():
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "the": 3, "a": 4}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.add_tokens(tokens)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=16,
    )
    LlamaForCausalLM(config).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
PYTHON
cat > "$folder/ids.py" <<'PYTHON'
import json
import sys

tokens = json.load(open(sys.argv[1], encoding="utf-8"))["added_tokens"]
print(", ".join(f"{token['content']} {token['id']}" for token in tokens if token["id"] > 4))
PYTHON
cat > "$folder/merge.yaml" <<YAML
merge_method: linear
models:
  - {model: fruit, parameters: {weight: 0.5}}
  - {model: tree, parameters: {weight: 0.5}}
dtype: float32
tokenizer_source: union
YAML
export HF_HUB_OFFLINE=1
cd "$folder"
"$folder/venv/bin/python" -W ignore "$folder/models.py" "$folder" > /dev/null 2>&1
for seed in 1 4; do
  PYTHONHASHSEED=$seed "$folder/venv/bin/mergekit-yaml" "$folder/merge.yaml" "$folder/out$seed" --no-write-model-card \
    > "$folder/log$seed" 2>&1 || { cat "$folder/log$seed"; exit 1; }
  echo "PYTHONHASHSEED=$seed: $("$folder/venv/bin/python" "$folder/ids.py" "$folder/out$seed/tokenizer.json")"
done
one=$("$folder/venv/bin/python" "$folder/ids.py" "$folder/out1/tokenizer.json")
other=$("$folder/venv/bin/python" "$folder/ids.py" "$folder/out4/tokenizer.json")
[ "$(wc -w <<< "$one")" = 12 ] || { echo "there are not six new tokens"; exit 1; }
[ "$one" != "$other" ] || { echo "the behaviour has changed"; exit 1; }
