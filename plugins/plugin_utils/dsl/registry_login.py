# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are to a registry: the credentials that container tools keep, and what a registry that wants to know who asks says of it."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from ..strict_json import read_object

_BARE = re.compile(r"^https?://|/(v[12]/?)?$")  # what docker writes around a host's name
_NAME = re.compile(r'[\s,]*([^\s,="]+)')  # of a scheme or a parameter
_VALUE = re.compile(r'\s*=\s*(?:"((?:[^"\\]|\\.)*)("?)|([^\s",]*))')  # of a parameter, with the mark that ends it, if it is in marks
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|\Z))")  # what a scheme may have in place of parameters
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what docker-credential-* is called
_PATIENCE = 30.0  # seconds for such a program
_LIMIT = 1 << 20  # bytes of a file with credentials
_RUN = Path("/run/containers")  # below it podman keeps what is gone after a boot, for whom no XDG_RUNTIME_DIR was made


@dataclass(frozen=True)
class Login:
    """What somebody logged in to a registry with; nothing of it when nobody did."""

    basic: str = ""
    """User and password, as the header ``Authorization`` has them behind ``Basic``."""
    identity: str = ""
    """An identity token in place of both, which a token is got with where the registry points (OAuth2, a refresh token)."""

    def __bool__(self) -> bool:
        return bool(self.basic or self.identity)


def read_challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """Each challenge of a ``WWW-Authenticate`` header (RFC 9110, section 11.6.1): its scheme and its parameters.

    Names are in lower case, and of parameters with the same name the first counts. What can't be read ends the list; nothing is raised.
    """
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while name := _NAME.match(text, at):
        at = name.end()
        if value := _VALUE.match(text, at):
            at = value.end()
            quoted, mark, plain = value.groups()
            if quoted is not None and not mark:
                break
            if found:
                found[-1][1].setdefault(name[1].lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        else:
            found.append((name[1].lower(), {}))
            if token := _TOKEN68.match(text, at):
                at = token.end()
    return found


def find_credentials(host: str, namespace: str = "") -> Login:
    """What somebody logged in to a registry with.

    Those for our namespace, as ``podman login host/namespace`` leaves them (containers-auth.json(5)), come before the host's. When there
    are none for either, they are those of the only namespace that somebody logged in to. Raises :class:`TidegateError` for a file of
    credentials that can't be read.
    """
    documents = [_read(path) for path in _files()]
    kept: dict[str, Login] = {}
    for document in documents:
        auths = _mapping(document, "auths")
        for name in auths:
            if login := _login(_mapping(auths, name)):
                kept.setdefault(_BARE.sub("", name), login)
    parts = namespace.split("/") if namespace else []
    for length in range(len(parts), -1, -1):
        if found := kept.get("/".join((host, *parts[:length]))):
            return found
    for document in documents:
        if helped := _from_helper(_mapping(document, "credHelpers").get(host) or document.get("credsStore"), host):
            return helped
    others = [login for name, login in kept.items() if name.startswith(f"{host}/")]
    return others[0] if len(others) == 1 else Login()


def _files() -> Iterator[Path]:
    """Where container tools keep credentials (containers-auth.json(5)), what counts first comes first."""
    home = Path(os.path.expanduser("~"))
    docker = home / ".docker" / "config.json"
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield from (Path(named), docker)
        return
    if folder := os.environ.get("DOCKER_CONFIG"):
        yield Path(folder, "config.json")
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(folder, "containers", "auth.json")
    elif os.access(own := _RUN / str(os.getuid()), os.X_OK):  # who never logged in need not be let into what is above it
        yield own / "auth.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "containers", "auth.json")
    yield docker


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return read_object(stream.read(_LIMIT), f"the file {path}, with credentials for registries,")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise TidegateError(f"can't read the credentials for registries in {path} ({error.strerror}); let this user read it") from error


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _login(entry: Mapping[str, Any]) -> Login:
    """What the entry of a registry has. With an identity token docker writes a user, too, whose password is empty."""
    identity, basic, user, password = (_text(entry.get(name)) for name in ("identitytoken", "auth", "username", "password"))
    if identity:
        return Login(identity=identity)
    return Login(basic or (_encoded(user, password) if user and password else ""))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _from_helper(name: object, host: str) -> Login:
    """What a program that keeps credentials gives for a host; nothing when it is not there or has none."""
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        return Login()
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=host.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=_PATIENCE,
        )
        found = read_object(done.stdout, "it")
        user, secret = found.get("Username"), found.get("Secret")
    except (OSError, subprocess.SubprocessError, TidegateError):
        return Login()
    if not isinstance(user, str) or not isinstance(secret, str):
        return Login()
    return Login(identity=secret) if user == "<token>" else Login(_encoded(user, secret))
