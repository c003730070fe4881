# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an OCI registry: who we are to it, and what is said when it goes wrong. How long we wait is in :mod:`.registry_session`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from .descriptors import MANIFEST_LIMIT, parse_json
from .registry_session import BLOCK, Allowance, Pace, joined

with contextlib.suppress(ImportError):
    import oras.auth
    import requests

    from .registry_session import Session

_BARE = re.compile(r"^https?://|/(v[12]/?)?$")  # what docker writes around a host's name
_OBJECT = re.compile(r"<[^>]*>:? ?|\b\w+\(host=[^)]*\):? ?")  # how urllib3 writes a connection
_LOG_IN = (
    "log in with docker login, podman login or skopeo login, as one who may do this, or name the file with the credentials in the "
    "environment variable REGISTRY_AUTH_FILE"
)


class AnswerError(TidegateError):
    """The registry answered, but not as it should."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Wire:
    """Requests to one registry: who we are, and what is said when it goes wrong."""

    def __init__(self, host: str, secure: bool, namespace: str = "") -> None:
        """``namespace``: the path below which we work, for which there may be credentials of its own."""
        self.host = host
        self._namespace = namespace
        self._scheme = "https" if secure else "http"
        self._session = Session(host, secure)
        self._pace = Pace(self._session.who)
        self._auth: Any = None

    def allowance(self, size: int, seconds: float | None = None) -> Allowance:
        """What one question may cost, or several together; see :class:`.registry_session.Allowance`."""
        return Allowance(self._session.who, size, seconds)

    @contextlib.contextmanager
    def ask(
        self,
        method: str,
        path: str,
        ok: tuple[int, ...] = (200,),
        data: Any = None,
        allowance: Allowance | None = None,
        **headers: str,
    ) -> Iterator[Any]:
        """The response, whose content was not read yet; without an ``allowance`` it may cost what a manifest may.

        Other status than ``ok`` raise :class:`TidegateError`.
        """
        url = joined(f"{self._scheme}://{self.host}/v2/", path)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        allowance = allowance or self.allowance(MANIFEST_LIMIT)
        self._pace.check()
        before = allowance.excess
        try:
            with self._authorised(method, url, headers, data, allowance) as response:
                if response.status_code not in ok:
                    raise AnswerError(self._refused(method, url, response), response.status_code)
                yield response
        except requests.exceptions.SSLError as error:
            raise TidegateError(
                f"the registry {self.host} has a certificate that is not trusted here ({self._readable(_short(error))}); name the file of "
                "its authority in the environment variable REQUESTS_CA_BUNDLE"
            ) from error
        except requests.exceptions.RequestException as error:
            raise TidegateError(
                f"the registry {self.host} can't be reached ({self._readable(_short(error))}); check the address of the DSL and that the "
                "registry runs"
            ) from error
        finally:
            self._pace.count(max(0.0, allowance.excess - before))

    def _authorised(self, method: str, url: str, headers: dict[str, str], data: Any, allowance: Allowance) -> Any:
        """Ask, and when the registry wants to know who asks, tell it and ask again."""
        # An upload may go on elsewhere, to somebody who must not learn our secret.
        if self._auth is not None and self._session.at_home(url):
            headers = headers | self._auth.get_auth_header()
        response = self._send(method, url, headers, data, allowance)
        # One that does not say how to log in knows us already, or not what was asked for; one to which the registry sent us on must not
        # say where our secret goes.
        if response.status_code != 401 or not self._session.at_home(response.url) or "Www-Authenticate" not in response.headers:
            return response
        response.close()
        if self._scheme == "http":
            raise AnswerError(f"the registry {self.host} wants credentials, which are not sent without TLS; use oci:// for it", 401)
        self._auth = self._log_in(response.headers.get("Www-Authenticate", ""))
        try:
            headers, known = self._auth.authenticate_request(response, headers)
        except (AttributeError, TypeError, ValueError, RecursionError):  # a challenge, or a token, that it can't make sense of
            known = False
        if not known:
            raise AnswerError(self._refused(method, url, response), response.status_code)
        if hasattr(data, "seek"):
            data.seek(0)
        return self._send(method, url, headers, data, allowance)

    def _log_in(self, challenge: str) -> Any:
        kind = challenge.partition(" ")[0].lower()
        if kind not in ("basic", "bearer"):
            why = f"the registry {self.host} asks for a login in a way not known here; allow basic or token authentication"
            raise AnswerError(why, 401)
        auth = oras.auth.get_auth_backend("basic" if kind == "basic" else "token", self._session, False, tls_verify=True)
        auth.load_configs(oras.container.Container(f"{self.host}/any"), configs=_credential_files())
        self._narrow(auth)
        if kind == "basic" and not hasattr(auth, "_basic_auth"):
            raise AnswerError(f"the registry {self.host} wants credentials and there are none for it; {_LOG_IN}", 401)
        return auth

    def _narrow(self, auth: Any) -> None:
        """Prefer the credentials of our namespace, as ``podman login host/namespace`` leaves them (containers-auth.json(5)), to the host's.

        When there are none for either, those of the only namespace that somebody logged in to.
        """
        kept = {_BARE.sub("", name): name for name in auth._auth_config.get("auths") or {}}  # it looks for the very name of the host
        parts = self._namespace.split("/") if self._namespace else []
        ours = ["/".join((self.host, *parts[:length])) for length in range(len(parts), -1, -1)]
        others = [name for name in kept if name.startswith(f"{self.host}/")]
        found = [name for name in ours if name in kept] or ([] if hasattr(auth, "_basic_auth") or len(others) != 1 else others)
        if found:
            auth._load_auth(kept[found[0]])

    def _send(self, method: str, url: str, headers: Mapping[str, str], data: Any, allowance: Allowance) -> Any:
        return self._session.request(method, url, allowance, headers, data=data)

    def _refused(self, method: str, url: str, response: Any) -> str:
        status = f"{response.status_code} {self._readable(str(response.reason))}"
        if response.status_code in (401, 403):
            return f"the registry {self.host} does not let this user {method} {urlsplit(url).path} ({status}); {_LOG_IN}"
        answer = f"{status}{self._reason(response)}"
        return f"the registry {self.host} answered {answer} to {method} {urlsplit(url).path}; look at the registry's log"

    def _reason(self, response: Any) -> str:
        """What the registry says of its refusal, as far as it is a plain sentence."""
        with contextlib.suppress(requests.exceptions.RequestException, IntegrityError, KeyError, IndexError, TypeError):
            first = parse_json(b"".join(blocks_of(response, BLOCK)), "it")["errors"][0]
            return f" ({self._readable(str(first['code']))!a:.60}: {self._readable(str(first['message']))!a:.200})"
        return ""

    def _readable(self, text: str) -> str:
        """What the registry says, or is said of a request, without the credentials that it was sent."""
        return Redactor({"password": [getattr(self._auth, name, None) for name in ("_basic_auth", "token")]}).text(text)


def blocks_of(answer: Any, limit: int) -> Iterator[bytes]:
    """What an answer holds, in blocks, as long as it is no more than ``limit`` bytes."""
    size = 0
    # No larger blocks than that, or a slow one could go on for long before anybody counts.
    for block in answer.iter_content(min(BLOCK, limit + 1)):
        size += len(block)
        if size > limit:
            raise IntegrityError(f"the registry sends more than the {limit} bytes that it should; look at what answers at that address")
        yield block


def _credential_files() -> list[str]:
    """Where container tools keep credentials, besides ~/.docker/config.json."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return [named]
    folders = [(os.environ.get("DOCKER_CONFIG"), "config.json"), (os.environ.get("XDG_RUNTIME_DIR"), "containers/auth.json")]
    return [str(Path(folder) / name) for folder, name in folders if folder and (Path(folder) / name).exists()]


def _short(error: Exception) -> str:
    """What a chain of errors comes to, without the objects that its text is full of."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    return _short(reason) if isinstance(reason, Exception) else _OBJECT.sub("", str(error))
