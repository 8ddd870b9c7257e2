"""What is looked at on a node, on this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylab.cluster.doctor import probes
from raylab.cluster.doctor.checks import run_probes
from raylab.cluster.doctor.probes import ProbeRequest
from raylab.store.filesystem import Store

SECRET = "hf_aSecretThatNobodyMayRead"

KERNEL_MODULES = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32": "535.129.03",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build": (
        "570.86.10"
    ),
    "something else": None,
}


@pytest.mark.parametrize("text", KERNEL_MODULES)
def test_driver_version_of_what_the_kernel_module_says(text, tmp_path):
    (tmp_path / "version").write_text(text)
    assert probes.driver_version(tmp_path / "version") == KERNEL_MODULES[text]


def test_count_nvidia_cards_of_a_bus_are_nvidias_displays(tmp_path):
    kinds = [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x1a03", "0x030000")]
    for index, (vendor, kind) in enumerate(kinds):
        device = tmp_path / str(index)
        device.mkdir()
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert probes.count_nvidia_cards(tmp_path) == 1
    assert probes.count_nvidia_cards(tmp_path / "none") == 0


def test_four_bits_here_are_right():
    for device in probes.four_bits(ProbeRequest())["devices"]:
        assert 0.05 < device["round_trip"] < 0.12
        assert device["gradient"] < 1e-5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_four_bits_with_the_trap_armed_are_wrong(monkeypatch):
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("only CPUs with AVX512-bf16 have it")
    monkeypatch.setattr("raylab.train.model.disarm_cpu_repacking", lambda model: None)
    (device,) = probes.four_bits(ProbeRequest())["devices"]
    assert device["gradient"] > 0.1 or device["round_trip"] > 0.2


def test_storage_new_directory_is_written_and_gone_again(tmp_path):
    found = probes.storage(ProbeRequest(str(tmp_path / "a" / "b")))
    assert (found["local"], found["seen"]) == (True, None)
    assert found["free"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"of another"])
def test_storage_another_root_does_not_see_the_token_and_stays_as_it_is(content, tmp_path):
    shared, apart = Store(str(tmp_path / "shared")), Store(str(tmp_path / "apart"))
    shared.write("folder/token", b"folder")
    assert probes.storage(ProbeRequest(shared.uri, "folder", "me"))["seen"] is True
    assert shared.read("folder/me") == b"me"
    if content:
        apart.write("folder/token", content)
    before = list(apart.files(""))
    assert probes.storage(ProbeRequest(apart.uri, "folder", "me"))["seen"] is False
    assert list(apart.files("")) == before


def test_storage_none_asked_has_no_facts():
    assert probes.storage(ProbeRequest()) == {}


def test_run_probes_anything_that_fails_is_a_fact_and_stops_no_other(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    found = run_probes(ProbeRequest(str(tmp_path / "file" / SECRET)))
    assert "OUT cannot be written" in found["storage"]["error"]
    assert found["token"] == {"there": True}
    assert found["cpus"]["cpus"] > 0
    assert SECRET not in json.dumps(found)


def test_token_in_a_file_is_there_and_never_said(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    assert probes.token(ProbeRequest()) == {"there": False}
    (tmp_path / "token").write_text(SECRET)
    assert probes.token(ProbeRequest()) == {"there": True}
    assert probes.redacted(f"a {SECRET} b") == "a *** b"


def test_redacted_hides_passwords_of_addresses_and_keys(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefghij")
    text = "s3://name:word@host/path: abcdefghij refused"
    assert probes.redacted(text) == "s3://***@host/path: *** refused"


def test_describe_error_of_a_long_error_is_one_short_line():
    line = probes.describe_error(ValueError("a\n" * 1000))
    assert "\n" not in line
    assert len(line) < 320
    assert probes.describe_error(KeyError()) == "KeyError"


def test_disk_of_a_scratch_space_not_made_yet_is_that_below(scratch):
    found = probes.disk(ProbeRequest())
    assert found["scratch"] == str(scratch)
    assert 0 < found["free"] <= found["total"]
    assert not Path(scratch).exists()
