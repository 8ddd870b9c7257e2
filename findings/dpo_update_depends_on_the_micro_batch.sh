#!/bin/bash
# trl 1.16.0 with transformers 5.23.0: with gradient accumulation, DPOTrainer weights every micro-batch
# alike, also the smaller last one; so the update of three pairs as 2 + 1 is not that of three pairs.
#
# A good guess: `per_device_train_batch_size=2, gradient_accumulation_steps=2` is the same training as
# 4 and 1, in less memory; for SFTTrainer it is, since its loss is divided by the number of tokens of
# the whole update.
# What happens: the loss of a micro-batch is a mean over its pairs, and the update is the mean of the
# micro-batches. The pair that is alone in the last one counts as much as two others.
# What helps: a number of pairs that the micro-batch divides, or a loss weighted by its pairs.
#
# Seen on 2026-11-30 with Python 3.11:
#   the update of 2 + 1 rows is apart from that of 3 rows by 0.319 of its norm
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "torch==2.13.0" "transformers==5.23.0" "trl==1.16.0" \
    "datasets==5.2.0" "accelerate==1.15.0" "tokenizers<1"
cat > "$folder/tried.py" <<'PYTHON'
import copy
import sys

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

words = ["<pad>", "</s>", "<unk>", *"red green blue sky sea leaf is what colour the a not".split()]
plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
plain.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>",
                                    unk_token="<unk>")
pairs = Dataset.from_list([
    {"prompt": "what colour is the sky", "chosen": " blue", "rejected": " red"},
    {"prompt": "what colour is a leaf", "chosen": " green", "rejected": " not green"},
    {"prompt": "what is the sea", "chosen": " the sea is blue", "rejected": " a leaf"},
])


def update(rows_at_once, accumulated):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(words), hidden_size=32, intermediate_size=64,
                         num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    model = LlamaForCausalLM(config)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    settings = DPOConfig(sys.argv[1], per_device_train_batch_size=rows_at_once,
                         gradient_accumulation_steps=accumulated, num_train_epochs=1, optim="sgd",
                         learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0,
                         bf16=False, gradient_checkpointing=False, use_cpu=True, report_to=[],
                         save_strategy="no", disable_tqdm=True)
    trainer = DPOTrainer(model, copy.deepcopy(model), args=settings, train_dataset=pairs, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 1
    after = dict(trainer.model.named_parameters())
    return torch.cat([(after[n].detach() - before[n]).flatten() for n in before])


whole, in_two = update(4, 1), update(2, 2)
print(f"the update of 2 + 1 rows is apart from that of 3 rows by "
      f"{float((in_two - whole).norm() / whole.norm()):.3f} of its norm")
PYTHON
export HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
found=$(cd "$folder" && "venv/bin/python" -W ignore tried.py out 2> /dev/null | tail -n 1)
echo "$found"
apart=$(sed -n 's/.* by \([0-9.]*\) of its norm/\1/p' <<< "$found")
awk -v apart="$apart" 'BEGIN { exit !(apart > 0.01) }' || { echo "the behaviour has changed"; exit 1; }
