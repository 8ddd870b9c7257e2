"""cluster.yaml is what `ray up` accepts, by Ray's own validator, offline."""

from __future__ import annotations

from pathlib import Path

from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

FILE = Path(__file__).parents[1] / "cluster.yaml"


def test_cluster_yaml_by_ray_validator_is_accepted():
    config = YAML(typ="safe", pure=True).load(FILE.read_text())
    validate_config(prepare_config(config))
    assert config["available_node_types"]["gpu"]["resources"]["GPU"] >= 1
