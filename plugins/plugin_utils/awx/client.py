# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An AWX or automation controller, by version 2 of its API: who we are to it, how long we wait, how much we take, and where we go."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ...module_utils.endpoint import EndpointError, read_url
from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from ..libs import require
from ..limits import run_within
from ..services import is_this_machine, take_answer
from ..strict_json import read_json

with contextlib.suppress(ImportError):
    import requests

_PATIENCE = (5.0, 30.0)  # seconds to connect, and without a byte
_LIMIT = 60.0  # seconds for one request with its answer
_LARGEST = 8 << 20  # bytes of an answer: a page of a hundred job templates has one
_PAGE, _PAGES = 100, 100  # entries of a page, and pages
_API = "/api/v2"
_SHOWN = 300  # characters of what it says of a refusal
_ELSEWHERE = "give the address that AWX itself has"


class AwxClient:
    """AWX at ``address``, such as ``https://awx.example``; with a path, that of its API. Every call raises :class:`TidegateError` with one
    sentence, which has neither the token nor one of ``secrets``.
    """

    def __init__(self, address: str, token: str, secrets: Mapping[str, Any] | None = None) -> None:
        require("awx")
        try:
            endpoint = read_url(address)
        except EndpointError:
            raise TidegateError("tidegate_awx_host is no address of an AWX; write it like https://awx.example") from None
        parts = urlsplit(address)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise TidegateError("tidegate_awx_host has more than a host and a path; write it like https://awx.example")
        here = not endpoint.secure and is_this_machine(endpoint.host)
        if not endpoint.secure and not here:
            raise TidegateError("the token of AWX is not sent without TLS, and tidegate_awx_host begins with http; use https")
        self.host = parts.netloc
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or _API}"
        self._token = token
        self._redactor = Redactor({"token": token, **(secrets or {})})
        self._session = requests.Session()
        self._session.trust_env = not here  # no proxy gets what goes without TLS to this machine
        self._session.auth = self._sign  # or it would look for a login in files of the user's

    def get(self, path: str, **filters: Any) -> dict[str, Any]:
        """The document at ``path``, which is relative to the API and ends with a slash."""
        return self._document(self._ask("GET", path, filters, None))

    def texts(self, path: str) -> list[str]:
        """The texts that are all of the document at ``path``."""
        found = self._ask("GET", path, {}, None)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._strange()
        return found

    def every(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        """What the list at ``path`` has, page by page."""
        found: list[dict[str, Any]] = []
        for number in range(1, _PAGES + 1):
            page = self.get(path, **filters, page=number, page_size=_PAGE, order_by="id")
            entries = page.get("results")
            if not isinstance(entries, list) or not all(isinstance(one, dict) and isinstance(one.get("id"), int) for one in entries):
                raise self._strange()
            found += entries
            if not page.get("next"):
                return found
        raise TidegateError(f"{self.host} has more than {_PAGE * _PAGES} entries of {path}; look at them there")

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Make something; empty where there is nothing to answer."""
        return self._document(self._ask("POST", path, {}, content))

    def patch(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields."""
        return self._document(self._ask("PATCH", path, {}, content))

    def delete(self, path: str) -> None:
        """Take something away."""
        self._ask("DELETE", path, {}, None)

    def _document(self, found: Any) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise self._strange()
        return found

    def _ask(self, method: str, path: str, filters: Mapping[str, Any], content: Mapping[str, Any] | None) -> Any:
        try:
            return run_within(_LIMIT, lambda: self._send(method, path, filters, content))
        except TidegateError as error:
            raise TidegateError(self._redactor.text(str(error))) from None
        except (TimeoutError, requests.exceptions.Timeout):
            raise TidegateError(f"{self.host} did not answer within {_LIMIT:g} s; look what it is busy with, and run this again") from None
        except requests.exceptions.SSLError:
            raise TidegateError(
                f"{self.host} has a certificate that is not trusted here; name the file of its authority in the environment variable "
                "REQUESTS_CA_BUNDLE"
            ) from None
        except requests.exceptions.RequestException as error:
            raise TidegateError(f"{self.host} can't be reached ({type(error).__name__}); check tidegate_awx_host and the network") from None
        except Exception as error:  # whatever a library breaks on, and it could say a secret
            raise TidegateError(
                f"what {self.host} answers can't be understood ({type(error).__name__}); look at what answers there"
            ) from None

    def _send(self, method: str, path: str, filters: Mapping[str, Any], content: Mapping[str, Any] | None) -> Any:
        end = time.monotonic() + _LIMIT
        response = self._session.request(
            method,
            f"{self._base}/{path}",
            params=dict(filters),
            data=None if content is None else json.dumps(content).encode(),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"},
            timeout=_PATIENCE,
            allow_redirects=False,
            stream=True,
        )
        with response:
            return self._read(method, path, response, end)

    def _sign(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _read(self, method: str, path: str, response: Any, end: float) -> Any:
        status = response.status_code
        if 300 <= status < 400:
            raise TidegateError(f"{self.host} answers {status} and points elsewhere; {_ELSEWHERE}")
        body = take_answer(response, self.host, _LARGEST, end, " for one answer; look at what answers there")
        try:
            document = read_json(body, "the answer") if body else {}
        except IntegrityError:
            document = None
        if status == 401:
            raise TidegateError(f"{self.host} does not know this token (401); correct CONTROLLER_OAUTH_TOKEN in the environment")
        if status == 403:
            what = "read" if method == "GET" else "change"
            raise TidegateError(
                f"{self.host} does not let this user {what} {path} (403{_said(document)}); use the token of an administrator of it"
            )
        if status == 404:
            raise TidegateError(f"{self.host} has no {path} (404); {_ELSEWHERE}, with the path of its API if that is not {_API}")
        if status >= 500:
            raise TidegateError(f"{self.host} answers {status} to {method} {path}; look at its log and run this again")
        if status >= 400:
            raise TidegateError(f"{self.host} refuses {method} {path} ({status}{_said(document)})")
        if document is None:
            raise self._strange()
        return document

    def _strange(self) -> TidegateError:
        return TidegateError(f"{self.host} answers with something that is not of AWX's API, such as a page for people; {_ELSEWHERE}")


def _said(document: Any) -> str:
    """What a refusal says: by field, or as one sentence."""
    text = "; ".join(_sentences(document))
    return f": {text!a:.{_SHOWN}}" if text else ""


def _sentences(document: Any, name: str = "") -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _sentences(value, f"{name}{'.' if name else ''}{key}")
    elif isinstance(document, list):
        for value in document:
            yield from _sentences(value, name)
    elif isinstance(document, str):
        yield f"{name}: {document}" if name not in ("", "detail", "error", "msg", "__all__") else document
