#!/bin/bash
# mergekit 0.1.5: of `slices` whose first has one source and whose last has two, the last layers are
# merged of both models, and the final norm and the head are the first model's alone.
#
# A good guess: the tensors behind the layers belong to the last slice, as those before the layers
# belong to the first, and so have all of its sources.
# What happens: they are read from the last slice's models, but only from as many of them as the
# first slice has sources; there is no warning.
# What helps: give the first slice the same number of sources, one of them with the weight 0.
#
# Seen on 2026-12-01 with Python 3.11, where all weights of the models are 1 and 3:
#   layers: 1.0 2.0, norm: 1.0, head: 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "mergekit==0.1.5" \
  "transformers==5.23.0" "accelerate==1.15.0" "peft==0.21.2"
cat > "$folder/models.py" <<'PYTHON'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
                     num_attention_heads=1, max_position_embeddings=16)
for name, value in (("one", 1.0), ("other", 3.0)):
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    model.save_pretrained(f"{sys.argv[1]}/{name}")
PYTHON
cat > "$folder/seen.py" <<'PYTHON'
import sys

from safetensors import safe_open

with safe_open(f"{sys.argv[1]}/model.safetensors", "pt") as file:
    def value(name):
        return file.get_tensor(name).unique().item()
    layers = " ".join(str(value(f"model.layers.{n}.mlp.up_proj.weight")) for n in range(2))
    print(f"layers: {layers}, norm: {value('model.norm.weight')}, head: {value('lm_head.weight')}")
PYTHON
cat > "$folder/merge.yaml" <<YAML
merge_method: linear
slices:
  - sources:
      - {model: $folder/one, layer_range: [0, 1], parameters: {weight: 1}}
  - sources:
      - {model: $folder/one, layer_range: [1, 2], parameters: {weight: 1}}
      - {model: $folder/other, layer_range: [1, 2], parameters: {weight: 1}}
dtype: float32
YAML
export HF_HUB_OFFLINE=1
"$folder/venv/bin/python" -W ignore "$folder/models.py" "$folder" > /dev/null 2>&1
"$folder/venv/bin/mergekit-yaml" "$folder/merge.yaml" "$folder/out" \
  > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
found=$("$folder/venv/bin/python" "$folder/seen.py" "$folder/out")
echo "$found"
grep -q "layers: 1.0 2.0, norm: 1.0, head: 1.0" <<< "$found" || { echo "the behaviour has changed"; exit 1; }
