# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance of ServiceNow: who we are to it, how long we wait, how much we take, and what is said when it goes wrong."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from ..libs import require
from ..limits import run_within
from ..services import take_answer
from ..strict_json import read_object

with contextlib.suppress(ImportError):
    import requests

_T = TypeVar("_T")

_PATIENCE = (5.0, 10.0)  # seconds to connect, and without a byte
_LIMIT = 30.0  # seconds for one request with its answer, all attempts together
_LARGEST = 4 << 20  # bytes of an answer
_ATTEMPTS = 3
_BUSY = (429, 502, 503, 504)
_BUSY_WITH = "find out what it is busy with and run this again"
_AS_BOTH = {  # of each field what it is and what people see of it, a page at a time
    "sysparm_display_value": "all",
    "sysparm_exclude_reference_link": "true",
    "sysparm_limit": 100,
    "sysparm_suppress_pagination_header": "true",
}
_WHO = "SN_USERNAME and SN_PASSWORD, or SN_ACCESS_TOKEN,"


@dataclass(frozen=True)
class Record:
    """One row of a table. ``values`` are raw, ``shown`` is what people see of them; what the answer left out is in neither."""

    id: str
    values: Mapping[str, str]
    shown: Mapping[str, str]


class Instance:
    """An instance at ``https://host``. Every call raises :class:`TidegateError` with one sentence, which has no credentials in it."""

    def __init__(self, url: str) -> None:
        require("servicenow")
        self._host = urlsplit(url).netloc
        self._tables = f"{url}/api/now/table"
        self._session = _session(self._host)

    def query(self, table: str, query: str, fields: Iterable[str], most: int) -> list[Record]:
        """The records that an encoded query finds; refused when they are more than ``most``."""

        def ask() -> list[Record]:
            records: list[Record] = []
            while True:
                # Without an order a page could repeat what was on the one before.
                asked = {"sysparm_query": f"{query}^ORDERBYsys_id", "sysparm_fields": ",".join(dict.fromkeys(["sys_id", *fields]))}
                answer = self._session.get(f"{self._tables}/{table}", params=_AS_BOTH | asked | {"sysparm_offset": len(records)})
                rows = answer.json()["result"]
                records += map(_record, rows)
                if len(records) > most:
                    raise IntegrityError(f"{self._host} has more than {most} records of {table} for one change; look at them there")
                if not rows or len(records) >= int(answer.headers["X-Total-Count"]):
                    return records

        return self._within(ask)

    def write(self, table: str, sys_id: str, values: Mapping[str, str]) -> None:
        """Change some fields of a record. What the instance answers is not believed: read it again."""

        self._within(
            lambda: self._session.patch(f"{self._tables}/{table}/{sys_id}", params={"sysparm_fields": "sys_id"}, json=dict(values))
        )

    def _within(self, ask: Callable[[], _T]) -> _T:
        """Do it in bounded time; what goes wrong is said in one sentence."""
        try:
            return run_within(_LIMIT, ask)
        except TidegateError:
            raise
        except TimeoutError:
            raise _slow(self._host) from None
        except requests.exceptions.SSLError:
            raise TidegateError(
                f"{self._host} has a certificate that is not trusted here; name the file of its authority in the environment variable "
                "REQUESTS_CA_BUNDLE"
            ) from None
        except requests.exceptions.ReadTimeout:
            raise TidegateError(f"{self._host} sent nothing for {_PATIENCE[1]:g} s; {_BUSY_WITH}") from None
        except requests.exceptions.RequestException as error:
            raise TidegateError(
                f"{self._host} can't be reached ({type(error).__name__}); check the address of the RFC and the network"
            ) from None
        except BaseException as error:
            raise TidegateError(
                f"what {self._host} answers can't be understood ({type(error).__name__}); look at what answers there"
            ) from None


def _record(row: Mapping[str, Any]) -> Record:
    """A row of an answer."""
    both = {name: value if isinstance(value, dict) else {"value": value, "display_value": value} for name, value in row.items()}
    values, shown = ({name: str(value.get(form) or "") for name, value in both.items()} for form in ("value", "display_value"))
    return Record(values.get("sys_id", ""), values, shown)


def _slow(host: str) -> TidegateError:
    return TidegateError(f"{host} did not answer within {_LIMIT:g} s; {_BUSY_WITH}")


def _session(host: str) -> Any:
    """A session with the credentials of the environment, which go to one host and nowhere else."""

    class Session(requests.Session):
        def send(self, request: Any, **settings: Any) -> Any:
            if urlsplit(request.url).netloc != host:
                raise TidegateError(f"a request for {host} would go elsewhere; this is a defect, please report it")
            settings |= {"timeout": _PATIENCE, "allow_redirects": False, "stream": True}
            end = time.monotonic() + _LIMIT
            for attempt in range(1, _ATTEMPTS + 1):
                response = super().send(request, **settings)
                pause = _pause(response, attempt)
                # What was written may have arrived, whatever the answer says; it is not written twice.
                if response.status_code not in _BUSY or request.method != "GET" or attempt == _ATTEMPTS or time.monotonic() + pause > end:
                    break
                response.close()
                time.sleep(pause)
            with response:
                response._content = take_answer(response, host, _LARGEST, end, " for one change; look at what answers there")
                response._content_consumed = True
            _check(host, response)
            return response

    session = Session()
    session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
    session.auth = _who(host)
    return session


def _who(host: str) -> Any:
    named = os.environ.get("SN_HOST", "")
    if named and urlsplit(named if "://" in named else f"https://{named}").netloc != host:
        raise TidegateError(f"the credentials in the environment are for SN_HOST, which is not {host}; set the ones for {host}")
    token = os.environ.get("SN_ACCESS_TOKEN")
    if token:

        class Bearer(requests.auth.AuthBase):
            def __call__(self, request: Any) -> Any:
                request.headers["Authorization"] = f"Bearer {token}"
                return request

        return Bearer()
    name, password = os.environ.get("SN_USERNAME"), os.environ.get("SN_PASSWORD")
    if not name or not password:
        raise TidegateError(f"there are no credentials for {host}; set {_WHO} in the environment")
    return requests.auth.HTTPBasicAuth(name.encode(), password.encode())


def _pause(response: Any, attempt: int) -> float:
    """Seconds until the next attempt."""
    wanted = response.headers.get("Retry-After", "")
    return float(wanted) if wanted.isdigit() else 0.5 * 2**attempt


def _check(host: str, response: Any) -> None:
    """Refuse every answer that is not the Table API's to a request that it carried out."""
    status = response.status_code
    said = _said(response)
    if 300 <= status < 400:
        raise TidegateError(f"{host} answers {status} and points elsewhere; give the address that the instance itself has")
    if status == 401:
        raise TidegateError(f"{host} does not know this user (401); correct {_WHO} in the environment")
    if status == 403:
        raise TidegateError(f"{host} does not let this user do it (403{said}); give the user the right to read and write change requests")
    if status == 429:
        raise TidegateError(f"{host} limits how often it is asked (429); wait and run this again, or have the limit raised for this user")
    if status >= 400:
        raise TidegateError(f"{host} answers {status}{said}; look at the instance's log")
    try:
        document = read_object(response.content, "the answer")
    except IntegrityError:
        document = None
    rows = document.get("result") if isinstance(document, dict) else None
    listed = rows if isinstance(rows, list) else [rows]
    if not all(isinstance(row, dict) and all(_plain(value) for value in row.values()) for row in listed):
        raise TidegateError(
            f"{host} answers with something that is not the Table API's, such as a page for people; check that the instance is "
            "awake and that the address is its own"
        )
    if isinstance(rows, list) and not response.headers.get("X-Total-Count", "").isdigit():
        raise TidegateError(
            f"{host} does not say how many records there are (X-Total-Count); check what stands between it and this machine"
        )


def _plain(value: object) -> bool:
    """A field is a text, or a raw and a shown text with or without a link."""
    if isinstance(value, dict):
        return all(isinstance(text, str) or text is None for text in value.values())
    return isinstance(value, str)


def _said(response: Any) -> str:
    """What the instance says of its refusal, as far as it is a plain sentence."""
    with contextlib.suppress(IntegrityError, KeyError, TypeError):
        ours = Redactor({"password": [os.environ.get(name) for name in ("SN_PASSWORD", "SN_ACCESS_TOKEN")]})  # it may repeat a request
        return f": {ours.text(str(read_object(response.content, 'it')['error']['message']))!a:.200}"
    return ""
