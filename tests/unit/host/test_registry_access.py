# SPDX-License-Identifier: MulanPSL-2.0
"""Credentials go to their registry and nowhere else; a CA is trusted while a pull lasts."""

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.host.atomic import unfinished
from agent.host.registry_access import OURS, Credentials, read_credentials, trusted_ca
from agent.references import Reference, parse_reference

SECRET = "s3cret:with-colon"
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
HOST = "mirror.example:5000"


def reference(text: str = f"{HOST}/ascend/cann:8") -> Reference:
    parsed = parse_reference(text)
    assert parsed is not None
    return parsed


def encoded(user: str = "lab", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def auth_file(folder: Path, auths: object, name: str = "auth.json") -> str:
    path = folder / name
    path.write_text(json.dumps({"auths": auths}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("key", [HOST, f"{HOST}/ascend", f"{HOST}/ascend/cann", f"https://{HOST}"])
def test_an_entry_of_the_registry(tmp_path: Path, key: str) -> None:
    found = read_credentials(auth_file(tmp_path, {key: encoded()}), reference())
    assert found == Credentials("lab", SECRET)
    assert json.loads(base64.urlsafe_b64decode(found.header)) == {
        "username": "lab",
        "password": SECRET,
    }


def test_the_nearest_entry_wins(tmp_path: Path) -> None:
    auths = {HOST: encoded("far"), f"{HOST}/ascend": encoded("near")}
    found = read_credentials(auth_file(tmp_path, auths), reference())
    assert found is not None
    assert found.user == "near"


@pytest.mark.parametrize("key", ["mirror.example", "example:5000", f"{HOST}/other", "quay.io"])
def test_entries_of_others_are_not_used(tmp_path: Path, key: str) -> None:
    assert read_credentials(auth_file(tmp_path, {key: encoded()}), reference()) is None


def test_none_is_asked_for() -> None:
    assert read_credentials("", reference()) is None


def test_docker_hub_by_its_old_name(tmp_path: Path) -> None:
    path = auth_file(tmp_path, {"https://index.docker.io/v1/": encoded()})
    assert read_credentials(path, reference("ubuntu:22.04")) is not None


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth_file(tmp_path, {HOST: encoded()}, "registry-auth")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_credentials("credential:registry-auth", reference()) is not None


@pytest.mark.parametrize("name", ["..", "../auth.json", "/etc/shadow", "", "a/b"])
def test_a_credential_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    auth_file(tmp_path, {HOST: encoded()})
    (tmp_path / "inner").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "inner"))
    with pytest.raises(AgentError) as raised:
        read_credentials(f"credential:{name}", reference())
    assert raised.value.failure.code is Code.FILE_UNUSABLE


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON, and s3cret:with-colon in it",
        "[]",
        '{"auths": []}',
        '{"auths": {"mirror.example:5000": []}}',
        '{"auths": {"mirror.example:5000": {}}}',
        '{"auths": {"mirror.example:5000": {"auth": 7}}}',
        '{"auths": {"mirror.example:5000": {"auth": "czNjcmV0OndpdGgtY29sb24"}}}',
        '{"auths": {"mirror.example:5000": {"auth": "bm8tY29sb24="}}}',
        '{"auths": {"mirror.example:5000": {"identitytoken": "s3cret:with-colon"}}}',
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_what_is_in_it(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "auth.json").write_text(content, encoding="utf-8")
    with pytest.raises(AgentError) as raised:
        read_credentials(str(tmp_path / "auth.json"), reference())
    assert raised.value.failure.code is Code.FILE_UNUSABLE
    assert SECRET not in str(raised.value.failure)
    assert "czNjcm" not in str(raised.value.failure)


def test_a_password_is_in_no_text() -> None:
    assert SECRET not in repr(Credentials("lab", SECRET))


# --- a CA ----------------------------------------------------------------------------------------


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_text(CA, encoding="utf-8")
    return str(tmp_path / "ca.pem")


def placed(folder: Path) -> Path:
    return folder / "certs.d" / HOST / OURS


def test_a_ca_is_there_while_it_lasts(tmp_path: Path, ca_file: str) -> None:
    with trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
        assert placed(tmp_path).read_text(encoding="utf-8") == CA
        assert os.listdir(tmp_path / "certs.d") == [HOST]
    assert os.listdir(placed(tmp_path).parent) == []


def test_it_goes_also_when_the_pull_fails(tmp_path: Path, ca_file: str) -> None:
    with pytest.raises(ZeroDivisionError), trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
        _ = 1 / 0
    assert not placed(tmp_path).exists()


def test_the_last_of_several_pulls_removes_it(tmp_path: Path, ca_file: str) -> None:
    with trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
        with trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
            pass
        assert placed(tmp_path).exists()
        with trusted_ca(HOST, "", tmp_path / "certs.d"):
            pass
        assert placed(tmp_path).exists()
    assert not placed(tmp_path).exists()


def test_pulls_that_begin_at_one_time_do_not_disturb_each_other(
    tmp_path: Path, ca_file: str
) -> None:
    """A lock is of who has opened the folder, so threads stand for processes."""

    def pull(_: int) -> bool:
        with trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
            return placed(tmp_path).read_text(encoding="utf-8") == CA

    with ThreadPoolExecutor(4) as pullers:
        assert all(pullers.map(pull, range(200)))
    assert os.listdir(placed(tmp_path).parent) == []


def test_what_a_killed_pull_was_writing_is_removed(tmp_path: Path) -> None:
    placed(tmp_path).parent.mkdir(parents=True)
    unfinished(placed(tmp_path)).write_text(CA[:9], encoding="utf-8")
    placed(tmp_path).write_text(CA, encoding="utf-8")
    with trusted_ca(HOST, "", tmp_path / "certs.d"):
        assert os.listdir(placed(tmp_path).parent) == []


def test_what_a_killed_pull_has_left_is_removed_when_none_is_configured(tmp_path: Path) -> None:
    placed(tmp_path).parent.mkdir(parents=True)
    placed(tmp_path).write_text(CA, encoding="utf-8")
    (placed(tmp_path).parent / "theirs.crt").write_text(CA, encoding="utf-8")
    with trusted_ca(HOST, "", tmp_path / "certs.d"):
        assert os.listdir(placed(tmp_path).parent) == ["theirs.crt"]
    assert os.listdir(placed(tmp_path).parent) == ["theirs.crt"]


def test_without_a_ca_nothing_is_written(tmp_path: Path) -> None:
    with trusted_ca(HOST, "", tmp_path / "certs.d"):
        assert not (tmp_path / "certs.d").exists()


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\xfe"])
def test_a_ca_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with (
        pytest.raises(AgentError) as raised,
        trusted_ca(HOST, str(tmp_path / "ca.pem"), tmp_path / "certs.d"),
    ):
        pass
    assert raised.value.failure.code is Code.FILE_UNUSABLE
    assert not placed(tmp_path).exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, ca_file: str) -> None:
    (tmp_path / "certs.d").write_text("no folder", encoding="utf-8")
    with pytest.raises(AgentError) as raised, trusted_ca(HOST, ca_file, tmp_path / "certs.d"):
        pass
    assert raised.value.failure.code is Code.FILE_NOT_WRITTEN
