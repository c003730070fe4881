# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Prometheus, or what answers as it does: who we are to it, how long we wait, how much we take, and where we go.

Its address and token are secrets, so no message has them: it says where they are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ...module_utils.endpoint import EndpointError, read_url
from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from ..libs import require
from ..limits import run_within
from ..services import is_this_machine, take_answer
from ..strict_json import read_json

with contextlib.suppress(ImportError):
    import requests

LIMIT = 15.0
"""Seconds for one query with its answer."""
_PATIENCE = (5.0, 10.0)  # seconds to connect, and without a byte
_LARGEST = 16 << 20  # bytes of an answer: 100,000 hosts with a few labels


class PrometheusClient:
    """One Prometheus; ``where`` says where its address is, and its token. Raises :class:`TidegateError` for an address that is none."""

    def __init__(self, address: str, token: str = "", where: str = "Prometheus") -> None:
        require("metrics")
        self._where = where
        try:
            endpoint = read_url(address)
        except EndpointError:
            raise TidegateError(f"what {where} has is no address of a Prometheus; write it like https://prometheus.example.org") from None
        parts = urlsplit(address)
        if parts.query or parts.fragment:
            raise TidegateError(f"the address that {where} has goes on behind its path; write it like https://prometheus.example.org")
        if (token or "@" in parts.netloc) and not endpoint.secure and not is_this_machine(endpoint.host):
            raise TidegateError(f"credentials are not sent without TLS, and the address that {where} has begins with http; use https")
        self._here = not endpoint.secure and is_this_machine(endpoint.host)
        self._url = f"{address.rstrip('/')}/api/v1/query"
        self._token = token
        self._redactor = Redactor({"address": address, "token": token, "password": parts.password or ""})

    def query(self, text: str) -> object:
        """The document that an instant query is answered with.

        Raises :class:`TidegateError` with one sentence, which has neither the address nor a secret, when there is none.
        """
        try:
            return self._without_secrets(run_within(LIMIT, lambda: self._ask(text)))
        except TidegateError as error:
            raise TidegateError(self._redactor.text(str(error))) from None
        except TimeoutError:
            raise TidegateError(f"Prometheus did not answer within {LIMIT:g} s") from None
        except requests.exceptions.SSLError:
            raise TidegateError(
                "Prometheus has a certificate that is not trusted here; name the file of its authority in the environment variable "
                "REQUESTS_CA_BUNDLE"
            ) from None
        except requests.exceptions.Timeout:
            raise TidegateError("Prometheus did not answer in time") from None
        except requests.exceptions.RequestException as error:
            raise TidegateError(f"Prometheus can't be reached ({type(error).__name__}); check what {self._where} has") from None
        except Exception as error:  # whatever a library breaks on, and it could say an address
            raise TidegateError(f"what Prometheus answers can't be understood ({type(error).__name__})") from None

    def _without_secrets(self, document: object) -> object:
        """An answer whose words for people say neither the address nor a secret."""
        if not isinstance(document, Mapping):
            return document
        said = {key: document[key] for key in ("error", "warnings", "infos") if key in document}
        texts = {key: self._redactor.text(value) if isinstance(value, str) else value for key, value in said.items()}
        lists = {key: [self._redactor.text(str(one)) for one in value] for key, value in said.items() if isinstance(value, list)}
        return {**document, **texts, **lists}

    def _ask(self, text: str) -> object:
        end = time.monotonic() + LIMIT
        with requests.Session() as session:
            session.trust_env = not self._here  # no proxy gets what goes without TLS to this machine
            session.auth = self._sign  # or it would look for a login in files of the user's
            response = session.post(
                self._url,
                data={"query": text.encode(errors="replace")},
                headers={"Accept-Encoding": "identity", "Accept": "application/json"},
                timeout=_PATIENCE,
                allow_redirects=False,
                stream=True,
            )
            with response:
                return self._read(response, end)

    def _sign(self, request: Any) -> Any:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        elif "@" in urlsplit(self._url).netloc:
            parts = urlsplit(self._url)
            return requests.auth.HTTPBasicAuth(*(unquote(part or "") for part in (parts.username, parts.password)))(request)
        return request

    def _read(self, response: Any, end: float) -> object:
        status = response.status_code
        if 300 <= status < 400:
            raise TidegateError(f"Prometheus answers {status} and points elsewhere; give its own address in {self._where}")
        if status in (401, 403):
            raise TidegateError(f"Prometheus does not let us ask it ({status}); correct what {self._where} has")
        content = take_answer(response, "Prometheus", _LARGEST, end, "; have the query give less")
        try:
            document = read_json(content, "the answer")
        except IntegrityError:
            document = None
        # It says why a query can't be evaluated with 400 or 422, and in a document of its API.
        if status != 200 and not (isinstance(document, Mapping) and document.get("status") == "error"):
            raise TidegateError(f"Prometheus answers {status}")
        if document is None:
            raise TidegateError("Prometheus answers with something that is not of its API, such as a page for people")
        return document
