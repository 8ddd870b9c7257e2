"""Uploads by huggingface_hub itself, to a hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylab.cli import main
from raylab.errors import InputError
from raylab.publish.upload import HubError, check_repo, token_of_environment, upload
from tests.publish.hub import TOKEN, hub_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    with hub_server() as hub:
        yield hub


def publish(hub, folder, *arguments, token=TOKEN):
    """`raylab publish` in a process of its own, since huggingface_hub reads its settings once."""
    code = "import sys; from raylab.cli import main; main(['publish', *sys.argv[1:]])"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "HF_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_publish_uploads_the_folder_to_a_private_repository(made, hub, tmp_path):
    done = publish(hub, tmp_path, made.reference("second"), "me/thing")
    assert done.returncode == 0, done.stderr
    assert f"published: {hub.url}/me/thing" in done.stdout
    assert hub.made["me/thing"]["visibility"] == "private"
    folder = tmp_path / "published" / "thing"
    written = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert hub.files["me/thing"] == written
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= set(written)
    kept = b"".join(hub.files["me/thing"].values()) + done.stdout.encode() + done.stderr.encode()
    assert TOKEN.encode() not in kept
    assert str(tmp_path).encode() not in b"".join(written.values())


@pytest.mark.slow
def test_publish_with_a_token_that_is_refused_is_one_message_without_it(made, hub, tmp_path):
    done = publish(hub, tmp_path, made.reference("first"), "me/thing", token="hf_wrong")
    assert done.returncode == 1
    assert "me/thing could not be published" in done.stderr and "401" in done.stderr
    assert "Traceback" not in done.stderr and "hf_wrong" not in done.stderr
    assert hub.files == {}


def test_upload_error_that_repeats_the_token_is_told_without_it(monkeypatch, tmp_path):
    def refuse(self, *arguments, **options):
        raise OSError(f"no answer to a request with Authorization: Bearer {TOKEN}")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(HubError, match=r"Bearer \*\*\*") as caught:
        upload(tmp_path, "me/thing", TOKEN)
    assert TOKEN not in str(caught.value)


def test_publish_without_a_token_writes_nothing(made, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["publish", made.reference("first"), "me/thing", "--out", str(tmp_path / "x")])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "there is no token for the hub" in said and "--dry-run" in said
    assert not (tmp_path / "x").exists()


def test_token_of_environment_is_taken_from_there_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_of_a_login")
    monkeypatch.setenv("HF_TOKEN", "  ")
    with pytest.raises(InputError):
        token_of_environment()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert token_of_environment() == "hf_x"


@pytest.mark.parametrize("repo", ["thing", "a/b/c", "me/th ing", "me/..", "/x"])
def test_repository_without_owner_or_with_an_odd_name_is_refused(repo):
    with pytest.raises(InputError):
        check_repo(repo)
