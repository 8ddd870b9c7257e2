"""Whole merges of small checkpoints and adapters, against the papers' definitions in float64."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.errors import InputError, ModelError, NonFiniteError, OutError
from raylab.merge import backend
from raylab.merge.merge import merge_models
from raylab.merge.record import summary_lines
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_settings import Part, Varying
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
from raylab.weights import row_tiles
from raylab.weights.checkpoint_writer import CheckpointWriter
from tests.merge import models
from tests.merge.models import NAMES, drawn, made, near, place, saved
from tests.oracles import merging as oracle


@pytest.fixture
def trio(tmp_path):
    """(base, two models) on disk, with their values."""
    return made(tmp_path)


def merge(out, method, paths, base=True, threads=2, most_bytes=10**9, **options):
    """Merge the checkpoints or adapters `paths[1:]` over `paths[0]`; (record, weights)."""
    models = paths[1:]
    base = paths[0] if base else None
    request = request_merge(
        method, [str(path) for path in models], base=str(base) if base else None, **options
    )
    places = [p if isinstance(p, ModelLocation) else place(p) for p in models]
    record = merge_models(request, places, base, out, most_bytes=most_bytes, threads=threads)
    weights = {}
    for file in sorted(out.glob("*.safetensors")):
        weights |= load_file(file)
    return record, weights


def expected(method, base, deltas, *, weights=None, density=0.2, scope="global", scaling=1.0,
             seed=0, normalize=None, dtype=None, parameters=None):  # fmt: skip
    """The merged values by tensor, each model given by its task vectors (or values) by tensor."""
    row = METHODS[method]
    weights = weights or [1.0] * len(deltas)
    normalize = row.normalizes if normalize is None else normalize
    limits = [oracle.threshold(list(d.values()), density)[1] for d in deltas]
    merged = {}
    for name, start in base.items():
        rounds_to = dtype or NAMES[start.dtype]
        start = start.double().numpy().ravel()
        mine = [(i, d[name]) for i, d in enumerate(deltas) if name in d]
        own = [weights[i] for i, _ in mine]
        columns = [np.ravel(values).astype(np.float64) for _, values in mine]
        factors = own
        if method == "ties":
            per_tensor = [oracle.threshold([values], density)[1] for _, values in mine]
            used = per_tensor if scope == "tensor" else [limits[i] for i, _ in mine]
            columns = [oracle.trimmed(v, t) for (_, v), t in zip(mine, used, strict=True)]
        if method.startswith("breadcrumbs"):
            gamma = parameters["gamma"]
            of_model = [[v] if scope == "tensor" else list(deltas[i].values()) for i, v in mine]
            bounds = [oracle.breadcrumbs(arrays, density, gamma) for arrays in of_model]
            columns = [oracle.between(v, *b) for (_, v), b in zip(mine, bounds, strict=True)]
        if method.startswith("dare"):
            columns = [oracle.dropped(v, density, seed, i, name) for i, v in mine]
            factors = [weight / density for weight in own]
        if method.startswith("della"):
            epsilon = parameters["epsilon"]
            columns = [oracle.dropped_by_rank(v, density, epsilon, seed, i, name) for i, v in mine]
        if METHODS[method].elects:
            moves = oracle.elected(columns, factors, own, normalize)
        else:
            moves = oracle.summed(columns, factors, sum(weights) if normalize else 1.0)
        start = np.zeros_like(start) if method == "linear" else start
        merged[name] = oracle.moved(start, moves or [0.0] * start.size, scaling, rounds_to)
    return merged


def deltas_of(base, others):
    floats = {name: values.float().numpy() for name, values in base.items()}
    return [
        {n: oracle.task_vector(v.float().numpy(), floats[n]) for n, v in other.items()}
        for other in others
    ]


def flat(weights):
    return {name: values.double().flatten().tolist() for name, values in weights.items()}


CASES = [
    ("ties", {}),
    ("ties", {"scope": "tensor", "weights": [0.3, 0.7], "density": 0.5, "scaling": 1.7}),
    ("ties", {"density": 1.0, "weights": [0.0, 2.0]}),
    ("ties", {"normalize": False, "weights": [2.0, 0.5], "density": 0.5}),
    ("task_arithmetic", {"weights": [0.5, -0.25], "scaling": 2.0}),
    ("task_arithmetic", {"normalize": True, "weights": [0.5, 0.25]}),
    ("breadcrumbs", {"density": 0.4, "parameters": {"gamma": 0.2}, "weights": [1.0, -0.5]}),
    ("breadcrumbs", {"density": 0.9, "parameters": {"gamma": 0.4}, "scope": "tensor"}),
    ("breadcrumbs_ties", {"density": 0.5, "parameters": {"gamma": 0.1}, "scaling": 0.5}),
    ("dare_ties", {"density": 0.3, "seed": 4, "weights": [1.0, 0.5]}),
    ("dare_linear", {"density": 0.6, "seed": 2**63 + 1}),
    ("della", {"density": 0.5, "seed": 4, "weights": [1.0, 0.5], "parameters": {"epsilon": 0.3}}),
    ("della", {"density": 1.0, "parameters": {"epsilon": 0.15}}),
    ("della_linear", {"density": 0.4, "seed": 2**63 + 1, "parameters": {"epsilon": 0.15}}),
]


@pytest.mark.parametrize(("method", "options"), CASES)
@pytest.mark.parametrize("kind", ["normal", "sparse", "tied", "tiny", "huge", "adversarial"])
def test_merge_any_method_and_values_is_the_papers_definition(tmp_path, kind, method, options):
    base, others, paths = made(tmp_path, kind)
    record, weights = merge(tmp_path / "out", method, paths, **options)
    wanted = expected(method, base, deltas_of(base, others), **options)
    assert flat(weights) == wanted
    assert weights["deep.0.weight"].shape == (2, 3, 2)
    assert record["numel"] == sum(values.numel() for values in base.values())


@pytest.mark.parametrize("dtype", NAMES)
def test_merge_three_models_of_any_dtype_keeps_the_bases(tmp_path, dtype):
    base, others, paths = made(tmp_path, dtype=dtype, models=3)
    _, weights = merge(tmp_path / "out", "ties", paths, density=0.4)
    assert flat(weights) == expected("ties", base, deltas_of(base, others), density=0.4)
    assert {values.dtype for values in weights.values()} == {dtype}


def test_merge_linear_without_base_is_the_mean_of_values(tmp_path):
    base, others, paths = made(tmp_path)
    _, weights = merge(tmp_path / "out", "linear", paths, base=False, weights=[1.0, 3.0])
    values = [{n: v.float().numpy() for n, v in other.items()} for other in others]
    assert flat(weights) == expected("linear", base, values, weights=[1.0, 3.0])


LAYERED = {
    "embed.weight": (5, 4),
    **{f"h.{i}.{name}.weight": (4, 6) for i in range(3) for name in "ab"},
}


@pytest.mark.parametrize("method", ["ties", "task_arithmetic", "dare_ties", "linear"])
def test_merge_settings_by_tensor_are_those_of_the_tensor_merged_alone(
    tmp_path, monkeypatch, method
):
    monkeypatch.setattr(models, "SHAPES", LAYERED)
    _, _, paths = made(tmp_path)
    weights = [Varying((Part((0.5, 1.5)),)), Varying((Part((-0.5,), "h.1.a"), Part((1.0,))))]
    density = [Varying((Part((0.25, 0.75)),)), Varying((Part((0.0,), "b"), Part((0.5,))))]
    options = {"scope": "tensor"} if method == "ties" else {}
    of = {"density": density} if METHODS[method].keeps != "all" else {}
    record, whole = merge(tmp_path / "out", method, paths, weights=weights, **of, **options)
    for number, name in enumerate(LAYERED):
        layer = int(name[2]) if name[0] == "h" else 0
        of_tensor = [0.5 + layer / 2, -0.5 if name.startswith("h.1.a") else 1.0]
        shares = [0.25 + layer / 4, 0.0 if "b" in name else 0.5]
        kept = [0, 1] if shares[1] or not of else [0]
        alone = {"density": [shares[i] for i in kept]} if of else {}
        _, weights_alone = merge(
            tmp_path / f"alone-{number}",
            method,
            [paths[0], *(paths[1 + i] for i in kept)],
            weights=[of_tensor[i] for i in kept],
            **alone,
            **options,
        )
        assert torch.equal(whole[name], weights_alone[name])
    row = record["models"][1]
    assert row["weight"] == "h.1.a: -0.5, *: 1"
    named = [entry["tensors"] for entry in row["weight_by_tensor"] if entry["value"] == -0.5]
    assert named == ([["h.1.a.weight"]])
    assert any("weight h.1.a: -0.5, *: 1" in line for line in summary_lines(record))


def test_merge_record_tells_thresholds_and_counts(tmp_path):
    base, others, paths = made(tmp_path, "adversarial")
    record, _ = merge(tmp_path / "out", "ties", paths, density=0.3)
    for row, delta in zip(record["models"], deltas_of(base, others), strict=True):
        keep, limit = oracle.threshold(list(delta.values()), 0.3)
        reach = sum(int((np.abs(values) >= limit).sum()) for values in delta.values())
        assert (row["num_keep"], row["threshold"]) == (keep, limit)
        assert row["kept"] == row["at_or_above"] == reach > keep
    assert json.loads((tmp_path / "out" / "merge.json").read_text()) == record
    for name, entry in record["files"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_merge_scope_tensor_tells_every_tensors_threshold(tmp_path):
    base, others, paths = made(tmp_path)
    record, _ = merge(tmp_path / "out", "ties", paths, scope="tensor", density=0.3)
    delta = deltas_of(base, others)[1]
    found = record["models"][1]["tensors"]
    assert {n: (t["num_keep"], t["threshold"]) for n, t in found.items()} == {
        name: oracle.threshold([values], 0.3) for name, values in delta.items()
    }
    assert record["models"][1]["kept"] == sum(tensor["kept"] for tensor in found.values())


def test_merge_zeros_at_a_threshold_of_zero_are_not_counted(tmp_path):
    base = drawn(0)
    other = {**base, "norm.weight": base["norm.weight"] + 1}
    paths = [saved(tmp_path / "b", base), saved(tmp_path / "m", other)]
    record, weights = merge(tmp_path / "out", "ties", paths, density=0.9)
    row = record["models"][0]
    assert (row["threshold"], row["kept"]) == (0.0, 7)
    assert row["at_or_above"] == row["numel"] == 73
    assert torch.equal(weights["norm.weight"], other["norm.weight"])


def test_merge_model_that_is_the_base_gives_its_very_bytes(tmp_path, trio):
    base, _, paths = trio
    base["a.weight"][0, 0] = -0.0
    save_file(base, paths[0] / "model.safetensors")
    _, weights = merge(tmp_path / "out", "ties", [paths[0], paths[0]])
    for name, values in base.items():
        assert torch.equal(weights[name].view(torch.int16), values.view(torch.int16))


@pytest.mark.parametrize(("method", "options"), [CASES[1], CASES[6], ("ties", {})])
def test_merge_any_tiles_and_threads_give_the_same_bytes(
    tmp_path, trio, monkeypatch, method, options
):
    merge(tmp_path / "once", method, trio[2], threads=1, **options)
    monkeypatch.setattr(backend, "CPU", replace(backend.CPU, entries=11))
    merge(tmp_path / "again", method, trio[2], threads=3, **options)
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("once", "again"))
    assert first == second


@pytest.mark.parametrize("method", ["linear", "model_stock", "iso_c"])
def test_merge_writes_a_file_from_its_beginning_to_its_end(tmp_path, monkeypatch, method):
    """Else what was written waits in memory for its digest, as wide dtypes come first in a file."""
    paths, drawn_of = [], [drawn(0), drawn(1), drawn(2)]
    for number, values in enumerate(drawn_of):
        folder = saved(tmp_path / f"m{number}", {"a.weight": values["a.weight"]})
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        wide = {"z.weight": values["b.weight"].float()}
        save_file(wide, folder / "model-00002-of-00002.safetensors")
        shards = {"a.weight": "model-00001-of-00002", "z.weight": "model-00002-of-00002"}
        index = {"weight_map": {name: f"{file}.safetensors" for name, file in shards.items()}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        paths.append(folder)
    written = []
    write = CheckpointWriter.write_rows
    monkeypatch.setattr(
        CheckpointWriter,
        "write_rows",
        lambda s, *piece: written.append(piece[0]) or write(s, *piece),
    )
    merge(tmp_path / "out", method, paths, base=method != "linear", threads=1)
    assert list(dict.fromkeys(written)) == ["z.weight", "a.weight"]


def test_merge_small_files_come_with_an_index(tmp_path, trio):
    _, whole = merge(tmp_path / "one", "ties", trio[2])
    _, parts = merge(tmp_path / "many", "ties", trio[2], most_bytes=60)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(whole)
    assert index["metadata"]["total_size"] == 2 * 73
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()
    assert len(set(index["weight_map"].values())) == 3
    assert all(torch.equal(parts[name], values) for name, values in whole.items())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "many" / file)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].combines == "entries"])
def test_merge_non_finite_values_name_the_tensor_and_leave_nothing(tmp_path, value, method):
    _, others, paths = made(tmp_path)
    others[1]["b.weight"][1, 2] = value
    save_file(others[1], paths[2] / "model.safetensors")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NonFiniteError, match=r"b\.weight") as found:
        merge(tmp_path / "out", method, paths)
    assert "b.weight" in found.value.message
    assert sorted(tmp_path.iterdir()) == before


def test_merge_overflow_is_an_error(tmp_path):
    _, _, paths = made(tmp_path, dtype=torch.float16)
    with pytest.raises(NonFiniteError, match="overflows"):
        merge(tmp_path / "out", "task_arithmetic", paths, scaling=1e6)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("a.weight"), "a.weight: none"),
        (lambda t: t.update(extra=torch.zeros(2)), "extra: (2,)"),
        (lambda t: t.update({"a.weight": torch.zeros(9, 5)}), "a.weight: (9, 5), base: (6, 5)"),
    ],
)
def test_merge_other_shapes_are_refused_by_name(tmp_path, change, named):
    base, others, _ = made(tmp_path / "x")
    change(others[0])
    paths = [saved(tmp_path / "b", base), saved(tmp_path / "m", others[0])]
    with pytest.raises(ModelError) as refused:
        merge(tmp_path / "out", "ties", paths)
    assert named in refused.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", NAMES)
def test_merge_other_dtype_than_the_bases_is_rounded_once(tmp_path, dtype):
    base, others, paths = made(tmp_path, dtype=torch.float32)
    name, other = NAMES[dtype], {**others[0], "norm.weight": base["norm.weight"]}
    paths = [paths[0], saved(tmp_path / "other", other)]
    _, weights = merge(tmp_path / "out", "ties", paths, density=0.4, dtype=name)
    as_read = {n: v.float() for n, v in base.items()}
    delta = deltas_of(as_read, [{n: v.float() for n, v in other.items()}])
    exact = expected("ties", as_read, delta, density=0.4, dtype=name)
    assert flat(weights) == exact
    assert {values.dtype for values in weights.values()} == {dtype}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == (name, name)


def test_merge_copied_base_that_overflows_the_dtype_is_an_error(tmp_path):
    base = drawn(0, "huge", torch.float32)
    paths = [saved(tmp_path / "base", base), saved(tmp_path / "same", base)]
    with pytest.raises(NonFiniteError, match=r"weight, as F16,"):
        merge(tmp_path / "out", "ties", paths, dtype="float16")


def test_merge_existing_out_is_refused_and_kept(tmp_path, trio):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutError) as refused:
        merge(tmp_path / "out", "ties", trio[2])
    assert refused.value.exit_status == 2
    assert list((tmp_path / "out").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from raylab.merge.merge import merge_models
from raylab.merge.record import summary_lines
from raylab.spec.merge_settings import Part, Varying
from raylab.spec.merges import request_merge
from raylab.weights.checkpoint_writer import CheckpointWriter
from raylab.store.references import ModelLocation

def write(self, tensor, offset, data):
    os.kill(os.getpid(), signal.SIGKILL)

CheckpointWriter.write = write
base, model, out = map(Path, sys.argv[1:])
request = request_merge("task_arithmetic", [str(model)], base=str(base))
merge_models(request, [ModelLocation(checkpoint=model)], base, out)
"""


def test_merge_killed_leaves_no_out_and_the_next_one_clears_up(tmp_path, trio):
    paths, out = trio[2], tmp_path / "here" / "out"
    command = [sys.executable, "-c", KILLED, *map(str, [paths[0], paths[1], out])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name.startswith(".out.part-") for path in out.parent.iterdir()] == [True]
    merge(out, "ties", paths)
    assert list(out.parent.iterdir()) == [out]


def adapter_deltas(directory):
    """scale * (B @ A) in float64, by the base model's names."""
    config = json.loads((directory / "adapter_config.json").read_text())
    stored = load_file(directory / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    deltas = {}
    for key, down in stored.items():
        if "lora_A" in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            up = stored[key.replace("lora_A", "lora_B")]
            deltas[name] = scale * (up.double() @ down.double())
    return deltas


def test_merge_adapters_load_in_transformers_and_are_the_definition(tmp_path, demo_base, adapters):
    out = tmp_path / "out"
    record, weights = merge(out, "task_arithmetic", [demo_base, *adapters], weights=[1.0, 0.5])
    model = AutoModelForCausalLM.from_pretrained(out)
    loaded = model.state_dict()
    base = load_file(demo_base / "model.safetensors")
    first, second = map(adapter_deltas, adapters)
    assert record["tensors_merged"] == len(first)
    for name, start in base.items():
        if name in first:
            exact = start.double() + first[name] + 0.5 * second.get(name, 0)
            # One rounding to bfloat16, half a unit in the last place, on top of float32's own.
            error = (loaded[name].double() - exact).abs()
            float32 = (start.double().abs() + first[name].abs()) * 2**-22
            assert (error <= exact.abs() * 2**-8 * 1.001 + float32).all(), name
            assert not torch.equal(loaded[name], start)
        else:
            assert torch.equal(loaded[name], start), name
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in weights
    tokenizer = AutoTokenizer.from_pretrained(out)
    messages = [{"role": "user", "content": "こんにちは"}]
    prompt = tokenizer.apply_chat_template(messages, return_tensors="pt")["input_ids"]
    assert model.generate(prompt, max_new_tokens=2, do_sample=False).shape[1] > prompt.shape[1]
    assert "Ilharco et al. 2022" in (out / "README.md").read_text()


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_merge_adapters_trim_what_they_change(tmp_path, demo_base, adapters, scope):
    paths = [demo_base, *adapters]
    record, weights = merge(tmp_path / "out", "ties", paths, density=0.1, scope=scope)
    for row, delta in zip(record["models"], map(adapter_deltas, adapters), strict=True):
        assert row["numel"] == sum(values.numel() for values in delta.values())
        groups = [[v] for v in delta.values()] if scope == "tensor" else [list(delta.values())]
        keeps = [max(1, int(sum(v.numel() for v in group) * 0.1 + 1e-9)) for group in groups]
        assert row["num_keep"] == sum(keeps)
        assert row["num_keep"] <= row["kept"] <= row["num_keep"] + len(groups)
        if scope == "global":
            assert row["kept"] == row["at_or_above"]
            ordered = torch.cat([v.abs().flatten() for v in delta.values()]).sort().values
            assert row["threshold"] == pytest.approx(float(ordered[-keeps[0]]), rel=1e-5)
    base = load_file(demo_base / "model.safetensors")
    moved = sum(int((weights[name] != base[name]).sum()) for name in base)
    assert 0 < moved <= sum(row["kept"] for row in record["models"])


def test_merge_adapters_any_threads_give_the_same_bytes(tmp_path, demo_base, adapters, monkeypatch):
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 1 << 12)
    paths = [demo_base, *adapters]
    merge(tmp_path / "one", "ties", paths, threads=1)
    merge(tmp_path / "three", "ties", paths, threads=3)
    one, three = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "three"))
    assert one == three


@pytest.mark.parametrize("method", ["ties", "task_arithmetic", "sce"])
def test_merge_nan_in_the_base_model_is_said_of_the_base_model(tmp_path, method):
    base, _, paths = made(tmp_path)
    base["a.weight"][2, 1] = math.nan
    (paths[0] / "model.safetensors").unlink()
    save_file(base, paths[0] / "model.safetensors", metadata={"format": "pt"})
    request = request_merge(method, ["a", "b"], base="base")
    with pytest.raises(NonFiniteError, match=r"the base model's a\.weight holds NaN"):
        merge_models(request, list(map(place, paths[1:])), paths[0], tmp_path / "out")


def test_merge_nan_in_what_is_only_copied_is_an_error(tmp_path, copied_base, adapters):
    tensors = load_file(copied_base / "model.safetensors")
    tensors["model.norm.weight"][3] = math.nan
    save_file(tensors, copied_base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=r"the base model's model\.norm\.weight"):
        merge(tmp_path / "out", "task_arithmetic", [copied_base, adapters[0]])
    assert not (tmp_path / "out").exists()


def test_merge_chain_is_the_sum_of_its_adapters(tmp_path, demo_base, adapters):
    chain = ModelLocation(adapters=tuple(adapters))
    _, chained = merge(tmp_path / "a", "task_arithmetic", [demo_base, chain])
    _, summed = merge(tmp_path / "b", "task_arithmetic", [demo_base, *adapters])
    for name, values in summed.items():
        torch.testing.assert_close(chained[name], values, rtol=2**-7, atol=1e-6)
        same = (chained[name] == values).double().mean()
        assert same > 0.999, name


def test_merge_adapter_and_checkpoint_together(tmp_path, demo_base, adapters):
    base = load_file(demo_base / "model.safetensors")
    other = near(base, 5, "sparse")
    whole = Path(shutil.copytree(demo_base, tmp_path / "whole"))
    save_file(other, whole / "model.safetensors", metadata={"format": "pt"})
    _, weights = merge(tmp_path / "out", "linear", [demo_base, whole, adapters[0]])
    delta = adapter_deltas(adapters[0])
    for name, start in base.items():
        exact = (other[name].double() + start.double() + delta.get(name, 0)) / 2
        error = (weights[name].double() - exact).abs()
        assert (error <= exact.abs() * 2**-8 * 1.001 + 1e-9).all(), name


def test_merge_linear_adapter_without_its_base_is_refused(tmp_path, demo_base, adapters):
    with pytest.raises(InputError, match="--base"):
        merge(tmp_path / "out", "linear", [demo_base, demo_base, adapters[0]], base=False)
