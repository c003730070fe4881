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
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from ..strict_json import read_object

_BARE = re.compile(r"^https?://|/(v[12]/?)?$")  # what docker writes around a host's name
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what docker-credential-* is called
_PATIENCE = 30.0  # seconds for such a program
_LIMIT = 1 << 20  # bytes of a file with credentials


def read_challenge(text: str) -> tuple[str, dict[str, str]]:
    """The scheme and the parameters of a ``WWW-Authenticate`` header, both in lower case but for the values."""
    kind, _space, rest = text.partition(" ")
    found = _PARAMETER.finditer(rest)
    return kind.lower(), {match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3] for match in found}


def find_credentials(host: str, namespace: str = "") -> str:
    """User and password for a registry, as the header ``Authorization`` has them behind ``Basic``; nothing when nobody logged in to it.

    Those for our namespace, as ``podman login host/namespace`` leaves them (containers-auth.json(5)), come before the host's. When there
    are none for either, they are those of the only namespace that somebody logged in to. Raises :class:`TidegateError` for a file of
    credentials that can't be read.
    """
    documents = [_read(path) for path in _files()]
    kept: dict[str, str] = {}
    for document in documents:
        for name, entry in _mapping(document, "auths").items():
            secret = _mapping({"": entry}, "").get("auth")
            if isinstance(secret, str) and secret:
                kept.setdefault(_BARE.sub("", name), secret)
    parts = namespace.split("/") if namespace else []
    for length in range(len(parts), -1, -1):
        if found := kept.get("/".join((host, *parts[:length]))):
            return found
    for document in documents:
        if helped := _from_helper(_mapping(document, "credHelpers").get(host) or document.get("credsStore"), host):
            return helped
    others = [secret for name, secret in kept.items() if name.startswith(f"{host}/")]
    return others[0] if len(others) == 1 else ""


def _files() -> Iterator[Path]:
    """Where container tools keep credentials, what counts first comes first."""
    home = Path(os.path.expanduser("~"), ".docker", "config.json")
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield from (Path(named), home)
        return
    folders = ((os.environ.get("DOCKER_CONFIG"), "config.json"), (os.environ.get("XDG_RUNTIME_DIR"), "containers/auth.json"))
    yield from (Path(folder, name) for folder, name in folders if folder)
    yield home


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


def _from_helper(name: object, host: str) -> str:
    """What a program that keeps credentials gives for a host; nothing when it is not there or has none."""
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        return ""
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
        return ""
    if not isinstance(user, str) or not isinstance(secret, str) or user == "<token>":  # that is no password, but for another protocol
        return ""
    return base64.b64encode(f"{user}:{secret}".encode()).decode()
