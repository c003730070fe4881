# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an OCI registry: who we are to it, and what is said when it goes wrong. How long we wait is in :mod:`.registry_session`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from ..settings import without_login
from .descriptors import MANIFEST_LIMIT, parse_json
from .registry_login import Login, find_credentials, read_challenges
from .registry_session import BLOCK, Allowance, Pace, joined

with contextlib.suppress(ImportError):
    import requests

    from .registry_session import Session

_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]+")
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
        self._authorization = ""
        self._secrets: list[str] = []

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
        if self._authorization and self._session.at_home(url):
            headers = headers | {"Authorization": self._authorization}
        response = self._send(method, url, headers, data, allowance)
        # One that does not say how to log in knows us already, or not what was asked for; one to which the registry sent us on must not
        # say where our secret goes.
        if response.status_code != 401 or not self._session.at_home(response.url) or "Www-Authenticate" not in response.headers:
            return response
        response.close()
        if self._scheme == "http":
            raise AnswerError(f"the registry {self.host} wants credentials, which are not sent without TLS; use oci:// for it", 401)
        self._authorization = self._log_in(response.headers["Www-Authenticate"])
        if not self._authorization:
            raise AnswerError(self._refused(method, url, response), response.status_code)
        headers = headers | {"Authorization": self._authorization}
        if hasattr(data, "seek"):
            data.seek(0)
        return self._send(method, url, headers, data, allowance)

    def _log_in(self, challenge: str) -> str:
        """What to be known by, the header ``Authorization``; nothing when those that we ask do not know us."""
        offered = dict(reversed(read_challenges(challenge)))  # the first of each scheme
        if offered.keys().isdisjoint(("basic", "bearer")):
            why = f"the registry {self.host} asks for a login in a way not known here; allow basic or token authentication"
            raise AnswerError(why, 401)
        login = find_credentials(self.host, self._namespace)
        self._secrets = [login.basic, login.identity]
        if "bearer" in offered:
            token = self._token(offered["bearer"], login)
            self._secrets.append(token)
            return f"Bearer {token}" if token else ""
        if login.identity:
            raise AnswerError(
                f"the registry {self.host} wants a password, and what there is for it is an identity token, which it does not take; log in "
                "with docker login and a password, or the token of a robot account",
                401,
            )
        if not login:
            raise AnswerError(f"the registry {self.host} wants credentials and there are none for it; {_LOG_IN}", 401)
        return f"Basic {login.basic}"

    def _token(self, asked: Mapping[str, str], login: Login) -> str:
        """A token from where the registry points, for what it wants to see one for; nothing when we get none there.

        Without credentials anybody may get one, where packages are public.
        """
        realm = asked.get("realm", "")
        where = joined(f"https://{self.host}/", realm)
        if not _ABSOLUTE.match(realm):  # what is without TLS the session refuses
            raise AnswerError(
                f"the registry {self.host} has tokens at {without_login(realm)!a:.100}, which is no https address; correct the realm in "
                "its settings",
                401,
            )
        headers = {"Accept": "application/json"} | ({"Authorization": f"Basic {login.basic}"} if login.basic else {})
        wanted = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
        if login.identity:  # OAuth2, as Distribution has it, which wants a client to have a name
            form = wanted | {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "tidegate"}
            question = self._session.request("POST", where, headers=headers, data=form)
        else:
            question = self._session.request("GET", where, headers=headers, params=wanted)
        with question as response:
            if response.status_code != 200:
                return ""
            try:
                answer = parse_json(b"".join(blocks_of(response, BLOCK)), "a token")
            except IntegrityError:
                return ""
        token = answer.get("token") or answer.get("access_token")
        return token if isinstance(token, str) and _TOKEN.fullmatch(token) else ""

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
        return Redactor({"password": self._secrets}).text(text)


def blocks_of(answer: Any, limit: int) -> Iterator[bytes]:
    """What an answer holds, in blocks, as long as it is no more than ``limit`` bytes."""
    size = 0
    # No larger blocks than that, or a slow one could go on for long before anybody counts.
    for block in answer.iter_content(min(BLOCK, limit + 1)):
        size += len(block)
        if size > limit:
            raise IntegrityError(f"the registry sends more than the {limit} bytes that it should; look at what answers at that address")
        yield block


def _short(error: Exception) -> str:
    """What a chain of errors comes to, without the objects that its text is full of."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    return _short(reason) if isinstance(reason, Exception) else _OBJECT.sub("", str(error))
