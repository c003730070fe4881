# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's own controller, the BMC, over Redfish: what it says of the device, and how it is given an image.

DMTF's library begins and ends sessions. How long we wait, how much we take, whom we trust and where we go is decided here, for its requests
and ours.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import ssl
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ...module_utils.endpoint import EndpointError, read_url
from ...module_utils.redaction import Redactor
from ..errors import IntegrityError, TidegateError
from ..libs import require
from ..limits import run_within
from ..strict_json import read_object
from .device import GONE, Condition, DeviceError, DeviceIdentity, Goal, SilentError, Task, is_of, text, versions_of
from .parts import part_in, parts_of

with contextlib.suppress(ImportError):
    import requests
    import urllib3
    from redfish.rest.v1 import HttpClient, InvalidCredentialsError, ServerDownOrUnreachableError
    from requests_toolbelt import MultipartEncoder

_PATIENCE = (5.0, 15.0)  # seconds to connect, and without a byte
_LIMIT = 60.0  # seconds for one request with its answer
_ALIVE = 30.0  # seconds of a request after which it is said that somebody is still at work
_LARGEST = 4 << 20  # bytes of an answer
_MOST = 500  # members of a list
_MOST_TASKS = 5000  # members of the list of tasks, of which some devices forget none
_MANY = 64  # systems of which it is looked up what they are
_TASKS = 256  # tasks of which it is looked up what they are; of more those at both ends, for no list says at which the newest are
_BUSY = (429, 500, 502, 503, 504)
_FINGERPRINT = re.compile(r"(?:[0-9a-fA-F]{2}:?){32}")
_UP = ("", "None", "OSBootStarted", "OSRunning")  # how far a host got that is up; not every device says that
# How a host or the device itself is begun anew, the gentlest way first.
_RESETS = {
    "host_reset": ("GracefulRestart", "ForceRestart", "PowerCycle"),
    "bmc_reset": ("GracefulRestart", "ForceRestart"),
    "power_cycle": ("PowerCycle", "FullPowerCycle"),
}


class BmcError(DeviceError):
    """A device answered, but not as it should; ``status`` is that of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Access:
    """Where a BMC is, who we are to it, and by what it is known.

    ``url``: ``https://host[:port]``. ``fingerprint``: the SHA-256 of its certificate, for one that no authority has signed. Raises
    :class:`DeviceError` when it can't be used.
    """

    url: str
    user: str = field(repr=False)
    password: str = field(repr=False)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        try:
            read_url(self.url)
        except EndpointError as error:
            raise DeviceError(f"the address of the BMC can't be used: {error}; write it like https://bmc1.example.org") from None
        parts = urlsplit(self.url)
        if parts.scheme != "https" or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise DeviceError("the address of the BMC is no https://host[:port]; write it like https://bmc1.example.org")
        if self.fingerprint and not _FINGERPRINT.fullmatch(self.fingerprint):
            raise DeviceError("the fingerprint of the BMC's certificate is no SHA-256; write its 64 hexadecimal digits")
        if not self.user or not self.password:
            raise DeviceError(
                f"who we are to the BMC {self.host} is not said; set tidegate_redfish_user, and tidegate_redfish_password in the vault"
            )

    @property
    def host(self) -> str:
        """How it is called in messages."""
        return urlsplit(self.url).netloc


class Bmc:
    """One BMC, to be used in a ``with`` statement, whose end closes the session there.

    Every call raises :class:`SilentError` when it is not there or busy, and :class:`DeviceError` when it says something that it should not.
    """

    way = "Redfish"
    effects = frozenset({"immediate", *_RESETS})

    def __init__(self, access: Access) -> None:
        require("firmware")
        logging.getLogger("redfish").setLevel(logging.CRITICAL)  # it would write to Ansible's log what the device says of our session
        self._access = access
        self._client: Any = None
        self._adapter: Any = None
        self._redactor = Redactor({"password": access.password})
        self._seen: dict[str, bool] = {}  # entries of the inventory that were looked at, and whether they were of the component asked for
        self._component = ""
        self._places: dict[str, str] = {}  # addresses that stay while this is open
        self._root: Mapping[str, Any] | None = None  # which stays, too
        self._parts: list[Mapping[str, Any]] | None = None
        self._service: Mapping[str, Any] | None = None  # the page of the update service, as long as nothing begins anew

    def __enter__(self) -> Bmc:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # a session ends by itself too, with the device or its time
                run_within(_PATIENCE[0], client.logout)

    # -- what the device says ----------------------------------------------

    def identity(self, serial: str = "") -> DeviceIdentity:
        """Which device it is; of several that a BMC has, the one with this serial number."""
        page = self._system(serial)
        return DeviceIdentity(text(page.get("SerialNumber")), text(page.get("Model")), text(page.get("AssetTag")))

    def part(self, slot: str) -> DeviceIdentity | None:
        """What is in a slot; see :class:`Device`. Its parts are looked at once as long as this is open."""
        if self._parts is None:
            systems, chassis = (self._members(self._at_root(name))[:_MANY] for name in ("Systems", "Chassis"))
            self._parts = list(parts_of(self._get, self._members, systems, chassis))
        return part_in(slot, self._parts)

    def condition(self, serial: str = "") -> Condition:
        """How the device and its host are."""
        page = self._system(serial)
        power, progress = text(page.get("PowerState")), text(_object(page.get("BootProgress")).get("LastState"))
        health = text(_object(page.get("Status")).get("Health"))
        up = power in ("", "On") and progress in _UP
        problem = "" if up else f"its host is {power or 'on'}, and got to {progress or 'nothing that it says'}"
        if up and health not in ("", "OK"):
            problem = f"it says that its health is {health}"
        return Condition(up, problem)

    def versions(self, component: str) -> tuple[str, ...]:
        """What a component runs: one version, several where the device's own entries disagree, none when it does not say."""
        if component != self._component:
            self._component, self._seen = component, {}
        place = self._place("inventory", lambda: _link(self._update_service(), "FirmwareInventory"))
        addresses = self._members(place)
        found = self._versions_at(component, addresses)
        if not found and any(address in self._seen and not self._seen[address] for address in addresses):
            self._seen.clear()  # entries may have other addresses since something was installed
            found = self._versions_at(component, addresses)
        return found

    def _versions_at(self, component: str, addresses: list[str]) -> tuple[str, ...]:
        entries = []
        for address in addresses:
            if self._seen.get(address, True):
                entry = self._get(address)
                self._seen[address] = is_of(component, entry)
                entries.append(entry)
        return versions_of(component, entries)

    def tasks(self) -> tuple[Task, ...]:
        """What it is at, and was."""
        service = self._place("task service", lambda: self._at_root("Tasks"))
        found = self._place("tasks", lambda: _link(self._get(service), "Tasks")) if service else ""
        addresses = self._members(found, _MOST_TASKS) if found else []
        if len(addresses) > _TASKS:
            addresses = addresses[: _TASKS // 2] + addresses[-_TASKS // 2 :]
        return tuple(self.task(address) for address in addresses)

    def task(self, address: str) -> Task:
        """One task, at the address that the device gave."""
        try:
            status, page = self._ask("GET", address)
        except BmcError as error:
            if error.status in (404, 410):
                return Task(address, GONE)
            raise
        state = text(page.get("TaskState"))
        said = page.get("Messages")
        messages = [_object(one).get("Message") for one in said] if isinstance(said, list) else []
        words = [self._shown(message) for message in messages if isinstance(message, str)]
        # What stands in for a task that is over need not be one.
        state = state or ("Running" if status == 202 else "Completed")
        return Task(address, state, "; ".join(filter(None, words))[:500], text(page.get("TaskStatus")) == "Critical")

    # -- what it is told ---------------------------------------------------

    def push(self, image: Path, goal: Goal, _back: bool, alive: Callable[[], None] | None = None, /) -> str:
        """See :class:`Device`. Which image is older than another one no BMC is asked."""
        service = self._update_service()
        when = "OnReset" if goal.takes_effect in ("host_reset", "power_cycle") else "Immediate"
        parameters = {"@Redfish.OperationApplyTime": when} if when in _apply_times(service) else {}
        multipart, plain = _address(service.get("MultipartHttpPushUri")), _address(service.get("HttpPushUri"))
        if not multipart and not plain:
            raise DeviceError(f"{self._access.host} takes no images that are sent to it; install it as its vendor says")
        with image.open("rb") as stream:
            body: Any = stream
            kind = "application/octet-stream"
            if multipart:
                encoder: Any = MultipartEncoder
                body = encoder(
                    [
                        ("UpdateParameters", ("parameters.json", json.dumps(parameters), "application/json")),
                        ("UpdateFile", (image.name, stream, kind)),
                    ]
                )
                kind = body.content_type
            _status, page = self._ask("POST", multipart or plain, body=body, kind=kind, seconds=goal.minutes.transfer * 60, alive=alive)
        own = _address(page.get("@odata.id")) if "Task" in text(page.get("@odata.type")) else ""
        return own or _address(page.get("Location:"))

    def restart(self, how: str, serial: str = "") -> None:
        """Begin anew, as ``takes_effect`` of an image says: the host, the device itself, or both without power."""
        self._seen.clear()  # an entry of the inventory that is numbered may have another number afterwards
        self._service = None
        page = self._system(serial)
        if how == "bmc_reset":
            managers = _object(page.get("Links")).get("ManagedBy")
            own = _address(_object(managers[0] if isinstance(managers, list) and managers else {}).get("@odata.id"))
            page = self._get(own or next(iter(self._members(self._at_root("Managers"))), ""))
        action = next((_object(value) for key, value in _object(page.get("Actions")).items() if key.endswith(".Reset")), {})
        offered = action.get("ResetType@Redfish.AllowableValues")
        if not isinstance(offered, list):
            about = self._get(_address(action.get("@Redfish.ActionInfo"))).get("Parameters") if "@Redfish.ActionInfo" in action else []
            named = [one for one in about if _object(one).get("Name") == "ResetType"] if isinstance(about, list) else []
            offered = _object(named[0]).get("AllowableValues") if named else list(_RESETS[how])
        wanted = ("On",) if how != "bmc_reset" and text(page.get("PowerState")) == "Off" else _RESETS[how]
        kind = next((one for one in wanted if isinstance(offered, list) and one in offered), "")
        target = _address(action.get("target"))
        if not kind or not target:
            raise DeviceError(f"{self._access.host} can't do a {how.replace('_', ' ')}; it offers {listed(offered)}")
        self._ask("POST", target, body={"ResetType": kind})

    # -- pages -------------------------------------------------------------

    def _at_root(self, name: str) -> str:
        """The address of what the root of the service names."""
        if self._client is None and self._root is None:
            self._within(_LIMIT, self._begin)
        found = _link(self._root or {}, name)
        if not found:  # some say less to who has no session
            self._root = self._get("/redfish/v1/")
            found = _link(self._root, name)
        return found

    def _update_service(self) -> Mapping[str, Any]:
        if self._service is None:
            address = self._at_root("UpdateService")
            if not address:
                raise DeviceError(f"{self._access.host} has no update service; install it as its vendor says")
            self._service = self._get(address)
        return self._service

    def _system(self, serial: str) -> Mapping[str, Any]:
        if serial in self._places:
            return self._get(self._places[serial])
        pages = {address: self._get(address) for address in self._members(self._at_root("Systems"))[:_MANY]}
        mine = [one for one, page in pages.items() if len(pages) == 1 or text(page.get("SerialNumber")) == serial]
        if len(mine) != 1:
            raise DeviceError(f"{self._access.host} has {len(pages)} systems, {len(mine)} of them with the serial number {serial or '-'}")
        self._places[serial] = mine[0]
        return pages[mine[0]]

    def _place(self, name: str, find: Callable[[], str]) -> str:
        """The address of what a device has once, looked up the first time."""
        place = self._places.get(f"/{name}") or find()
        self._places[f"/{name}"] = place
        return place

    def _members(self, address: str, most: int = _MOST) -> list[str]:
        found: list[str] = []
        pages: set[str] = set()
        while address and address not in pages and len(found) < most:
            pages.add(address)
            page = self._get(address)
            members = page.get("Members")
            found += [_address(_object(one).get("@odata.id")) for one in members] if isinstance(members, list) else []
            address = _address(page.get("Members@odata.nextLink"))
        return list(dict.fromkeys(filter(None, found)))[:most]

    def _get(self, address: str) -> Mapping[str, Any]:
        return self._ask("GET", address)[1]

    # -- requests ----------------------------------------------------------

    def _ask(
        self,
        method: str,
        address: str,
        *,
        body: Any = None,
        kind: str = "",
        seconds: float = _LIMIT,
        alive: Callable[[], None] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and content of the answer, with the header ``Location`` as the key ``Location:``.

        A session that is over, as after the device began anew, is begun again once for what only reads.
        """
        if not address:
            raise DeviceError(f"{self._access.host} does not say where something is that each such service has; look at what answers there")
        for again in (method != "GET", True):
            status, content, location = self._within(seconds, lambda: self._send(method, address, body, kind, seconds), alive)
            if status == 401 and not again:
                self._client = None
                continue
            break
        if status in _BUSY:
            raise SilentError(f"{self._access.host} answers {status}{self._said(content)}")
        if status in (401, 403):
            raise BmcError(f"{self._access.host} does not let this user do it ({status}); look at tidegate_redfish_user", status)
        if not 200 <= status < 300:
            raise BmcError(f"{self._access.host} answers {status} to {method} {address}{self._said(content)}", status)
        try:
            page = read_object(content, "the answer") if content.strip() else {}
        except IntegrityError as error:
            raise BmcError(f"{self._access.host} answers {address} with what is no page of Redfish ({error})", status) from None
        return status, {**page, **({"Location:": location} if location else {})}

    def _send(self, method: str, address: str, body: Any, kind: str, seconds: float) -> tuple[int, bytes, str]:
        """``kind``: the type of a ``body`` that is sent as it is, as an image; another one is JSON."""
        if self._client is None:
            self._begin()
        # The library would hold all of an image in memory, twice, and looks at the whole environment for each request.
        headers = {"X-Auth-Token": self._client.get_session_key() or "", "OData-Version": "4.0", "Accept": "application/json"}
        if kind:
            url = f"{self._access.url.rstrip('/')}{address}"
            request = requests.Request(method, url, {**headers, "Content-Type": kind}, data=body)
            with contextlib.closing(_adapter(self._access, seconds)) as adapter:
                response = adapter.send(request.prepare())
            return response.status_code, response.content, _path_of(response.headers.get("Location", ""))
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, content, location = self._adapter.ask(method, address, headers, None if body is None else json.dumps(body).encode())
        return status, content, _path_of(location)

    def _begin(self) -> None:
        """Begin a session; the library looks at the root of the service for that, which nobody has to ask again."""
        self._service = None
        client = self._log_in()
        with contextlib.suppress(IntegrityError):  # of what is not as it should be a sentence is made when it is asked for
            self._root = read_object(client.root_resp.text.encode(), "the root") if client.root_resp.status == 200 else None
        self._client = client

    def _log_in(self) -> Any:
        access, self._adapter = self._access, _adapter(self._access)
        client = HttpClient(
            base_url=access.url,
            username=access.user,
            password=access.password,
            max_retry=0,
            check_connectivity=False,
            https_adapter=self._adapter,
        )
        client._session.trust_env = False  # or each request reads the whole environment for proxies, none of which it would use
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a service does wrong in its answer to a login
            client.login(auth="session")
        return client

    def _within(self, seconds: float, ask: Callable[[], Any], alive: Callable[[], None] | None = None) -> Any:
        """Do it in bounded time; what goes wrong is said in one sentence, without the password."""
        host = self._access.host
        try:
            return run_within(seconds, ask, alive, _ALIVE)
        except TidegateError:  # ours, or of whoever is told that we are alive
            raise
        except TimeoutError:
            self._client = None  # what was left behind may still use it
            raise SilentError(f"{host} did not answer within {seconds:g} s") from None
        except InvalidCredentialsError:
            raise BmcError(f"{host} does not know this user; look at tidegate_redfish_user and tidegate_redfish_password", 401) from None
        except ServerDownOrUnreachableError as error:
            raise SilentError(f"{host} is busy ({self._shown(str(error))})") from None
        except Exception as error:
            causes = list(_causes(error))
            own = next((cause for cause in causes if isinstance(cause, DeviceError)), None)
            if own is not None:
                raise own from None
            # Another error of TLS, such as a handshake that was broken off, says nothing of who is there.
            if any(isinstance(cause, ssl.SSLCertVerificationError) or "Fingerprints did not match" in str(cause) for cause in causes):
                raise DeviceError(
                    f"{host} has a certificate that is not trusted here; name the file of its authority in the environment variable "
                    "REQUESTS_CA_BUNDLE, or the certificate's SHA-256 in the CI's attribute redfish_fingerprint"
                ) from None
            broken = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)
            if any(isinstance(cause, broken) for cause in causes):
                raise SilentError(f"{host} can't be reached ({type(causes[-1]).__name__})") from None
            raise BmcError(f"what {host} answers can't be understood ({type(error).__name__}); look at what answers there", 0) from None

    def _said(self, content: bytes) -> str:
        """What it says of its refusal, as far as it is a plain sentence."""
        with contextlib.suppress(IntegrityError):
            error = _object(read_object(content, "it").get("error"))
            more = error.get("@Message.ExtendedInfo")
            said = text(_object(more[0]).get("Message")) if isinstance(more, list) and more else ""
            said = said or text(error.get("message"))
            return f": {self._shown(said)}" if said else ""
        return ""

    def _shown(self, said: str) -> str:
        return self._redactor.text(text(said.replace("\n", " ")))


def listed(offered: object) -> str:
    """What a device offers, for a sentence."""
    return ", ".join(filter(None, map(text, offered))) if isinstance(offered, list) and offered else "nothing"


def _adapter(access: Access, patience: float = _PATIENCE[1]) -> Any:
    """What carries each request: to this BMC alone, its certificate looked at, for an answer of bounded size that points nowhere else.

    ``patience``: seconds without a byte, as while it looks at an image that it has got. What the library sends goes through ``send``;
    our own goes through ``ask``, at a third of the work.
    """
    wanted, pool = urlsplit(access.url), _pool(access)
    limits = (_PATIENCE[0], patience)

    base: Any = requests.adapters.HTTPAdapter  # which sends as this wants it, whatever the library asks for

    class Adapter(base):  # type: ignore[misc]  # as said
        def get_connection_with_tls_context(self, *_given: Any, **_settings: Any) -> Any:
            return pool

        def cert_verify(self, *_given: Any, **_settings: Any) -> None:
            """Nothing that anybody asks for changes by what the pool knows the BMC."""

        def close(self) -> None:
            super().close()
            pool.close()

        def send(self, request: Any, *_given: Any, **_settings: Any) -> Any:
            if urlsplit(request.url)[:2] != (wanted.scheme, wanted.netloc):
                raise DeviceError(f"{access.host} names an address that is not its own; look at what answers there")
            request.headers.pop("Authorization", None)  # the library knows our session; from a .netrc comes what is not for this
            response = super().send(request, stream=True, timeout=limits)
            with response:
                response._content = _take(response.raw, access.host)
                response._content_consumed = True
            _refuse_elsewhere(access.host, response.status_code)
            return response

        def ask(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes, str]:
            """Status, content and ``Location`` of the answer from a path of this BMC."""
            answer = pool.request(
                method,
                address,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=limits[0], read=limits[1]),
                preload_content=False,
            )
            try:
                content = _take(answer, access.host)
            except BaseException:  # the rest of the answer must not be taken for another one
                answer.close()
                raise
            answer.release_conn()
            _refuse_elsewhere(access.host, answer.status)
            return answer.status, content, str(answer.headers.get("Location", ""))

    return Adapter()


def _pool(access: Access) -> Any:
    """Connections to one BMC, each known by its fingerprint, better than by any authority, or else by whoever has signed it."""
    parts, fingerprint = urlsplit(access.url), access.fingerprint.replace(":", "").lower()
    trusted = "" if fingerprint else os.environ.get("REQUESTS_CA_BUNDLE") or requests.utils.DEFAULT_CA_BUNDLE_PATH
    known_by: dict[str, Any] = {"assert_fingerprint": fingerprint, "assert_hostname": False} if fingerprint else {}
    mode = "CERT_NONE" if fingerprint else "CERT_REQUIRED"
    return urllib3.HTTPSConnectionPool(parts.hostname or "", parts.port, cert_reqs=mode, ssl_context=_context(trusted), **known_by)


@functools.cache
def _context(trusted: str) -> ssl.SSLContext:
    """Settings of TLS, with the authorities of a file or folder, once in a process; without one for who is known by a fingerprint."""
    context: ssl.SSLContext = urllib3.util.ssl_.create_urllib3_context()
    if trusted:
        folder = Path(trusted).is_dir()
        try:
            context.load_verify_locations(cafile=None if folder else trusted, capath=trusted if folder else None)
        except OSError as error:
            raise DeviceError(
                f"the authorities in {trusted} can't be read ({error.strerror or error}); name their file in the environment variable "
                "REQUESTS_CA_BUNDLE"
            ) from None
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _refuse_elsewhere(host: str, status: int) -> None:
    """Raise :class:`DeviceError` for an answer that points to another address."""
    if 300 <= status < 400:
        raise DeviceError(f"{host} answers {status} and points elsewhere; write the address that it has itself")


def _take(answer: Any, host: str) -> bytes:
    """Read an answer, as far as it is of a size that one can be."""
    content, end = bytearray(), time.monotonic() + _LIMIT
    for block in answer.stream(1 << 16, decode_content=True):
        content += block
        if len(content) > _LARGEST:
            raise DeviceError(f"{host} sends more than {_LARGEST >> 20} MiB for one page; look at what answers there")
        if time.monotonic() > end:
            raise SilentError(f"{host} did not answer within {_LIMIT:g} s")
    return bytes(content)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it comes of."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, *(part for part in one.args if isinstance(part, BaseException))]
            reason = getattr(one, "reason", None)
            waiting.append(reason if isinstance(reason, BaseException) else None)


def _apply_times(service: Mapping[str, Any]) -> set[str]:
    """When an update service lets an image take effect, wherever it says so."""
    places = [service, *_object(service.get("Actions")).values(), _object(service.get("HttpPushUriOptions")).get("HttpPushUriApplyTime")]
    found: set[str] = set()
    for place in places:
        for key in ("@Redfish.OperationApplyTimeSupport", "ApplyTime@Redfish.AllowableValues"):
            said = _object(place).get(key)
            values = said if isinstance(said, list) else _object(said).get("SupportedValues")
            found |= {text(value) for value in values} if isinstance(values, list) else set()
    return found


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _link(page: Mapping[str, Any], key: str) -> str:
    return _address(_object(page.get(key)).get("@odata.id"))


def _address(value: object) -> str:
    """The path of a resource of the same BMC; empty for what is none."""
    path = text(value)
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else ""


def _path_of(location: str) -> str:
    """The path in a header ``Location``, which may have the host before it; whichever that is, it is asked of the BMC that we know."""
    try:
        return _address(urlsplit(location)._replace(scheme="", netloc="").geturl())
    except ValueError:
        return ""
