#!/bin/bash
# transformers 5.23.0: a checkpoint in fp8 with a scale for each block of 128 x 128 is dequantised
# wrongly where a matrix is not a whole number of blocks; there is no error and no warning.
#
# A good guess: the last block of a row or a column is the smaller one, as the code that wrote the
# file has it (DeepSeek-V3 has a matrix of 576 rows, 4.5 blocks), and `dequantize: true` gives it its
# own scale.
# What happens: the size of a block is taken to be the size of the matrix over the number of scales
# (integrations/finegrained_fp8.py), here 72 for 144 rows, so rows 72 to 127 get the second scale.
# Where the division leaves a rest, loading raises an error instead.
# What helps: multiply codes and scales by blocks of `weight_block_size` oneself.
#
# Seen on 2026-11-30 with Python 3.11:
#   q_proj (128, 128): off by 0.0000 of its norm
#   up_proj (144, 128): off by 0.0747 of its norm
#   down_proj (128, 144): off by 0.0149 of its norm
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "transformers==5.23.0" "accelerate==1.15.0" "safetensors==0.8.0"
cat > "$folder/tried.py" <<'PYTHON'
import json, sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

BLOCK = 128
folder = Path(sys.argv[1])
torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=128, intermediate_size=144, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False)
LlamaForCausalLM(config).save_pretrained(folder)
tensors, true = load_file(folder / "model.safetensors"), {}
for name in [n for n in tensors if n.endswith("_proj.weight")]:
    weight = tensors[name].float()
    rows, columns = weight.shape
    scales = torch.zeros(-(-rows // BLOCK), -(-columns // BLOCK))
    codes, whole = torch.zeros_like(weight), torch.zeros_like(weight)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            part = slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK)
            scales[i, j] = weight[part].abs().max() / 448
            codes[part] = weight[part] / scales[i, j]
            whole[part] = codes[part].to(torch.float8_e4m3fn).float() * scales[i, j]
    tensors[name] = codes.to(torch.float8_e4m3fn)
    tensors[name + "_scale_inv"] = scales
    true[name] = whole
save_file(tensors, folder / "model.safetensors", {"format": "pt"})
config = json.loads((folder / "config.json").read_text())
config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                 "weight_block_size": [BLOCK, BLOCK], "dequantize": True}
(folder / "config.json").write_text(json.dumps(config))
loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
for kind in ("q_proj", "up_proj", "down_proj"):
    name = next(n for n in true if kind in n)
    apart = (loaded[name] - true[name]).norm() / true[name].norm()
    print(f"{kind} {tuple(true[name].shape)}: off by {float(apart):.4f} of its norm")
PYTHON
export HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
mkdir "$folder/model"
found=$("$folder/venv/bin/python" -W ignore "$folder/tried.py" "$folder/model" 2> /dev/null)
echo "$found"
grep -q "q_proj (128, 128): off by 0.0000" <<< "$found"
off=$(sed -n 's/up_proj .* off by \([0-9.]*\) of.*/\1/p' <<< "$found")
awk -v off="$off" 'BEGIN { exit !(off > 0.01) }' || { echo "the behaviour has changed"; exit 1; }
