# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials for registries are found where container tools keep them, and only those that are meant."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_login import find_credentials, read_challenge
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

HOST = "reg.example:5000"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no other place for credentials, with a directory for programs in front of the others."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def keep(path: Path, **document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def logged_in(user: str) -> dict[str, Any]:
    return {HOST: {"auth": encoded(f"{user}:secret")}}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="releases"', ("basic", {"realm": "releases"})),
        ("BASIC", ("basic", {})),
        (
            'Bearer realm="https://login.example/token",service="reg, with a comma",scope="repository:a/b:pull,push"',
            ("bearer", {"realm": "https://login.example/token", "service": "reg, with a comma", "scope": "repository:a/b:pull,push"}),
        ),
        ("Bearer Realm = https://login.example/token , Service=a", ("bearer", {"realm": "https://login.example/token", "service": "a"})),
        (r'Bearer realm="a \"quoted\" one"', ("bearer", {"realm": 'a "quoted" one'})),
        ('Bearer realm="no end', ("bearer", {})),
        ("", ("", {})),
    ],
)
def test_a_challenge_is_read_as_it_may_be_written(header: str, found: tuple[str, dict[str, str]]) -> None:
    assert read_challenge(header) == found


def test_the_file_that_is_named_comes_before_that_of_docker_and_no_other_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_credentials(HOST) == ""
    keep(home / ".docker" / "config.json", auths=logged_in("docker"))
    keep(home / "run" / "containers" / "auth.json", auths=logged_in("podman"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert find_credentials(HOST) == encoded("podman:secret")
    keep(home / "other" / "config.json", auths=logged_in("other"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "other"))
    assert find_credentials(HOST) == encoded("other:secret")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(keep(home / "named.json", auths=logged_in("named"))))
    assert find_credentials(HOST) == encoded("named:secret")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "nothing.json"))
    assert find_credentials(HOST) == encoded("docker:secret")


@pytest.mark.parametrize("where", [{"credHelpers": {HOST: "desk"}}, {"credsStore": "desk"}, {"auths": {HOST: {}}, "credsStore": "desk"}])
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"ServerURL": "x", "Username": "rita", "Secret": "of \\u00e4"}', encoded("rita:of ä")),
        ('{"Username": "<token>", "Secret": "x"}', ""),
        ('{"Username": 1, "Secret": "x"}', ""),
        ("credentials not found in native keychain", ""),
        ("exit 1", ""),
    ],
)
def test_a_program_that_keeps_credentials_is_asked(home: Path, where: dict[str, Any], answer: str, found: str) -> None:
    keep(home / ".docker" / "config.json", **where)
    said = answer if answer.startswith("exit") else f"cat <<'END'\n{answer}\nEND"
    program = home / "bin" / "docker-credential-desk"
    program.write_text(f'#!/bin/sh\n[ "$1 $(cat)" = "get {HOST}" ] || exit 2\n{said}\n')
    program.chmod(0o755)
    assert find_credentials(HOST) == found


@pytest.mark.parametrize("name", ["nowhere", "../../bin/sh", "", 5, None])
def test_a_program_that_is_not_there_or_is_no_such_program_keeps_nothing(home: Path, name: object) -> None:
    keep(home / ".docker" / "config.json", credsStore=name, auths={"reg.example": {"auth": 5}, HOST: "x"})
    assert find_credentials(HOST) == ""


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": {}, "auths": {}}', "[" * 100_000])
def test_a_file_that_is_none_is_named(home: Path, content: str) -> None:
    path = keep(home / ".docker" / "config.json")
    path.write_text(content)
    with pytest.raises(TidegateError, match=r"config\.json, with credentials for registries,") as caught:
        find_credentials(HOST)
    assert "\n" not in str(caught.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(TidegateError, match=r"can't read the credentials for registries in .*config.json \(Is a directory\)"):
        find_credentials(HOST)


@pytest.mark.parametrize("document", [{"auths": []}, {"auths": {HOST: []}}, {"auths": {HOST: {"auth": ""}}, "credHelpers": []}])
def test_what_is_no_entry_is_passed_over(home: Path, document: dict[str, Any]) -> None:
    keep(home / ".docker" / "config.json", **document)
    assert find_credentials(HOST) == ""
