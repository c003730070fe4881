# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for BMCs with an update service, from DMTF's schemas UpdateService, SoftwareInventory and Task. It refuses what it does not
know. What real ones do wrong it does when ``Bmc.faults`` says so, each with the public issue where that was seen:

``stuck``          the task stays Running for good                                    dell/iDRAC-Redfish-Scripting#231, fwupd#7593
``critical``       TaskState Completed, TaskStatus Critical, nothing installed        ironcore-dev/metal-operator#453
``lies``           Completed and OK, and the version is the old one                   dell/dellemc-openmanage-ansible-modules#59
``forgets``        its tasks are gone after its reset                                 fwupd#6879
``mute``           it does not come back from its reset
``no_boot``        the host does not come back from its reset
``busy``           503 to the first two images
``doubles``        the inventory has Current-, Installed- and Previous- entries       dell/iDRAC-Redfish-Scripting#264
``ignores_time``   it restarts the host at once although OnReset was asked for        dell/iDRAC-Redfish-Scripting#136
``other_version``  what it runs in the end is another version than that of the image
``location_only``, ``body_only``, ``says_200``, ``says_204``  how it answers to an image: without a body, without Location, without either
``plain_push``     it takes images at HttpPushUri alone
``redirects``      it points to another address
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.redfish import Access

ROOT = "/redfish/v1"
USER, PASSWORD = "root", "calvin-42-of-the-fleet"
_FAST = 40
_SESSIONS = "SessionService/Sessions"
_RESETS = {
    "Systems": ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "PowerCycle"],
    "Managers": ["GracefulRestart", "ForceRestart"],
}


class Refused(Exception):
    """An error of Redfish."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Component:
    """``applies``: when a new version runs: ``immediate``, with a reset of the ``host``, or with one of the ``bmc``."""

    version: str
    applies: str = "host"
    pending: str = ""


def _components() -> dict[str, Component]:
    return {"BIOS": Component("2.4.0"), "BMC": Component("6.10.0", "bmc"), "NIC.1": Component("22.0.6", "immediate")}


@dataclass
class Bmc:
    """One device. ``seconds``: what a transfer, a boot or a reset takes; ``flashed``: what was installed, in order."""

    model: str = "R750"
    serial: str = "SN0001"
    tag: str = "A-0001"
    power: str = "On"
    health: str = "OK"
    components: dict[str, Component] = field(default_factory=_components)
    faults: set[str] = field(default_factory=set)
    seconds: float = 0.1
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    resets: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    flashed: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    """The serial numbers of its power supplies, by slot; an empty one for an empty slot."""
    down: list[list[float]] = field(default_factory=list)
    """From when to when it was at an image, by the monotonic clock: from when it got that until its host is up with it."""
    url: str = ""
    answer_with: Callable[[str], bytes | None] = lambda _path: None
    """What it answers to a path in place of the page, for tests of nonsense."""
    _silent_until: float = 0.0
    _boots_until: float = 0.0
    _refused: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def access(self, fingerprint: str = "") -> Access:
        """How it is reached by who may."""
        return Access(self.url, USER, PASSWORD, fingerprint)

    def start(self, data: bytes, when: str) -> dict[str, Any]:
        """Take an image, and begin a task with it."""
        if any(task["TaskState"] in ("New", "Running", "Pending") for task in self.tasks.values()):
            raise Refused(503, "Base.1.8.ResourceInUse", "an update is under way")
        if "busy" in self.faults and self._refused < 2:
            self._refused += 1
            raise Refused(503, "Base.1.8.ServiceTemporarilyUnavailable", "busy")
        self.down.append([time.monotonic(), math.inf])
        return self.begin_task(lambda task: self._work(task, data, when))

    def begin_task(self, work: Callable[[dict[str, Any]], None] = lambda _task: None, state: str = "Running") -> dict[str, Any]:
        """A task, of whoever: it is in ``state``, and ``work`` has it go on."""
        number = str(len(self.tasks) + 1)
        task = self.tasks[number] = {
            "@odata.id": f"{ROOT}/TaskService/Tasks/{number}",
            "@odata.type": "#Task.v1_4_3.Task",
            "Id": number,
            "Name": "Update",
            "TaskState": state,
            "TaskStatus": "OK",
            "PercentComplete": 10,
            "Messages": [],
        }
        threading.Thread(target=work, args=(task,), daemon=True).start()
        return task

    def _end(self, task: dict[str, Any], state: str, status: str, message: str) -> None:
        task.update(TaskState=state, TaskStatus=status, PercentComplete=100, Messages=[{"Message": message, "Severity": status}])

    def _work(self, task: dict[str, Any], data: bytes, when: str) -> None:
        time.sleep(self.seconds)
        if "stuck" in self.faults:
            return None
        with self._lock:
            try:
                name = self._take(data)
            except Refused as error:
                return self._end(task, "Exception", "Critical", str(error))
            if "critical" in self.faults:
                return self._end(task, "Completed", "Critical", "The job made no progress for the allocated time.")
            if "lies" in self.faults:
                return self._end(task, "Completed", "OK", "done")
            part = self.components[name]
            part.pending = json.loads(data.rpartition(b"\n")[0])["version"]
            if "other_version" in self.faults:
                part.pending += "-beta"
            self.flashed.append(part.pending)
            task["waits"] = name
            if part.applies == "immediate":
                self._apply(name)
            elif when == "Immediate" or "ignores_time" in self.faults:
                self.reset(part.applies)
            else:
                task["TaskState"] = "Pending"
        return None

    def _take(self, data: bytes) -> str:
        """The component that an image is for. One is JSON with the sha256 of that at its end, as a vendor's signature is in a real one."""
        body, _newline, seal = data.rpartition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != seal:
            raise Refused(400, "Update.1.0.VerificationFailed", "the image's signature does not match")
        said = json.loads(body)
        if self.model not in said["models"] or said["component"] not in self.components:
            raise Refused(400, "Update.1.0.ImageNotApplicable", f"the image is for {said['component']} of {', '.join(said['models'])}")
        return str(said["component"])

    def _apply(self, name: str) -> None:
        part = self.components[name]
        if part.pending:
            part.version, part.pending = part.pending, ""
            for task in self.tasks.values():
                if task.get("waits") == name and task["TaskState"] in ("Pending", "Running"):
                    self._end(task, "Completed", "OK", "done")

    def reset(self, what: str) -> None:
        """The ``host`` or the ``bmc`` begins anew, as by a request or because the power was gone."""
        with self._lock:
            self.resets.append(what)
            later = time.monotonic() + self.seconds
            if self.down and any(part.pending and part.applies == what for part in self.components.values()):
                self.down[-1][1] = later
            if what == "bmc":
                self._silent_until = math.inf if "mute" in self.faults else later
                self.sessions.clear()
                if "forgets" in self.faults:
                    self.tasks.clear()
            else:
                self._boots_until = math.inf if "no_boot" in self.faults else later
            for name, part in self.components.items():
                if part.applies == what:
                    self._apply(name)

    @property
    def push_key(self) -> str:
        """What its page calls the place where it takes images."""
        return "HttpPushUri" if "plain_push" in self.faults else "MultipartHttpPushUri"

    @property
    def silent(self) -> bool:
        """Whether it answers nobody."""
        return time.monotonic() < self._silent_until

    def page(self, path: str) -> dict[str, Any]:
        """What is at a path below the root."""
        pages = self._pages()
        if path not in pages:
            raise Refused(404, "Base.1.8.ResourceMissingAtURI", f"nothing at {ROOT}/{path}")
        return pages[path]

    def _pages(self) -> dict[str, dict[str, Any]]:
        inventory = self._inventory()
        booting = time.monotonic() < self._boots_until
        status = {"State": "Enabled", "Health": self.health}
        reset = {
            kind: {"target": f"{ROOT}/{kind}/1/Actions/{name}.Reset", "ResetType@Redfish.AllowableValues": _RESETS[kind]}
            for kind, name in (("Systems", "ComputerSystem"), ("Managers", "Manager"))
        }
        times = {"SupportedValues": ["Immediate", "OnReset"]}
        return {
            "": _page("", Systems=_link("Systems"), Managers=_link("Managers"), UpdateService=_link("UpdateService"))
            | {"Chassis": _link("Chassis")}
            | {"Tasks": _link("TaskService"), "Links": {"Sessions": _link(_SESSIONS)}},
            "Systems": _list("Systems", ["1"]),
            "Chassis": _list("Chassis", ["1"]),
            "Chassis/1": _page("Chassis/1", PowerSubsystem=_link("Chassis/1/PowerSubsystem")),
            "Chassis/1/PowerSubsystem": _page("Chassis/1/PowerSubsystem", PowerSupplies=_link("Chassis/1/PowerSubsystem/PowerSupplies")),
            **self._supplies("Chassis/1/PowerSubsystem/PowerSupplies"),
            "Managers": _list("Managers", ["1"]),
            "Systems/1": _page("Systems/1", Manufacturer="Contoso", Model=self.model, SerialNumber=self.serial, AssetTag=self.tag)
            | {"PowerState": self.power, "Status": status, "Links": {"ManagedBy": [_link("Managers/1")]}}
            | {"BootProgress": {"LastState": "SystemHardwareInitializationComplete" if booting else "OSRunning"}}
            | {"Actions": {"#ComputerSystem.Reset": reset["Systems"]}},
            "Managers/1": _page("Managers/1", Status=status, Actions={"#Manager.Reset": reset["Managers"]}),
            "UpdateService": _page("UpdateService", **{self.push_key: f"{ROOT}/UpdateService/upload"})
            | {"FirmwareInventory": _link("UpdateService/FirmwareInventory"), "@Redfish.OperationApplyTimeSupport": times},
            "UpdateService/FirmwareInventory": _list("UpdateService/FirmwareInventory", list(inventory)),
            "TaskService": _page("TaskService", Tasks=_link("TaskService/Tasks")),
            "TaskService/Tasks": _list("TaskService/Tasks", list(self.tasks)),
            **{f"UpdateService/FirmwareInventory/{name}": page for name, page in inventory.items()},
            **{f"TaskService/Tasks/{name}": {k: v for k, v in task.items() if k != "waits"} for name, task in self.tasks.items()},
        }

    def _supplies(self, place: str) -> dict[str, dict[str, Any]]:
        numbered = {f"{place}/{number}": part for number, part in enumerate(self.parts.items())}
        pages = {
            path: _page(path, Location={"PartLocation": {"ServiceLabel": slot}}, Status={"State": "Enabled" if serial else "Absent"})
            | ({"SerialNumber": serial, "Model": "of its maker"} if serial else {})
            for path, (slot, serial) in numbered.items()
        }
        return {place: _list(place, [path.rpartition("/")[2] for path in pages]), **pages}

    def _inventory(self) -> dict[str, dict[str, Any]]:
        found = {}
        for name, part in self.components.items():
            entries = {name: part.version}
            if "doubles" in self.faults:
                entries = {f"{kind}-{name}-{part.version}": part.version for kind in ("Current", "Installed")}
                entries[f"Previous-{name}-1.0"] = "1.0"
            for ident, version in entries.items():
                found[ident] = _page(f"UpdateService/FirmwareInventory/{ident}", Version=version, SoftwareId=name, Updateable=True)
        return found


class FastClock:
    """A clock that goes on only while somebody waits, and faster, so that a busy machine uses up nobody's time; it remembers the waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return sum(self.waits)

    def sleep(self, seconds: float, /) -> None:
        self.waits.append(seconds)
        time.sleep(seconds / _FAST)


def _link(tail: str) -> dict[str, str]:
    return {"@odata.id": f"{ROOT}/{tail}"}


def _page(tail: str, **more: Any) -> dict[str, Any]:
    ident = tail.rpartition("/")[2] or "RootService"
    return {"@odata.id": f"{ROOT}/{tail}", "@odata.type": "#Page.v1_0_0.Page", "Id": ident, "Name": ident, **more}


def _list(tail: str, names: list[str]) -> dict[str, Any]:
    return _page(tail, **{"Members@odata.count": len(names), "Members": [_link(f"{tail}/{name}") for name in names]})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bmc: Bmc

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, page: dict[str, Any] | bytes | None = None, **headers: str) -> None:
        body = page if isinstance(page, bytes) else b"" if page is None else json.dumps(page).encode()
        self.send_response(status)
        headers = {"OData-Version": "4.0", "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.bmc.requests.append((self.command, self.path))
        if self.bmc.silent:
            self.close_connection = True
            self.connection.close()
            return
        try:
            path = urlsplit(self.path).path.removeprefix(ROOT).strip("/")
            nonsense = self.bmc.answer_with(path) if self.command == "GET" else None
            if nonsense is not None:
                self._answer(200, nonsense)
            elif "redirects" in self.bmc.faults:
                self._answer(302, Location=f"https://127.0.0.9{self.path}")
            else:
                with self.bmc._lock:
                    self._route(path, body)
        except Refused as error:
            said = {"Message": str(error), "MessageId": error.code, "Severity": "Critical"}
            page = {"error": {"code": error.code, "message": str(error), "@Message.ExtendedInfo": [said]}}
            self._answer(error.status, page, **({"Retry_After": "1"} if error.status == 503 else {}))

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_any

    def _route(self, path: str, body: bytes) -> None:
        bmc, log_in = self.bmc, path == _SESSIONS and self.command == "POST"
        if path and not log_in and self.headers.get("X-Auth-Token") not in bmc.sessions.values():
            raise Refused(401, "Base.1.8.NoValidSession", "no valid session")
        if self.command == "GET":
            return self._answer(200, bmc.page(path))
        if self.command == "DELETE" and path.startswith(f"{_SESSIONS}/"):
            bmc.sessions.pop(path.rpartition("/")[2], None)
            return self._answer(204)
        if self.command != "POST":
            raise Refused(405, "Base.1.8.OperationNotAllowed", f"no {self.command} here")
        if path == "UpdateService/upload":
            return self._take_image(body)
        data = json.loads(body)
        if log_in:
            if data != {"UserName": USER, "Password": PASSWORD}:
                raise Refused(401, "Base.1.8.NoValidSession", f"no such user with {data.get('Password')}")
            ident = str(len(bmc.sessions) + 1)
            bmc.sessions[ident] = secrets.token_hex(16)
            where = f"{ROOT}/{_SESSIONS}/{ident}"
            return self._answer(201, {"@odata.id": where, "Id": ident}, X_Auth_Token=bmc.sessions[ident], Location=where)
        found = re.fullmatch(r"(Systems|Managers)/1/Actions/(?:ComputerSystem|Manager)\.Reset", path)
        if not found:
            raise Refused(404, "Base.1.8.ResourceMissingAtURI", path)
        if set(data) != {"ResetType"} or data["ResetType"] not in _RESETS[found[1]]:
            raise Refused(400, "Base.1.8.ActionParameterValueNotInList", "ResetType")
        self._answer(204)
        bmc.power = "On"
        return bmc.reset("bmc" if found[1] == "Managers" else "host")

    def _take_image(self, body: bytes) -> None:
        if "plain_push" in self.bmc.faults:
            task = self.bmc.start(body, "Immediate")
            return self._answer(202, dict(task), Location=task["@odata.id"])
        head = b"Content-Type: " + self.headers.get("Content-Type", "").encode() + b"\r\n\r\n"
        parsed: Any = BytesParser().parsebytes(head + body).get_payload()
        parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parsed}
        if set(parts) != {"UpdateParameters", "UpdateFile"}:
            raise Refused(400, "Base.1.8.PropertyMissing", "UpdateParameters and UpdateFile, nothing else")
        parameters = json.loads(parts["UpdateParameters"])
        if unknown := set(parameters) - {"Targets", "@Redfish.OperationApplyTime"}:
            raise Refused(400, "Base.1.8.PropertyUnknown", ", ".join(sorted(unknown)))
        when = parameters.get("@Redfish.OperationApplyTime", "Immediate")
        if when not in ("Immediate", "OnReset"):
            raise Refused(400, "Base.1.8.PropertyValueNotInList", when)
        task, faults = self.bmc.start(parts["UpdateFile"], when), self.bmc.faults
        where = {"Location": task["@odata.id"]}
        if "location_only" in faults:
            return self._answer(202, **where)
        if "body_only" in faults:
            return self._answer(202, dict(task))
        if "says_200" in faults:
            return self._answer(200, {})
        if "says_204" in faults:
            return self._answer(204)
        return self._answer(202, dict(task), Retry_After="1", **where)


@contextlib.contextmanager
def serve(bmc: Bmc, key: Path, certificate: Path, patience: float = 0.05) -> Iterator[Bmc]:
    """Have a BMC answer on this machine. ``patience``: the seconds that its end may take."""
    handler = type("Handler", (_Handler,), {"bmc": bmc})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that do not trust it break off
    bmc.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(patience,), daemon=True)
    thread.start()
    try:
        yield bmc
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def image(component: str, version: str, models: tuple[str, ...] = ("R750",)) -> bytes:
    """An image that such a BMC takes."""
    body = json.dumps({"component": component, "version": version, "models": list(models)}).encode()
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode()
