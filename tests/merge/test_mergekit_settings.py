"""mergekit's YAML with gradients and filters gives mergekit's numbers.

The checkpoints are float32 Llamas of four layers, 4 wide. q_proj and up_proj of their layers differ
from the base by whole numbers of 1/256, each of 1 to 16 once, with a sign; NUMBERS are the moves of
the merged q_proj and up_proj of all layers, in 1/256, as mergekit 0.1.5 (mergekit-yaml, torch 2.15
on a CPU) gave them in December 2026. Where RAYLAB_MERGEKIT names a mergekit-yaml, that runs too.
"""

import json
import os
import subprocess

import pytest
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
MOVED = ("self_attn.q_proj", "mlp.up_proj")

# The example of TIES in mergekit's own repository, over the models here.
DOCUMENTED = """
models:
  - model: FOLDER/first
    parameters: {density: [1, 0.7, 0.1], weight: 1.0}
  - model: FOLDER/second
    parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}
  - model: FOLDER/third
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: FOLDER/base
parameters: {normalize: true, int8_mask: true}
dtype: float32
"""
NEGATIVE = """
models:
  - model: FOLDER/first
    parameters: {weight: [1.0, 0.5]}
  - model: FOLDER/second
    parameters: {weight: [{filter: q_proj, value: [-0.5, 0.25]}]}
  - model: FOLDER/third
merge_method: METHOD
base_model: FOLDER/base
parameters: {weight: [{filter: layers.2, value: -0.375}, {value: 0.75}]}
dtype: float32
"""
UNDIVIDED = NEGATIVE.replace("\nparameters: {", "\nparameters: {normalize: false, ")
# No sums of these weights cancel: there mergekit takes the positive sign, and raylab none.
UNEVEN = NEGATIVE.replace("[1.0, 0.5]", "[1.03, 0.51]")
CASES = {
    "documented": DOCUMENTED,
    "ties": NEGATIVE.replace("METHOD", "ties").replace("weight: [1.0, 0.5]", "density: 0.5"),
    "ties_undivided": UNDIVIDED.replace("METHOD", "ties").replace("[1.0, 0.5]", "[1.03, 0.51]"),
    "ties_rescaled": DOCUMENTED.replace("int8_mask: true", "rescale: true"),
    "task_arithmetic": NEGATIVE.replace("METHOD", "task_arithmetic"),
    "dare_linear": NEGATIVE.replace("METHOD", "dare_linear"),
    "dare_ties": UNEVEN.replace("METHOD", "dare_ties"),
    "linear": NEGATIVE.replace("METHOD", "linear"),
    "linear_undivided": UNDIVIDED.replace("METHOD", "linear"),
}


NUMBERS = {
    "documented": {
        0: [5, -3, 12, -9, 1, -14, 7, 2, -11, 16, -6, 4, -13, 8, -15, 10],
        1: [10.66667, -15, 8, -13, 4, -6, 16, -11, 2, 7, -14, 1, -9, 12, -3, 5],
        2: [-9, 13, -14, 7, 15, -11, 15.07692, -6, -16, -13, 9.38461, -13.61539, 10.23077, 5, 0,
            11.53847],
        3: [11.53847, 0, 5, 10.72223, -13.61539, 9.38461, -13, -16, -6, 15.07692, -11, 15, 7,
            -14, 13, -9],
        4: [0, 15, -11, 14.35294, 0, -16, -13, 14, -12.52941, 10.41177, 0, 0, 11.17647, -9, 13,
            -14],
        5: [-14, 13, -9, 11.17647, 0, 0, 10.77273, -12.52941, 14, -13, -16, 0, 14.35294, -11,
            15, -13],
        6: [14, 0, -16, 0, 14, -9, 11, 0, 0, 10, 0, 13, 0, 0, 15, 0],
        7: [0, 15, -13, 0, 13, 16, 10, 0, 0, 11.33333, -9, 14, 0, -16, 0, 14],
    },
    "ties": {
        3: [11, 3, 9, 11, -12, 14, -10, -16, 5.5, 14, -8, 15, -10.5, -8, 13, 16],
        4: [-13, -1, -11, 16, 8, 3, -11.5, -5, -15, 11, 9, 2, 12, 16, -4, -14],
    },
    "ties_undivided": {
        3: [17.78, 4.5, 11.03333, 25.81667, -19.60001, 17.35333, -23.88667, -12, 8.25, 22.70667,
            -13.17333, 12.96333, -15.75, -13.49333, 10.60666, 12],
        4: [9.65833, 1.74167, -9.76666, 16.55833, -7.10001, 2.73333, -8.88333, 7.34167, -15.5,
            6.83333, 3.41666, -2.8, 10.825, -12.14999, 2.18333, -13.69167],
    },
    "task_arithmetic": {
        3: [12.25, 2, 6.41667, 25.58333, -8.75, 13.41666, -23.58333, -6.41667, 3.25, 11.08333,
            -8.41666, 12.16666, -9.91666, -4.91667, 7.58333, 3.75],
        4: [9.54167, 1.70833, -9.58333, 16.29167, -7, 1.54166, -4.91666, 7.20833, -15.25,
            2.16667, -0.04167, -2.75, 10.625, -12, 2.16667, -13.45833],
    },
    "dare_linear": {
        3: [12.25, 2, 6.41667, 25.58333, -8.75, 13.41666, -23.58333, -6.41667, 3.25, 11.08333,
            -8.41666, 12.16666, -9.91666, -4.91667, 7.58333, 3.75],
        4: [9.54167, 1.70833, -9.58333, 16.29167, -7, 1.54166, -4.91666, 7.20833, -15.25,
            2.16667, -0.04167, -2.75, 10.625, -12, 2.16667, -13.45833],
    },
    "dare_ties": {
        3: [17.78, 4.5, 11.03333, 25.81667, -19.60001, 17.35333, -23.88667, -12, 8.25, 22.70667,
            -13.17333, 12.96333, -15.75, -13.49333, 10.60666, 12],
        4: [9.65833, 1.74167, -9.76666, 16.55833, -7.10001, 2.73333, -8.88333, 7.34167, -15.5,
            6.83333, 3.41666, -2.8, 10.825, -12.14999, 2.18333, -13.69167],
    },
    "linear": {
        3: [3.97298, 0.64865, 2.08109, 8.29729, -2.83784, 4.35136, -7.64864, -2.08108, 1.05405,
            3.5946, -2.72973, 3.94595, -3.21621, -1.59459, 2.45946, 1.2162],
        4: [-114.50009, -20.50006, 115.00011, -195.50009, 84.00002, -18.5, 59.00003, -86.50003,
            183.00005, -26, 0.50002, 33.00003, -127.50003, 144, -26.00002, 161.50009],
    },
    "linear_undivided": {
        3: [-521.08331, -464.66663, -393.58331, -307.75, -275.41666, -186.58331, -156.91666,
            -73.08333, 3.25, 77.75, 124.91666, 212.16666, 256.75, 328.41666, 407.58331, 470.41663],
        4: [286.875, 244.375, 198.41666, 189.625, 131.66666, 105.54166, 64.41666, 41.875,
            -15.25, -32.5, -69.375, -106.75, -128.04166, -185.33333, -205.83333, -256.125],
    },
    "ties_rescaled": {
        3: [13.10184, 0, 5.39682, 14.966, -15.27882, 11.03609, -14.03175, -21.76, -6.47619,
            17.05065, -11.87302, 20.4, -25.25714, -15.11111, 17.67999, 31.08571],
        4: [0, 20.39999, -14.96001, 19.52, 0, -21.76, -17.68, 19.04, -17.04, 14.16, 0, 0, 15.2,
            -12.24001, 17.67999, -19.04001],
    },
}  # fmt: skip


def start():
    return torch.tensor([(i - 8) / 8 for i in range(16)]).reshape(4, 4)


def moves_of(model, layer, module):
    moves = MOVES[model][3 * layer :] + MOVES[model][: 3 * layer]
    return moves if module == MOVED[0] else moves[::-1]


def save_models(folder):
    for model in ("base", *MOVES):
        tensors = {name: start() for name in ("model.embed_tokens.weight", "lm_head.weight")}
        tensors["model.norm.weight"] = torch.ones(4)
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
    """Of q_proj and up_proj of every layer, in turn, the moves in 1/256."""
    names = [f"model.layers.{i}.{module}.weight" for i in range(LAYERS) for module in MOVED]
    return [((merged[name].double() - start()) * 256).flatten().tolist() for name in names]


@pytest.mark.parametrize("case", CASES)
def test_merge_gradients_and_filters_give_mergekits_numbers(tmp_path, case):
    found = moved(merged_here(written(tmp_path, CASES[case]), tmp_path / "out"))
    for place, numbers in NUMBERS[case].items():
        # mergekit rounds a few times in float32.
        assert found[place] == pytest.approx(numbers, abs=256 * 2**-20)


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("case", CASES)
def test_merge_gradients_and_filters_give_what_mergekit_writes(tmp_path, case):
    file = written(tmp_path, CASES[case])
    mergekits, found = (
        merged_by_mergekit(file, tmp_path / "theirs"),
        merged_here(file, tmp_path / "out"),
    )
    assert found.keys() == mergekits.keys()
    for name, values in mergekits.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)
