"""mergekit's YAML with slices and modules gives mergekit's layers, and mergekit's numbers.

NUMBERS are as in `test_mergekit_settings`.
"""

import json
import os

import pytest
import torch

from tests.merge.mergekit_models import merged_by_mergekit, merged_here, moved, written

STACKED = """
slices:
  - sources: [{model: FOLDER/first, layer_range: [0, 3]}]
  - sources: [{model: FOLDER/second, layer_range: [1, 4]}]
  - sources: [{model: FOLDER/first, layer_range: [2, 4]}]
merge_method: passthrough
dtype: float32
"""
SILENCED = """
slices:
  - sources:
    - model: FOLDER/first
      layer_range: [0, 3]
  - sources:
    - model: FOLDER/first
      layer_range: [1, 3]
      parameters:
        scale:
          - filter: o_proj
            value: 0.0
          - filter: down_proj
            value: 0.0
          - filter: layers.1.
            value: 0.5
          - value: 1.0
  - sources:
    - model: FOLDER/first
      layer_range: [3, 4]
merge_method: passthrough
dtype: float32
"""
SLERP = """
slices:
  - sources:
      - {model: FOLDER/first, layer_range: [0, 2]}
      - {model: FOLDER/second, layer_range: [1, 3]}
    base_model: FOLDER/second
    parameters: {t: [{filter: q_proj, value: [0.1, 0.9]}]}
  - sources:
      - {model: FOLDER/third, layer_range: [0, 3]}
      - {model: FOLDER/first, layer_range: [1, 4]}
    parameters: {t: [0.2, 0.7, 0.4]}
merge_method: slerp
base_model: FOLDER/first
parameters:
  t: 0.37
dtype: float32
"""
TIES = """
slices:
  - sources:
      - {model: FOLDER/base, layer_range: [0, 3]}
      - {model: FOLDER/first, layer_range: [0, 3], parameters: {weight: 0.3, density: 0.7}}
      - {model: FOLDER/second, layer_range: [1, 4], parameters: {weight: [0.5, 0.1]}}
    parameters: {density: [{filter: layers.2, value: 0.4}, {filter: layers.3, value: 0.8}]}
  - sources:
      - {model: FOLDER/base, layer_range: [2, 4]}
    parameters: {lambda: 0.5}
  - sources:
      - {model: FOLDER/third, layer_range: [0, 2], parameters: {weight: 1}}
      - {model: FOLDER/base, layer_range: [2, 4]}
      - {model: FOLDER/second, layer_range: [0, 2]}
    parameters: {weight: 0.45, lambda: [{filter: layers.5, value: 0.5}]}
merge_method: ties
base_model: FOLDER/base
parameters:
  density: 0.6
  lambda: 0.9
  normalize: false
dtype: float32
"""
LINEAR = """
slices:
  - sources:
      - {model: FOLDER/first, layer_range: [0, 2], parameters: {weight: 0.3}}
      - {model: FOLDER/second, layer_range: [2, 4], parameters: {weight: 0.9}}
  - sources:
      - {model: FOLDER/third, layer_range: [1, 4], parameters: {weight: [0.3, 1.0]}}
      - {model: FOLDER/second, layer_range: [1, 4], parameters: {weight: -0.1}}
merge_method: linear
dtype: float32
"""
MODULES = """
modules:
  default:
    slices:
      - sources:
          - {model: FOLDER/first, layer_range: [0, 2]}
          - {model: FOLDER/second, layer_range: [2, 4], parameters: {weight: 0.9}}
      - sources:
          - {model: FOLDER/first, layer_range: [1, 4], parameters: {weight: [0.3, 1.0]}}
          - {model: FOLDER/third, layer_range: [1, 4]}
        parameters: {weight: 0.2}
    parameters: {weight: [{filter: mlp, value: 0.7}], normalize: false}
merge_method: linear
parameters: {weight: 0.4, normalize: true}
dtype: float32
"""
NUSLERP = """
slices:
  - sources:
    - {model: FOLDER/first, layer_range: [0, 4], parameters: {weight: 0.6}}
    - {model: FOLDER/base, layer_range: [0, 4]}
    - {model: FOLDER/second, layer_range: [0, 4], parameters: {weight: 0.4}}
  - sources:
    - {model: FOLDER/base, layer_range: [1, 3]}
    - {model: FOLDER/third, layer_range: [2, 4], parameters: {weight: 0.6}}
    - {model: FOLDER/second, layer_range: [2, 4], parameters: {weight: 0.4}}
merge_method: nuslerp
base_model: FOLDER/base
parameters: {nuslerp_flatten: false}
dtype: float32
"""
MODEL_STOCK = """
slices:
  - sources:
    - {model: FOLDER/first, layer_range: [0, 3]}
    - {model: FOLDER/base, layer_range: [0, 3]}
    - {model: FOLDER/second, layer_range: [0, 3]}
  - sources:
    - {model: FOLDER/base, layer_range: [3, 4]}
    - {model: FOLDER/third, layer_range: [3, 4]}
    - {model: FOLDER/second, layer_range: [3, 4]}
merge_method: model_stock
base_model: FOLDER/base
parameters: {filter_wise: [{filter: q_proj, value: true}, {value: false}]}
dtype: float32
"""
CASES = {
    "nuslerp": NUSLERP,
    "model_stock": MODEL_STOCK,
    "stacked": STACKED,
    "silenced": SILENCED,
    "slerp": SLERP,
    "ties": TIES,
    "linear": LINEAR,
    "modules": MODULES,
}

NUMBERS: dict = {
    "stacked": {
        3: [12, -3, 5, 10, -15, 8, -13, 4, -6, 16, -11, 2, 7, -14, 1, -9],
        -4: [-11, 2, 7, -14, 1, -9, 12, -3, 5, 10, -15, 8, -13, 4, -6, 16],
        -3: [12, -3, 5, 10, -15, 8, -13, 4, -6, 16, -11, 2, 7, -14, 1, -9],
        -2: [-224, 16, -144, 192],
        -1: [-11, 2, 7, -14, 1, -9, 12, -3, 5, 10, -15, 8, -13, 4, -6, 16],
    },
    "silenced": {
        3: [12, -3, 5, 10, -15, 8, -13, 4, -6, 16, -11, 2, 7, -14, 1, -9],
        -4: [-11, 2, 7, -14, 1, -9, 12, -3, 5, 10, -15, 8, -13, 4, -6, 16],
        -3: [12, -3, 5, 10, -15, 8, -13, 4, -6, 16, -11, 2, 7, -14, 1, -9],
        -2: [-224, 16, -144, 192],
        -1: [-11, 2, 7, -14, 1, -9, 12, -3, 5, 10, -15, 8, -13, 4, -6, 16],
    },
    "slerp": {
        3: [2.92207, 6.8562, 1.02496, 9.84622, -3.16602, -0.91801, 2.05443, -4.22594, 6.60499,
            1.5464, -14.09845, 2.73102, 10.29117, -8.17532, 10.02565, -8.14903],
        -4: [-2.40875, -0.58279, 10.45299, -11.33884, 1.29711, -1.87855, 11.95772, 3.77799,
            1.00027, 2.02656, -7.75333, 8.08456, -13.70725, 4.93411, -3.84686, 4.58415],
        -3: [10.61813, 1.29903, -2.02596, 10.55569, -11.28949, 11.73786, -9.25667, -8.61932,
            -0.33055, 13.50278, -7.19203, 10.24224, -2.38692, -6.36417, 8.65919, -3.85095],
        -2: [-124.43326, 23.97525, -36.4193, 163.64371],
        -1: [-7.85706, 1.17949, 2.80933, -9.16202, -0.12746, -4.09386, 8.14111, -2.0326, 5.80652,
            10.44228, -9.14013, 5.49761, -12.2852, 3.96164, -3.0107, 10.02487],
    },
    "ties": {
        3: [3.24001, 3.50999, 0, 2.7, -4.05, 2.16, -3.51, 0, 3.78, 4.32, -7.29, 0, 5.13, -3.78,
            4.05, -2.42999],
        -4: [4.05, 0, 8.10001, 15.255, 12.6, 5.67, -9, -6.48, 7.2, -13.5, 0, 6.075, -14.94,
            9.89999, 5.265, 14.39999],
        -3: [7.74001, 0, 0, 7.64999, -8.10001, 8.46, -3.51, -7.2, -1.62, 9.72, -2.97, 6.75, -3.6,
            -3.78, 5.85001, -2.42999],
        -2: [158.39999, 84.23999, 230.39999, 64.79999],
        -1: [0, 6.075, -14.94, 9.89999, 5.265, 14.4, 4.05, 0, 8.1, 15.255, 12.6, 5.67, -9, -6.48,
            7.2, -13.5],
    },
    "linear": {
        3: [-0.75, 10.5, -4.74998, 1, 6.00001, 1.25001, 4.25, 4, -6, 12.25, -9.5, 10.99999,
            -3.50001, -15.50002, 2.49998, 6.74998],
        -4: [7.22223, -2.77779, -13.55556, 12.44444, -5.88889, 17.88889, -8.88889, 1.77778,
            10.66667, 12.11111, 16.55556, -7.11111, -10.33333, 5.11113, 8.55556, -18],
        -3: [10.5, 2.25, -3.25, 10.75002, -10.49998, 12.50001, -8.5, -11, 0.75, 13, -6.5, 11.75,
            -4.25001, -5, 9.99998, -3.00003],
        -2: [280, -200, 392, -248],
        -1: [11.50003, -8.99997, -15.5, 17.50002, -12.5, 24.50001, -15.5, 1, 16.5, 12.5, 25.5,
            -14.5, -11.50001, 12.49998, 10.5, -28.5],
    },
    "modules": {
        3: [-149.69998, -123, -118.89999, -90.8, -75.59999, -52.89999, -38.5, -12.8, -9.6, 40.3,
            22.6, 71.59999, 75.39999, 71.79999, 118.59998, 138.89999],
        -4: [-61, -43, -34, -43.8, -25.39999, -25, -2.2, -9, 6.8, 18.8, 0.6, 26.2, 10.60001,
            36.60001, 34, 57.79999],
        -3: [-63, -64.79999, -61, -34.09999, -52.5, -13, -30.7, -22.4, 0.3, 26.8, 10.3, 43.09999,
            34, 40.59999, 69.70001, 62.69998],
        -2: [-160, -135.99999, -120, -92.79999],
        -1: [125.89999, 112.39999, 95.49999, 78, 63.5, 48.5, 34.2, 15.5, 3.3, -10.6, -33.7,
            -46.6, -69.9, -78.2, -96.2, -110.2],
    },
    "nuslerp": {
        3: [12.15854, -0.17586, 0.58682, 11.30701, -14.31142, 11.91928, -12.03049, -4.75666,
            -2.58307, 15.85117, -9.4412, 8.0314, 0.95818, -12.62386, 8.54993, -7.94537],
        -4: [1.86189, 7.53264, -14.46062, 7.38109, 6.22265, 15.73309, 0.73371, 5.25237, 4.1632,
            18.80489, 6.70862, 5.12792, -14.60124, -8.6976, 9.80238, -5.64471],
        -3: [12.15854, -0.17586, 0.58682, 11.30701, -14.31142, 11.91928, -12.03049, -4.75666,
            -2.58307, 15.85117, -9.4412, 8.0314, 0.95818, -12.62386, 8.54993, -7.94537],
        -2: [160.40018, 103.25436, 258.44434, 12.82971],
        -1: [1.86189, 7.53264, -14.46062, 7.38109, 6.22265, 15.73309, 0.73371, 5.25237, 4.1632,
            18.80489, 6.70862, 5.12792, -14.60124, -8.6976, 9.80238, -5.64471],
    },
    "model_stock": {
        3: [7.11443, 0.32338, -0.32338, 6.79105, -7.7612, 7.11443, -6.46767, -3.8806, -0.97015,
            9.05473, -5.17413, 5.49751, -0.32338, -5.17413, 4.52736, -3.23383],
        -4: [-0.29974, -4.19633, 6.29454, -2.69765, -2.69765, -4.49609, -0.89922, -1.79844,
            -0.89922, -6.89401, -1.4987, -2.69766, 5.09557, 3.89661, -3.29715, 0.8992],
        -3: [7.11443, 0.32338, -0.32338, 6.79105, -7.7612, 7.11443, -6.46767, -3.8806, -0.97015,
            9.05473, -5.17413, 5.49751, -0.32338, -5.17413, 4.52736, -3.23383],
        -2: [-122.54944, -122.54944, -204.24902, -40.84979],
        -1: [-0.29974, -4.19633, 6.29454, -2.69765, -2.69765, -4.49609, -0.89922, -1.79844,
            -0.89922, -6.89401, -1.4987, -2.69766, 5.09557, 3.89661, -3.29715, 0.8992],
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_merge_of_slices_gives_mergekits_numbers(tmp_path, case):
    found = moved(merged_here(written(tmp_path, CASES[case]), tmp_path / "out"))
    for place, numbers in NUMBERS[case].items():
        # mergekit rounds a few times in float32.
        assert found[place] == pytest.approx(numbers, abs=256 * 2**-20)


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("case", CASES)
def test_merge_of_slices_gives_what_mergekit_writes(tmp_path, case):
    file = written(tmp_path, CASES[case])
    mergekits = merged_by_mergekit(file, tmp_path / "theirs")
    found = merged_here(file, tmp_path / "out")
    assert found.keys() == mergekits.keys()
    for name, values in mergekits.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)
    ours, theirs = (
        json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("out", "theirs")
    )
    assert ours["num_hidden_layers"] == theirs["num_hidden_layers"]
