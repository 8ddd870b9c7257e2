"""The modules of models, by the names of their tensors, beside mergekit's own tables."""

import json
import os
import re
from pathlib import Path

import pytest

from raylab.merge.arrangement import is_before
from raylab.spec.modules import SYNONYMS, modules_of


def tensors(*names):
    return {name: [*module.tensors] for name, module in modules_of(names).items()}


def test_modules_of_text_are_one():
    names = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"]
    assert tensors(*names) == {"default": names}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_modules_of_what_sees_images_are_three(prefix):
    text = [f"{prefix}language_model.layers.0.mlp.up_proj.weight", "lm_head.weight"]
    images = [f"{prefix}visual.blocks.0.attn.qkv.weight", f"{prefix}visual.patch_embed.proj.weight"]
    between = [f"{prefix}visual.merger.mlp.0.weight"]
    assert tensors(*text, *images, *between) == {
        "multi_modal_projector": between,
        "vision_tower": images,
        "text_decoder": text,
    }


def test_modules_that_a_model_lacks_are_not_there():
    names = ["encoder.block.0.layer.0.weight", "decoder.block.0.layer.0.weight"]
    assert tensors(*names) == {"encoder": names[:1], "decoder": names[1:]}
    assert tensors("shared.weight", *names)["shared"] == ["shared.weight"]


def tables():
    """(file, definition) of every architecture of mergekit."""
    root = Path(os.environ["RAYLAB_MERGEKIT"]).parent.parent
    for file in sorted(root.glob("lib/python*/site-packages/mergekit/_data/architectures/*.json")):
        yield file.stem, json.loads(file.read_text())


def named(part, kinds):
    prefix, architecture = part.get("weight_prefix") or "", part.get("architecture", part)
    listed = [w["name"] for kind in kinds for w in architecture[f"{kind}_weights"]]
    layers = [w["name"] for w in architecture["layer_templates"]["weights"]]
    names = [*listed, *(layers if len(kinds) > 1 else ())]
    return [prefix + re.sub(r"\$\{[a-z_+-]+1?\}", "0", name) for name in names]


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
def test_modules_and_what_lies_before_layers_are_mergekits():
    seen = 0
    for name, table in tables():
        if name == "whisper":  # Its prefix lacks a dot: no tensor of a file has these names.
            continue
        parts = table.get("modules", {"default": table})
        mine = modules_of([n for part in parts.values() for n in named(part, ("pre", "post"))])
        modules = [SYNONYMS.get(module, module) for module in parts]
        assert {*modules} == {*mine}, name
        for module, part in zip(modules, parts.values(), strict=True):
            assert {*named(part, ("pre", "post"))} == {*mine[module].tensors}, name
            if mine[module].row.counts and not name.startswith("phi-1"):
                assert all(is_before(n) for n in named(part, ("pre",)) if ".0." not in n), name
                assert not any(is_before(n) for n in named(part, ("post",))), name
                seen += 1
    assert seen > 50
