"""The same merges as mergekit's and PEFT's, where they mean the same; and where they do not.

mergekit: numbers that mergekit 0.1.5 (mergekit-yaml, torch 2.15 on a CPU) gave in November 2026 for
the same YAML over the same checkpoints; it is not installed where tests run. The checkpoints are
float32 Llamas of one layer, 4 wide, whose q_proj differs: entry i of the base is (i - 8) / 8, and
the models' are larger by FIRST[i] / 256 and SECOND[i] / 256. PEFT: called here.
"""

import json
import math

import pytest
import torch
from peft.utils import merge_utils
from safetensors.torch import load_file, save_file

from raylab.errors import NonFiniteError
from raylab.merge import compiled_steps
from raylab.merge.merge import merge_named
from raylab.spec.mergekit import read_mergekit

pytestmark = pytest.mark.filterwarnings("ignore:The density 1.0 is greater")

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
FIRST = [5, -3, 12, -9, 1, -14, 7, 2, -11, 16, -6, 4, -13, 8, -15, 10]
SECOND = [-6, 4, 10, -1, 13, -2, -8, 15, -5, 12, 3, -16, -7, 14, -9, 11]
FOUR, ZERO = [4] * 16, [0] * 16


def trim(delta, threshold):
    kept = delta.clone()
    return kept, compiled_steps.trim(kept.numpy(), threshold)


def disjoint_merge(deltas, *arguments):
    merged = torch.empty(deltas.shape[1], dtype=torch.float64)
    compiled_steps.disjoint_merge(deltas.numpy(), *arguments, merged.numpy())
    return merged


def weighted_sum(deltas, *arguments):
    merged = torch.empty(deltas.shape[1], dtype=torch.float64)
    compiled_steps.weighted_sum(deltas.numpy(), *arguments, merged.numpy())
    return merged


def as_mergekit(folder, text, own, models):
    """q_proj's move, in 1/256, after the merge that mergekit's YAML `text` describes."""
    starts = [(i - 8) / 8 for i in range(16)]
    for name, moves in zip(("base", "first", "second"), (ZERO, *models), strict=True):
        (folder / name).mkdir(parents=True)
        values = [start + move / 256 for start, move in zip(starts, moves, strict=True)]
        tensors = {Q_PROJ: torch.tensor(values).reshape(4, 4), "model.norm.weight": torch.ones(4)}
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
    listed = [
        {"model": str(folder / name), "parameters": parameters}
        for name, parameters in zip(("first", "second"), own, strict=True)
    ]
    file = folder / "merge.yaml"
    text = f"{text}\nmodels: {json.dumps(listed)}\ndtype: float32\n"
    file.write_text(text.replace("BASE", f"base_model: {folder / 'base'}"))
    merge_named(read_mergekit(file), folder / "out")
    merged = load_file(folder / "out" / "model.safetensors")[Q_PROJ].double().flatten().tolist()
    return [(value - start) * 256 for value, start in zip(merged, starts, strict=True)]


def of(*pairs):
    return [{"weight": weight, "density": density} for weight, density in pairs]


AGREED = [
    (
        "BASE\nmerge_method: ties",
        of((1.0, 0.5), (1.0, 0.5)),
        [0, 0, 11, -9, 13, -14, 0, 15, -11, 14, 0, -16, -13, 14, -12, 10.5],
    ),
    (
        "BASE\nmerge_method: ties",
        of((0.75, 0.5), (0.25, 0.25)),
        [0, 0, 12, -9, 13, -14, 0, 15, -11, 16, 0, -16, -13, 14, -15, 10],
    ),
    (
        "BASE\nmerge_method: ties\nparameters: {normalize: false, lambda: 0.5}",
        of((0.75, 0.5), (0.25, 0.5)),
        [0, 0, 5.75, -3.375, 1.625, -5.25, 0, 1.875, -4.125, 7.5, 0, -2, -4.875, 1.75, -6.75,
         5.125],
    ),
    (
        "BASE\nmerge_method: task_arithmetic",
        [{"weight": 0.75}, {"weight": -0.25}],
        [5.25, -3.25, 6.5, -6.5, -2.5, -10, 7.25, -2.25, -7, 9, -5.25, 7, -8, 2.5, -9, 4.75],
    ),
    (
        "BASE\nmerge_method: task_arithmetic\nparameters: {normalize: true, lambda: 2.0}",
        [{"weight": 0.75}, {"weight": 0.25}],
        [4.5, -2.5, 23, -14, 8, -22, 6.5, 10.5, -19, 30, -7.5, -2, -23, 19, -27, 20.5],
    ),
    (
        "BASE\nmerge_method: dare_linear",
        of((0.75, 1.0), (0.5, 1.0)),
        [0.75, -0.25, 14, -7.25, 7.25, -11.5, 1.25, 9, -10.75, 18, -3, -5, -13.25, 13, -15.75, 13],
    ),
    (
        "BASE\nmerge_method: dare_ties",
        of((0.75, 1.0), (0.5, 1.0)),
        [3.75, -2.25, 14, -7.25, 7.25, -11.5, 5.25, 9, -10.75, 18, -4.5, -8, -13.25, 13, -15.75,
         13],
    ),
    (
        "merge_method: linear",
        [{"weight": 3.0}, {"weight": 1.0}],
        [2.25, -1.25, 11.5, -7, 4, -11, 3.25, 5.25, -9.5, 15, -3.75, -1, -11.5, 9.5, -13.5, 10.25],
    ),
    (
        "merge_method: linear\nparameters: {normalize: false}",
        [{"weight": 0.75}, {"weight": 0.5}],
        [-63.25, -56.25, -34, -47.25, -24.75, -35.5, -14.75, 1, -10.75, 26, 13, 19, 18.75, 53,
         32.25, 69],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "own", "mergekits"), AGREED)
def test_merge_mergekits_yaml_gives_mergekits_numbers(tmp_path, text, own, mergekits):
    found = as_mergekit(tmp_path, text, own, (FIRST, SECOND))
    # Exact in binary, but for thirds; mergekit rounds a few times in float32.
    assert found == pytest.approx(mergekits, abs=256 * 2**-23)


def test_merge_ties_at_the_threshold_all_stay_where_mergekit_keeps_num_keep(tmp_path):
    mergekits = [4] * 4 + [0] * 12
    own = of((1.0, 0.25), (1.0, 0.25))
    found = as_mergekit(tmp_path, "BASE\nmerge_method: ties", own, (FOUR, ZERO))
    assert found == FOUR != mergekits


def test_merge_cancelling_models_leave_the_base_where_mergekit_takes_the_positive(tmp_path):
    mergekits = FOUR
    own = of((1.0, 1.0), (1.0, 1.0))
    found = as_mergekit(tmp_path, "BASE\nmerge_method: ties", own, (FOUR, [-4] * 16))
    assert found == ZERO != mergekits


def test_merge_nan_is_refused_where_mergekit_ranks_it_largest(tmp_path):
    # mergekit kept the two NaN among its four entries, and wrote them.
    own = of((1.0, 0.25), (1.0, 0.25))
    with pytest.raises(NonFiniteError, match="q_proj"):
        as_mergekit(tmp_path, "BASE\nmerge_method: ties", own, ([math.nan] * 2 + FIRST[2:], SECOND))


def test_merge_dare_scales_by_density_where_mergekit_restores_the_l1_norm(tmp_path):
    # Of 16 entries of 4 mergekit kept 10 and made them 6.4, so that their sum stayed 64.
    own = of((1.0, 0.5), (1.0, 0.5))
    found = as_mergekit(tmp_path, "BASE\nmerge_method: dare_linear", own, (FOUR, ZERO))
    assert set(found) == {0.0, 8.0}


def test_merge_dare_with_mergekits_norm_restores_the_sum(tmp_path):
    own = of((1.0, 0.5), (1.0, 0.5))
    text = "BASE\nmerge_method: dare_linear\nparameters: {rescale_norm: l1}"
    found = as_mergekit(tmp_path, text, own, (FOUR, ZERO))
    kept = [move for move in found if move]
    assert 0 < len(kept) < 16
    assert kept == pytest.approx([64 / len(kept)] * len(kept))


def rows(*models):
    return torch.tensor(models, dtype=torch.float32)


def test_ties_equal_weights_are_pefts():
    deltas = torch.randn(3, 4096, generator=torch.Generator().manual_seed(0))
    pefts = merge_utils.ties(list(deltas), torch.ones(3), density=0.3)
    limits = deltas.abs().sort(dim=1, descending=True).values[:, int(0.3 * 4096) - 1]
    kept = [trim(delta, limit.item())[0] for delta, limit in zip(deltas, limits, strict=True)]
    found = disjoint_merge(torch.stack(kept), [1.0] * 3, [1.0] * 3, True)
    torch.testing.assert_close(found, pefts.double(), rtol=1e-6, atol=1e-7)
    assert found.count_nonzero() > 1000


def test_task_arithmetic_any_weights_is_pefts():
    deltas = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1))
    weights = [0.5, -1.0, 2.0]
    pefts = merge_utils.task_arithmetic(list(deltas), torch.tensor(weights))
    torch.testing.assert_close(
        weighted_sum(deltas, weights, 1.0), pefts.double(), rtol=1e-5, atol=1e-6
    )


def test_ties_weights_come_before_the_election_where_pefts_come_after():
    deltas, weights = rows([3], [-2]), [1.0, 4.0]
    assert merge_utils.ties(list(deltas), torch.tensor(weights), density=1.0).tolist() == [3.0]
    assert disjoint_merge(deltas, weights, weights, True).tolist() == [-2.0]


def test_ties_weighted_mean_divides_by_weights_where_peft_divides_by_models():
    deltas, weights = rows([3], [2]), [1.0, 4.0]
    assert merge_utils.ties(list(deltas), torch.tensor(weights), density=1.0).tolist() == [5.5]
    assert disjoint_merge(deltas, weights, weights, True).tolist() == [(3 + 8) / 5]


def test_ties_cancelling_models_elect_no_sign_where_peft_elects_the_positive():
    deltas = rows([3], [-3])
    assert merge_utils.ties(list(deltas), torch.ones(2), density=1.0).tolist() == [3.0]
    assert disjoint_merge(deltas, [1.0, 1.0], [1.0, 1.0], True).tolist() == [0.0]


def test_trim_keeps_all_ties_where_peft_keeps_num_keep():
    delta = torch.full((10,), 0.5)
    assert merge_utils.prune(delta, 0.3, "magnitude").count_nonzero() == 3
    assert trim(delta, 0.5)[1] == 10
