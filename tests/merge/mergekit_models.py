"""Checkpoints that differ by moves which tell themselves apart, merged here and by mergekit.

Float32 Llamas of four layers, 4 wide. q_proj and up_proj of their layers differ from the base by
whole numbers of 1/256, each of 1 to 16 once, with a sign; so do the embedding and the head, and the
norm by numbers of 1/16.
"""

import json
import os
import subprocess

import torch
from safetensors.torch import load_file, save_file

from raylab.merge.merge import merge_named
from raylab.spec.mergekit import read_mergekit

LAYERS = 4
MOVES = {
    "first": [5, -3, 12, -9, 1, -14, 7, 2, -11, 16, -6, 4, -13, 8, -15, 10],
    "second": [-6, 4, 10, -1, 13, -2, -8, 15, -5, 12, 3, -16, -7, 14, -9, 11],
    "third": [9, 2, -7, 16, -4, 11, -13, -1, 6, -15, 8, 3, -10, -5, 14, 12],
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4,
    "intermediate_size": 4, "num_hidden_layers": LAYERS, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 4, "tie_word_embeddings": False,
    "dtype": "float32",
}  # fmt: skip
SQUARE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
          "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
MOVED = ("self_attn.q_proj", "mlp.up_proj")


def start():
    return torch.tensor([(i - 8) / 8 for i in range(16)]).reshape(4, 4)


def moves_of(model, layer, module):
    moves = MOVES[model][3 * layer :] + MOVES[model][: 3 * layer]
    return moves if module == MOVED[0] else moves[::-1]


def save_models(folder):
    for model in ("base", *MOVES):
        tensors = {name: start() for name in ("model.embed_tokens.weight", "lm_head.weight")}
        tensors["model.norm.weight"] = torch.ones(4)
        for place, name in enumerate(OUTSIDE if model != "base" else ()):
            moves = torch.tensor(moves_of(model, place + 1, MOVED[1]))[: tensors[name].numel()]
            unit = 16 if name == "model.norm.weight" else 256
            tensors[name] = tensors[name] + moves.reshape(tensors[name].shape) / unit
        for layer in range(LAYERS):
            stem = f"model.layers.{layer}"
            for name in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{stem}.{name}.weight"] = torch.ones(4)
            for module in SQUARE:
                values = start()
                if module in MOVED and model != "base":
                    moves = torch.tensor(moves_of(model, layer, module)).reshape(4, 4)
                    values = values + moves / 256
                tensors[f"{stem}.{module}.weight"] = values
        (folder / model).mkdir()
        save_file(tensors, folder / model / "model.safetensors", metadata={"format": "pt"})
        (folder / model / "config.json").write_text(json.dumps(CONFIG))


def written(folder, text):
    save_models(folder)
    file = folder / "merge.yaml"
    file.write_text(text.replace("FOLDER", str(folder)))
    return file


def merged_by_mergekit(file, out, *options):
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [os.environ["RAYLAB_MERGEKIT"], str(file), str(out), *options]
    subprocess.run(command, check=True, capture_output=True, env={**own, "HF_HUB_OFFLINE": "1"})
    return load_file(out / "model.safetensors")


def merged_here(file, out):
    merge_named(read_mergekit(file), out)
    return load_file(out / "model.safetensors")


def moved(merged):
    """Of q_proj and up_proj of every layer, in turn, and of OUTSIDE, the moves in 1/256."""
    count = 1 + max(int(name.split(".")[2]) for name in merged if ".layers." in name)
    names = [f"model.layers.{i}.{module}.weight" for i in range(count) for module in MOVED]
    starts = {"model.norm.weight": torch.ones(4)}
    return [
        ((merged[name].double() - starts.get(name, start())) * 256).flatten().tolist()
        for name in (*names, *OUTSIDE)
    ]
