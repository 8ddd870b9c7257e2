"""mergekit's YAML with gradients and filters gives mergekit's numbers.

NUMBERS are the moves of the merged tensors of `mergekit_models.moved`, by their place there, in
1/256, as mergekit 0.1.5 (mergekit-yaml, torch 2.15 on a CPU) gave them in
December 2026. Where RAYLAB_MERGEKIT names a mergekit-yaml, that runs too.
"""

import os

import pytest
import torch
from safetensors.torch import load_file

from raylab.merge.merge import merge_named
from raylab.merge.record import summary_lines
from raylab.spec.mergekit import read_mergekit
from raylab.spec.merges import request_merge
from tests.merge.mergekit_models import merged_by_mergekit, merged_here, moved, written

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
# The gradients of slerp that most published merges have.
SLERP = """
models:
  - model: FOLDER/second
  - model: FOLDER/base
merge_method: slerp
base_model: FOLDER/base
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7]
    - filter: mlp
      value: [1, 0.5, 0.7]
    - value: 0.5
dtype: float32
"""
BREADCRUMBS = """
models:
  - model: FOLDER/first
    parameters: {weight: 0.5, density: 0.5, gamma: [0.13, 0.25]}
  - model: FOLDER/second
    parameters: {weight: 0.25, density: [{filter: q_proj, value: 0.75}, {value: 0.5}], gamma: 0.07}
  - model: FOLDER/third
    parameters: {weight: -0.37, density: 0.9}
merge_method: METHOD
base_model: FOLDER/base
parameters:
  gamma: [{filter: up_proj, value: 0.26}]
  lambda: [{filter: q_proj, value: [0.5, 1.5]}, {value: 0.75}]
  normalize: [{filter: layers.2, value: true}, {filter: up_proj, value: [true, false]}]
dtype: float32
"""
PASSTHROUGH = """
models:
  - model: FOLDER/second
    parameters:
      scale:
        - filter: q_proj
          value: 0.0
        - filter: up_proj
          value: [1.0, 0.5]
        - value: 1.0
merge_method: passthrough
dtype: float32
"""
RESCALED_IN_PART = DOCUMENTED.replace(
    "int8_mask: true", "rescale: [{filter: q_proj, value: true}, {value: false}]"
).replace("normalize: true", "normalize: {filter: up_proj, value: [true, false]}")
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
    "rescaled_in_part": RESCALED_IN_PART,
    "slerp": SLERP,
    "breadcrumbs": BREADCRUMBS.replace("METHOD", "breadcrumbs"),
    "breadcrumbs_ties": BREADCRUMBS.replace("METHOD", "breadcrumbs_ties"),
    "passthrough": PASSTHROUGH,
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
    "rescaled_in_part": {
        3: [11.53847, 0, 5, 10.72223, -13.61539, 9.38461, -13, -16, -6, 15.07692, -11, 15, 7,
            -14, 13, -9],
        4: [0, 20.39999, -14.96001, 19.52, 0, -21.76, -17.68, 19.04, -17.04, 14.16, 0, 0, 15.2,
            -12.24001, 17.67999, -19.04001],
    },
    "slerp": {
        3: [6.54837, 2.56189, -4.09229, 7.26064, -6.06284, 9.29166, -4.69874, -10.68598, 2.00079,
            8.01826, -3.30441, 10.04929, -5.27496, -1.25827, 8.76077, -0.56113],
        4: [-2.51263, 4.40558, -1.58429, 3.53281, 0.845, -4.84468, -2.1291, 4.18874, -2.70169,
            3.31596, -1.77335, 1.24243, 3.05743, -0.23074, 3.98579, -0.50314],
    },
    "breadcrumbs": {
        3: [21.88815, -1.46053, -6.57237, 6.5329, -14.66447, 18.45395, -5.52631, -2.19079,
            -5.84211, 5.92105, -15.23684, 8.13158, 12.45395, -21.84868, 9.33553, -8.88158],
        4: [19.3728, 11.51315, -27.53947, 26.25, -18.29825, -3.4079, -13.9693, 28.70614,
            -22.81141, 10.16228, -14.82895, 3.07018, 34.04825, -31.99123, 14.52193, -12.49562],
    },
    "breadcrumbs_ties": {
        3: [21.88815, 1.5, 6.75, 7.75, 46.4375, 18.45395, -9.75, 2.25, 6, 9, -44.53847, -25.75,
            47.94231, -63.86539, -29.5625, -6.75],
        4: [74.57692, 17.5, -27.53947, -83.125, -53.48718, 3.5, -12.83334, 28.70614, 72.23611,
            12.05555, 46.95833, 4.66666, 34.04825, -93.51282, -45.98611, 12.83333],
    },
    "passthrough": {
        3: [51, 40.66667, 27, 35.83334, 13.83334, 27.66667, 4.83334, -8, 2.5, 4.66666, -14.83334,
            -3.5, -28, -28.33334, -21.16667, -38.16667],
        4: [256, 224, 192, 160, 128, 96, 64, 32, 0, -32, -64, -96, -128, -160, -192, -224],
    },
}  # fmt: skip


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


def test_merge_record_and_card_say_what_differs_by_tensor_and_by_model(tmp_path):
    file = written(tmp_path, CASES["breadcrumbs"])
    record = merge_named(read_mergekit(file), tmp_path / "out")
    assert record["lambda"] == "q_proj: [0.5, 1.5], *: 0.75"
    assert record["normalize"] == "layers.2: true, up_proj: [true, false], *: false"
    assert [row["gamma"] for row in record["models"]] == [
        "[0.13, 0.25]",
        0.07,
        "up_proj: 0.26, *: 0.01",
    ]
    lists = record["models"][2]["gamma_by_tensor"]
    assert [entry["value"] for entry in lists] == [0.01, 0.26]
    assert all("up_proj" in name for name in lists[1]["tensors"])
    first, *models = summary_lines(record)
    assert "lambda q_proj: [0.5, 1.5], *: 0.75" in first
    assert "gamma 0.07" in models[1]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- Lambda: q_proj: [0.5, 1.5], *: 0.75\n" in card
    assert "- Divided by the weights: layers.2: true, up_proj: [true, false], *: false\n" in card


def test_merge_passthrough_scales_what_an_adapter_leaves(tmp_path, demo_base, adapters):
    request = request_merge(
        "passthrough", [str(adapters[1])], base=str(demo_base), parameters={"scale": 0.5}
    )
    merge_named(request, tmp_path / "out")
    start = load_file(demo_base / "model.safetensors")
    for name, values in load_file(tmp_path / "out" / "model.safetensors").items():
        if "q_proj" not in name:
            assert torch.equal(values, (start[name].double() * 0.5).to(values.dtype)), name
