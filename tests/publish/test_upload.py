"""Uploads by huggingface_hub itself, to a hub on loopback."""

from __future__ import annotations

import pytest

from raylab.cli import main
from raylab.errors import InputError
from raylab.publish.upload import HubError, check_repo, token_of_environment, upload
from tests.publish.hub import TOKEN, hub_server


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that huggingface_hub calls; its settings are those of the process's start."""
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        settings = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        settings |= {"HF_HUB_DISABLE_TELEMETRY": True, "HF_TOKEN_PATH": str(tmp_path / "token")}
        for name, value in settings.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.chdir(tmp_path)
        yield hub


def publish(capsys, *arguments):
    """(exit status, stdout, stderr) of `raylab publish`."""
    with pytest.raises(SystemExit) as end:
        main(["publish", *arguments])
    output = capsys.readouterr()
    return end.value.code, output.out, output.err


def test_publish_uploads_the_folder_to_a_private_repository(
    made, hub, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    status, out, err = publish(capsys, made.reference("second"), "me/thing")
    assert status == 0, err
    assert f"published: {hub.url}/me/thing" in out
    assert hub.made["me/thing"]["visibility"] == "private"
    folder = tmp_path / "published" / "thing"
    files = [file for file in folder.rglob("*") if file.is_file()]
    written = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    assert hub.files["me/thing"] == written
    adapters = {f"adapter-{n}/adapter_model.safetensors" for n in (1, 2)}
    assert {*adapters, "adapter-2/adapter_config.json", "README.md"} <= set(written)
    kept = b"".join(hub.files["me/thing"].values()) + out.encode() + err.encode()
    assert TOKEN.encode() not in kept
    assert str(tmp_path).encode() not in b"".join(written.values())


def test_publish_with_a_token_that_is_refused_is_one_message_without_it(
    made, hub, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    status, _, err = publish(capsys, made.reference("first"), "me/thing")
    assert status == 1
    assert "me/thing could not be published" in err and "401" in err
    assert "Traceback" not in err and "hf_wrong" not in err
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
    out = tmp_path / "x"
    status, _, err = publish(capsys, made.reference("first"), "me/thing", "--out", str(out))
    assert status == 2
    assert "there is no token for the hub" in err and "--dry-run" in err
    assert not out.exists()


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
