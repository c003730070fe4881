# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials for registries are found where container tools keep them, and only those that are meant."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import registry_login
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_login import Login, find_credentials, read_challenges
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from hypothesis import given
from hypothesis import strategies as st

HOST = "reg.example:5000"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def password_of(text: str) -> Login:
    return Login(basic=encoded(text))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no other place for credentials, with a directory for programs in front of the others."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(registry_login, "_RUN", tmp_path / "boot")
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


TOKENS = 'Bearer realm="https://git.example/v2/token",service="container_registry",scope="*"'
AT_GIT = ("bearer", {"realm": "https://git.example/v2/token", "service": "container_registry", "scope": "*"})


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="releases"', [("basic", {"realm": "releases"})]),
        ("BASIC", [("basic", {})]),
        (
            'Bearer realm="https://login.example/token",service="reg, Basic realm=x",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://login.example/token", "service": "reg, Basic realm=x", "scope": "repository:a/b:pull,push"})],
        ),
        ("Bearer Realm = https://login.example/token , Service=a", [("bearer", {"realm": "https://login.example/token", "service": "a"})]),
        (r'Bearer realm="a \"quoted\" one"', [("bearer", {"realm": 'a "quoted" one'})]),
        (f'{TOKENS}, Basic realm="registry"', [AT_GIT, ("basic", {"realm": "registry"})]),
        (f'Basic realm="registry", {TOKENS}', [("basic", {"realm": "registry"}), AT_GIT]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate Bearer, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('NTLM TlRM/+TVNT==, Basic realm="x"', [("ntlm", {}), ("basic", {"realm": "x"})]),
        ('Basic ,, realm="x", charset="UTF-8" , Negotiate', [("basic", {"realm": "x", "charset": "UTF-8"}), ("negotiate", {})]),
        ('Bearer realm="a", realm="b"', [("bearer", {"realm": "a"})]),
        ('realm="x", Basic', [("basic", {})]),
        ('Bearer realm="no end', [("bearer", {})]),
        ('Bearer realm="no end, Basic realm=x', [("bearer", {})]),
        ("", []),
    ],
)
def test_challenges_are_read_as_they_may_be_written(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert read_challenges(header) == found


@given(st.text() | st.lists(st.sampled_from(["Bearer", "a", "realm", "=", " ", ",", '"', "\\", "\n", "abc=="])).map("".join))
def test_whatever_is_no_challenge_is_none(header: str) -> None:
    for scheme, parameters in read_challenges(header):
        assert all(map(str.strip, (scheme, *parameters)))


@given(st.lists(st.tuples(st.sampled_from(["a", "b1", "c-d"]), st.dictionaries(st.sampled_from(["realm", "scope", "x"]), st.text()))))
def test_challenges_are_those_that_were_written(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = [
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters.items())}" for scheme, parameters in challenges
    ]
    assert read_challenges(", ".join(written)) == challenges


def test_the_file_that_is_named_comes_before_that_of_docker_and_no_other_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not find_credentials(HOST)
    keep(home / ".docker" / "config.json", auths=logged_in("docker"))
    keep(home / "run" / "containers" / "auth.json", auths=logged_in("podman"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert find_credentials(HOST) == password_of("podman:secret")
    keep(home / "other" / "config.json", auths=logged_in("other"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "other"))
    assert find_credentials(HOST) == password_of("other:secret")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(keep(home / "named.json", auths=logged_in("named"))))
    assert find_credentials(HOST) == password_of("named:secret")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "nothing.json"))
    assert find_credentials(HOST) == password_of("docker:secret")


def test_what_podman_writes_is_found_also_where_nobody_has_a_directory_for_a_session(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(home / ".docker" / "config.json", auths=logged_in("docker"))
    keep(home / ".config" / "containers" / "auth.json", auths=logged_in("stays"))
    assert find_credentials(HOST) == password_of("stays:secret")
    keep(home / "own" / "containers" / "auth.json", auths=logged_in("moved"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "own"))
    assert find_credentials(HOST) == password_of("moved:secret")
    keep(home / "boot" / str(os.getuid()) / "auth.json", auths=logged_in("boot"))
    assert find_credentials(HOST) == password_of("boot:secret")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))  # of somebody who has one nothing is there
    assert find_credentials(HOST) == password_of("moved:secret")


def test_it_is_no_fault_that_others_than_root_may_not_look_below_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = home / "boot" / str(os.getuid())
    keep(closed / "auth.json", auths=logged_in("boot"))
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (closed, os.X_OK))  # root may go anywhere
    assert not find_credentials(HOST)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"username": "rita", "password": "of ä"}, password_of("rita:of ä")),
        ({"username": "rita", "password": "old", "auth": encoded("rita:new")}, password_of("rita:new")),
        ({"username": "rita", "auth": ""}, Login()),
        ({"username": "rita", "password": ["x"]}, Login()),
        ({"auth": encoded("00000000-0000-0000-0000-000000000000:"), "identitytoken": "hidden"}, Login(identity="hidden")),
        ({"auth": encoded("rita:secret"), "identitytoken": ""}, password_of("rita:secret")),
    ],
)
def test_an_entry_is_a_password_or_an_identity_token(home: Path, entry: dict[str, Any], found: Login) -> None:
    keep(home / ".docker" / "config.json", auths={HOST: entry})
    assert find_credentials(HOST) == found


@pytest.mark.parametrize("where", [{"credHelpers": {HOST: "desk"}}, {"credsStore": "desk"}, {"auths": {HOST: {}}, "credsStore": "desk"}])
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"ServerURL": "x", "Username": "rita", "Secret": "of \\u00e4"}', password_of("rita:of ä")),
        ('{"Username": "<token>", "Secret": "x"}', Login(identity="x")),
        ('{"Username": 1, "Secret": "x"}', Login()),
        ("credentials not found in native keychain", Login()),
        ("exit 1", Login()),
    ],
)
def test_a_program_that_keeps_credentials_is_asked(home: Path, where: dict[str, Any], answer: str, found: Login) -> None:
    keep(home / ".docker" / "config.json", **where)
    said = answer if answer.startswith("exit") else f"cat <<'END'\n{answer}\nEND"
    program = home / "bin" / "docker-credential-desk"
    program.write_text(f'#!/bin/sh\n[ "$1 $(cat)" = "get {HOST}" ] || exit 2\n{said}\n')
    program.chmod(0o755)
    assert find_credentials(HOST) == found


@pytest.mark.parametrize("name", ["nowhere", "../../bin/sh", "", 5, None])
def test_a_program_that_is_not_there_or_is_no_such_program_keeps_nothing(home: Path, name: object) -> None:
    keep(home / ".docker" / "config.json", credsStore=name, auths={"reg.example": {"auth": 5}, HOST: "x"})
    assert not find_credentials(HOST)


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
    assert not find_credentials(HOST)
