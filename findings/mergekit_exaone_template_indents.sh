#!/bin/bash
# mergekit 0.1.5: a merged model with `chat_template: exaone` is asked with four or eight spaces
# before each marker, and with a blank line of spaces after each message.
#
# A good guess: the text is that of EXAONE's own template, "[|user|]Hi\n[|assistant|]", for which
# mergekit's file was made; the file's indentation is only for the reader.
# What happens: transformers removes the spaces before `{%`, but not those before `{{`, and the line
# break after each `{{ }}` stays. The markers are the same, their tokens' neighbours are not; there
# is no warning.
# What helps: give the template itself in place of its name.
#
# Seen on 2026-12-01 with Python 3.11:
#   "    [|user|]Hi\n        \n\n    [|assistant|]\n"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "mergekit==0.1.5" \
  "transformers==5.23.0" "accelerate==1.15.0" "peft==0.21.2"
cat > "$folder/model.py" <<'PYTHON'
import sys

from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                     num_attention_heads=1, max_position_embeddings=16)
LlamaForCausalLM(config).save_pretrained(f"{sys.argv[1]}/model")
words = Tokenizer(models.WordLevel({word: n for n, word in enumerate("abcdefgh")}, unk_token="a"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="a").save_pretrained(f"{sys.argv[1]}/model")
PYTHON
cat > "$folder/seen.py" <<'PYTHON'
import json
import sys

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(f"{sys.argv[1]}/out")
chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
print(json.dumps(text[text.index("\n\n") + 2 :]))
PYTHON
cat > "$folder/merge.yaml" <<YAML
merge_method: linear
models:
  - {model: $folder/model, parameters: {weight: 1}}
tokenizer: {source: $folder/model}
chat_template: exaone
dtype: float32
YAML
export HF_HUB_OFFLINE=1
"$folder/venv/bin/python" -W ignore "$folder/model.py" "$folder" > /dev/null 2>&1
"$folder/venv/bin/mergekit-yaml" "$folder/merge.yaml" "$folder/out" \
  > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
found=$("$folder/venv/bin/python" -W ignore "$folder/seen.py" "$folder" 2> /dev/null)
echo "$found"
grep -qF '"    [|user|]Hi\n        \n\n    [|assistant|]\n"' <<< "$found" || { echo "the behaviour has changed"; exit 1; }
