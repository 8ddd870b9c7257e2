"""The files that describe clusters: accepted by whoever reads them, with versions that are pinned.

Ray's own validator judges what `ray up` reads. What Kubernetes reads is held against the fields of
the RayJob's definition (ray.io/v1) and of pods that the file uses, none other.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Literal
from zipfile import ZipFile

import pytest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from raylab.cli.job import STOP_WAIT

ROOT = Path(__file__).parents[1]
RAY_UP = ("cluster.yaml", "jobs/cluster.local.yaml")
KUBERAY = "jobs/kuberay.yaml"
FILES = (*RAY_UP, KUBERAY, "jobs/Dockerfile")
PINS = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.M))


def text_of(name):
    return (ROOT / name).read_text()


def documents(name):
    return list(YAML(typ="safe", pure=True).load_all(text_of(name)))


def prepared(name):
    config = prepare_config(documents(name)[0])
    validate_config(config)
    return config


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(Mi|Gi|Ti)?$")]


class Metadata(Strict):
    name: str


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Environment(Strict):
    name: str
    value: str


class Port(Strict):
    name: str
    container_port: int


class Mount(Strict):
    name: str
    mount_path: str


class Container(Strict):
    name: str
    image: str
    env: list[Environment]
    ports: list[Port] = []
    resources: Resources
    volume_mounts: list[Mount]


class Claim(Strict):
    claim_name: str


class EmptyDir(Strict):
    medium: Literal["Memory"]
    size_limit: Quantity


class Volume(Strict):
    name: str
    persistent_volume_claim: Claim | None = None
    empty_dir: EmptyDir | None = None


class SecurityContext(Strict):
    fs_group: int


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Strict):
    security_context: SecurityContext
    tolerations: list[Toleration] = []
    containers: list[Container]
    volumes: list[Volume]


class PodTemplate(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    ray_start_params: dict[str, str]
    template: PodTemplate


class WorkerGroup(HeadGroup):
    group_name: str
    replicas: int
    min_replicas: int
    max_replicas: int


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]


class RayClusterSpec(Strict):
    ray_version: str
    auth_options: AuthOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class RayJobSpec(Strict):
    submission_mode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    entrypoint: str
    runtime_env: str = Field(alias="runtimeEnvYAML")
    backoff_limit: int
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: int
    ray_cluster_spec: RayClusterSpec


class RayJob(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


class ClaimResources(Strict):
    requests: dict[Literal["storage"], Quantity]


class ClaimSpec(Strict):
    access_modes: list[Literal["ReadWriteMany"]]
    storage_class_name: str
    resources: ClaimResources


class VolumeClaim(Strict):
    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec


@pytest.fixture(scope="module")
def kuberay():
    """(volume claim, RayJob), every field of them known."""
    claim, job = documents(KUBERAY)
    return VolumeClaim.model_validate(claim), RayJob.model_validate(job)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_file_by_ray_validator_is_accepted(name):
    config = prepared(name)
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert sum("ray start" in command for command in starts) == 2
    assert config["file_mounts"]["~/raylab"] == "."


def test_aws_workers_are_spot_gpus_and_the_head_takes_no_trial():
    config = prepared("cluster.yaml")
    types = config["available_node_types"]
    assert types["gpu"]["resources"]["GPU"] >= 1
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0


def test_local_machines_all_start_at_once():
    config = prepared("jobs/cluster.local.yaml")
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_file_brings_the_token_and_asks_for_it(name):
    config = prepared(name)
    assert "~/.ray/auth_token" in config["file_mounts"]
    commands = " ".join(
        command for key, value in config.items() if key.endswith("commands") for command in value
    )
    assert "RAY_AUTH_MODE=token" in commands


def test_kuberay_fields_are_those_of_the_definition(kuberay):
    _, job = kuberay
    assert job.spec.ray_cluster_spec.auth_options.mode == "token"
    assert job.spec.ttl_seconds_after_finished > 0


def test_jobs_that_are_submitted_have_time_to_save_when_they_are_stopped(kuberay):
    given = YAML(typ="safe", pure=True).load(kuberay[1].spec.runtime_env)
    waits = [given["env_vars"][STOP_WAIT]]
    for name in (*RAY_UP, "README.md", "docs/cluster.md", "jobs/run_study.py", "jobs/reduce.py"):
        text = re.sub(r"\\\n#?", "", text_of(name))
        submits = re.findall(r"ray job submit --working-dir .*", text)
        assert submits, name
        for command in submits:
            words = shlex.split(command)
            environment = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
            waits.append(environment[STOP_WAIT])
    assert set(waits) == {"600"}


def test_kuberay_unknown_field_is_refused():
    job = documents(KUBERAY)[1]
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volume"] = []
    with pytest.raises(ValidationError, match="Extra inputs"):
        RayJob.model_validate(job)


def test_kuberay_pods_all_mount_the_claim_where_out_lies(kuberay):
    claim, job = kuberay
    cluster = job.spec.ray_cluster_spec
    out = Path(job.spec.entrypoint.split("--out ")[1])
    for group in (cluster.head_group_spec, *cluster.worker_group_specs):
        volumes = {volume.name: volume for volume in group.template.spec.volumes}
        (container,) = group.template.spec.containers
        mounted = {mount.mount_path: volumes[mount.name] for mount in container.volume_mounts}
        shared = next(mounted[path] for path in mounted if out.is_relative_to(path))
        assert shared.persistent_volume_claim.claim_name == claim.metadata.name
        assert mounted["/dev/shm"].empty_dir.medium == "Memory"


def test_kuberay_workers_have_one_gpu_each_and_the_head_none(kuberay):
    _, job = kuberay
    cluster = job.spec.ray_cluster_spec
    (head,) = cluster.head_group_spec.template.spec.containers
    (worker,) = cluster.worker_group_specs[0].template.spec.containers
    assert worker.resources.limits["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head.resources.limits
    assert cluster.head_group_spec.ray_start_params["num-cpus"] == "0"


@pytest.mark.parametrize("name", FILES)
def test_versions_are_the_pinned_ones(name):
    text = text_of(name)
    rays = re.findall(r"\bray(?:\[\w+\])?(?:==|:|(?=\d))(\d+\.\d+\.\d+)", text)
    rays += re.findall(r"rayVersion: \"(.+)\"", text)
    assert set(rays) <= {PINS["ray"]}
    torches = re.findall(r"\btorch[=:-]+([\d.]+)", text)
    assert set(torches) <= {PINS["torch"]}
    requires = tomllib.loads(text_of("pyproject.toml"))["project"]["requires-python"]
    pythons = re.findall(r"\bpython ?(3\.\d+)|\bpy(3\d+)\b", text)
    assert {(a or f"{b[0]}.{b[1:]}") for a, b in pythons} <= {requires.removeprefix(">=")}
    assert rays or "-c constraints.txt" in text


@pytest.mark.parametrize("name", FILES)
def test_paths_named_exist_in_the_repository(name):
    named = re.findall(r"(?<![\w.])(?:jobs/[\w./-]+|cluster\.yaml|constraints\.txt)", text_of(name))
    named += re.findall(r"/home/ray/raylab/([\w./-]+)", text_of(name))
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


def test_docker_image_is_the_one_that_kuberay_runs(kuberay):
    _, job = kuberay
    cluster = job.spec.ray_cluster_spec
    images = {
        container.image
        for group in (cluster.head_group_spec, *cluster.worker_group_specs)
        for container in group.template.spec.containers
    }
    (image,) = images
    for name in (KUBERAY, "jobs/Dockerfile"):
        assert re.findall(r"docker build .* -t (\S+) ", text_of(name)) == [image]


def test_upload_of_the_checkout_leaves_out_what_rayignore_names(tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("raylab/cli/__init__.py", "jobs/run_study.py", ".venv/x", "runs/x", ".git/x"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    (checkout / ".rayignore").write_text(text_of(".rayignore"))
    package = tmp_path / "package.zip"
    create_package(str(checkout), package, include_gitignore=False)
    with ZipFile(package) as uploaded:
        assert {"raylab/cli/__init__.py", "jobs/run_study.py", ".rayignore"} == set(
            uploaded.namelist()
        )
