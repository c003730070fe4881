# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an instance of ServiceNow, written from the published documentation of its Table API and its change models.

No instance can run here. So this one is stricter than a real one: it refuses parameters, fields, choices and state moves that it does not
know. What real ones do instead, ignore them in silence, it does when it is told to.
"""

from __future__ import annotations

import base64
import contextlib
import json
import operator
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from answering import serve_http
from registry import make_certificate

USER, PASSWORD, TOKEN = "tidegate", "opensesame-42", "token-4711-geheim"
HTML = b"<html><body><h1>Your instance is hibernating</h1></body></html>"
_PARAMETERS = {
    "sysparm_query",
    "sysparm_fields",
    "sysparm_limit",
    "sysparm_offset",
    "sysparm_display_value",
    "sysparm_exclude_reference_link",
    "sysparm_suppress_pagination_header",
    "sysparm_input_display_value",
}
_MODELS = {
    "normal": {-5: {-4}, -4: {-3}, -3: {-2}, -2: {-1}, -1: {0}, 0: {3}},
    "standard": {-5: {-2}, -2: {-1}, -1: {0}, 0: {3}},
    "emergency": {-5: {-3}, -3: {-2}, -2: {-1}, -1: {0}, 0: {3}},
}
_STATES = {-5: "New", -4: "Assess", -3: "Authorize", -2: "Scheduled", -1: "Implement", 0: "Review", 3: "Closed", 4: "Canceled"}
_CODES = {"", "successful", "successful_issues", "unsuccessful"}
_WRITABLE = {"state", "work_start", "work_end", "close_code", "close_notes", "work_notes"}
_MOMENTS = {"start_date", "end_date", "work_start", "work_end"}


class Refused(Exception):
    """The request is answered with this status, and nothing is changed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Instance:
    """What it holds and how it behaves; everything may be changed while it runs.

    ``ignores``: what it takes without a word and does not do: ``fields`` it does not know, ``moves`` that the model does not have, the
    names of fields it does not write, or ``queries`` that it does not understand. ``hides``: fields that this user may not read.
    ``faults``: what the next requests are answered with in place of an answer: ``(status, headers, body)``.
    """

    host: str
    authority: Path
    tables: dict[str, dict[str, dict[str, str]]] = field(
        default_factory=lambda: {"sys_user": {}, "change_request": {}, "sysapproval_approver": {}}
    )
    notes: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    ignores: set[str] = field(default_factory=set)
    hides: set[str] = field(default_factory=set)
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    delay: float = 0.0
    trickle: str = ""
    down: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    course: list[dict[str, str]] = field(default_factory=list)

    def address(self, number: str, query: str = "") -> str:
        """Of an RFC in it."""
        return f"servicenow+https://{self.host}/{number}{'?' + query if query else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """Who the tests are to it."""
        return {"SN_USERNAME": USER, "SN_PASSWORD": PASSWORD, "REQUESTS_CA_BUNDLE": str(self.authority)}

    def user(self, name: str) -> str:
        """The sys_id of a user, who is made when there is none."""
        sys_id = f"{abs(hash(name)) % 16**32:032x}"
        self.tables["sys_user"].setdefault(sys_id, {"sys_id": sys_id, "user_name": name, "name": name.title()})
        return sys_id

    def change(self, number: str, release: tuple[str, str, str], approver: str = "carl", **values: str) -> str:
        """Enter an approved change whose window is open now; returns its sys_id."""
        now = datetime.now(UTC)
        sys_id = f"{int(number[3:]):032x}"
        name, version, digest = release
        self.tables["change_request"][sys_id] = {
            "sys_id": sys_id,
            "number": number,
            "type": "normal",
            "state": "-2",
            "risk": "3",
            "impact": "3",
            "on_hold": "false",
            "cab_required": "false",
            "short_description": f"{name} {version}",
            "description": "",
            "requested_by": self.user("rita"),
            "assigned_to": "",
            "start_date": f"{now - timedelta(minutes=5):%Y-%m-%d %H:%M:%S}",
            "end_date": f"{now + timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
            "work_start": "",
            "work_end": "",
            "close_code": "",
            "close_notes": "",
            "work_notes": "",
            "backout_plan": "Back to the release before.",
            "test_plan": "Health checks.",
            "implementation_plan": "",
            "u_tidegate_release": name,
            "u_tidegate_version": version,
            "u_tidegate_digest": digest,
            "u_tidegate_scope": "[?class=='server']",
            **values,
        }
        self.notes[sys_id] = []
        if approver:
            self.approve(sys_id, approver)
        return sys_id

    def approve(self, change: str, approver: str, state: str = "approved") -> None:
        """Let somebody decide."""
        table = self.tables["sysapproval_approver"]
        sys_id = f"{len(table) + 1:031x}a"
        at = datetime.now(UTC) - timedelta(minutes=2)
        table[sys_id] = {
            "sys_id": sys_id,
            "sysapproval": change,
            "approver": self.user(approver),
            "group": "",
            "state": state,
            "sys_updated_on": f"{at:%Y-%m-%d %H:%M:%S}",
        }

    def record(self, number: str) -> dict[str, str]:
        """A change as the instance has it."""
        return next(row for row in self.tables["change_request"].values() if row["number"] == number)

    def said(self, number: str) -> str:
        """The work notes of a change, oldest first."""
        return "\n".join(text for _at, text in self.notes[self.record(number)["sys_id"]])

    # -- the Table API -----------------------------------------------------

    def find(self, table: str, parameters: dict[str, str]) -> tuple[list[dict[str, Any]], int]:
        rows = list(self.tables[table].values())
        for term in filter(None, parameters.get("sysparm_query", "").split("^")):
            if term.startswith("ORDERBY"):
                rows.sort(key=operator.itemgetter(term.removeprefix("ORDERBY")))
                continue
            matched = re.fullmatch(r"([a-z_]+)=(.*)", term)
            if matched and "queries" not in self.ignores and any(matched[1] in row for row in rows):
                rows = [row for row in rows if row[matched[1]] == matched[2]]
            elif "queries" not in self.ignores and not matched:
                raise Refused(400, f"query {term}")
        first, most = int(parameters.get("sysparm_offset", 0)), int(parameters.get("sysparm_limit", 10000))
        return [self.show(row, parameters) for row in rows[first : first + most]], len(rows)

    def show(self, row: dict[str, str], parameters: dict[str, str]) -> dict[str, Any]:
        fields = parameters.get("sysparm_fields", "")
        names = fields.split(",") if fields else list(row)
        shown: dict[str, Any] = {}
        for name in names:
            if name.partition(".")[0] in self.hides or name in self.hides:
                continue
            value = self.walk(row, name.split("."))
            if value is None:
                continue  # as a real one does with a field that the table does not have
            display = self.display(row, name, value)
            mode = parameters.get("sysparm_display_value", "false")
            shown[name] = {"all": {"display_value": display, "value": value}, "true": display}.get(mode, value)
        return shown

    def walk(self, row: dict[str, str], path: list[str]) -> str | None:
        if path[0] not in row:
            return None
        if len(path) == 1:
            return row[path[0]]
        there = self.tables["sys_user"].get(row[path[0]])
        return self.walk(there, path[1:]) if there else ""

    def display(self, row: dict[str, str], name: str, value: str) -> str:
        if name == "work_notes":
            return "".join(f"{at} - Tidegate (Work notes)\n{text}\n\n" for at, text in reversed(self.notes.get(row["sys_id"], [])))
        if name == "state" and re.fullmatch("-?[0-9]+", value):
            return _STATES.get(int(value), value)
        if name in _MOMENTS and value:  # in this user's own zone and format
            return f"{_moment(value) + timedelta(hours=2):%d.%m.%Y %H:%M:%S}"
        return self.tables["sys_user"].get(value, {}).get("name", value)

    def takes(self, row: dict[str, str], name: str, value: Any) -> bool:
        """Whether a field is written; not when it is ignored without a word."""
        if not isinstance(value, str) or len(value) > 4000:
            raise Refused(400, f"{name} is no text, or too long")
        if name in self.ignores:
            return False
        if name not in row or name not in _WRITABLE:
            if "fields" in self.ignores:
                return False
            raise Refused(400, f"Unknown or read-only field {name}")
        if name in _MOMENTS and value:
            _moment(value)
        if name == "close_code" and value not in _CODES:
            raise Refused(400, f"{value} is no choice of close_code")
        return True

    def update(self, table: str, sys_id: str, body: dict[str, Any]) -> None:
        row = self.tables[table][sys_id]
        if table != "change_request":
            raise Refused(403, "Operation Failed")
        new = {name: value for name, value in body.items() if self.takes(row, name, value)}
        now = int(row["state"])
        if "state" in new and (move := int(new["state"])) != now:
            legal = move in _MODELS[row["type"]].get(now, set()) or (move == 4 and now not in (3, 4))
            closing = move == 3 and not ({**row, **new}["close_code"] and {**row, **new}["close_notes"])
            if not legal or closing:
                if "moves" not in self.ignores:
                    raise Refused(403, f"Operation against file 'change_request' was aborted: {_STATES[now]} to {_STATES.get(move, move)}")
                del new["state"]
        elif now in (3, 4) and set(new) - {"work_notes"}:
            raise Refused(403, "Closed changes are read-only")
        note = new.pop("work_notes", "")
        if note:
            self.notes[sys_id].append((f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", note))
        row.update(new)
        self.course.append({**new, **({"work_notes": note} if note else {})})


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise Refused(400, f"{text} is no time") from None


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Instance]:
    """An instance on a port of this machine's own, with TLS."""
    key, certificate = make_certificate(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            parameters = dict(parse_qsl(parts.query))
            with lock:
                instance.requests.append((self.command, parts.path, parameters))
                fault = instance.faults.pop(0) if instance.faults else None
            if instance.down:
                self.close_connection = True
                self.connection.close()
                return
            time.sleep(instance.delay)
            if fault:
                self.answer(*fault)
                return
            try:
                with lock:
                    status, headers, result = self.handle_request(parts.path, parameters, body)
                self.answer(status, headers, json.dumps({"result": result}).encode())
            except Refused as error:
                content = {"error": {"message": str(error), "detail": ""}, "status": "failure"}
                self.answer(error.status, {}, json.dumps(content).encode())

        do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = do_any

        def handle_request(self, path: str, parameters: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
            basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") not in (basic, f"Bearer {TOKEN}"):
                raise Refused(401, "User Not Authenticated")
            if self.headers.get("Accept") != "application/json":
                raise Refused(406, "Accept application/json")
            matched = re.fullmatch(r"/api/now/(?:v2/)?table/([a-z_]+)(?:/([0-9a-f]{32}))?", path)
            if not matched or matched[1] not in instance.tables:
                raise Refused(400, "Invalid table")
            if not parameters.keys() <= _PARAMETERS or any(len(values) > 1 for values in parse_qs(urlsplit(self.path).query).values()):
                raise Refused(400, "Unknown parameter")
            table, sys_id = matched[1], matched[2]
            if sys_id is None:
                if self.command != "GET":
                    raise Refused(405, "Method not allowed")
                rows, total = instance.find(table, parameters)
                return 200, {"X-Total-Count": str(total)}, rows
            if sys_id not in instance.tables[table]:
                raise Refused(404, "No Record found")
            if self.command in ("PATCH", "PUT"):
                if not self.headers.get("Content-Type", "").startswith("application/json"):
                    raise Refused(415, "Unsupported media type")
                instance.update(table, sys_id, json.loads(body))
            elif self.command != "GET":
                raise Refused(405, "Method not allowed")
            return 200, {}, instance.show(instance.tables[table][sys_id], parameters)

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            if instance.trickle == "headers":
                with contextlib.suppress(OSError):
                    for _turn in range(40):
                        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        time.sleep(0.5)
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json;charset=UTF-8"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if instance.trickle != "body":
                self.wfile.write(content)
                return
            with contextlib.suppress(OSError):
                for index in range(len(content)):
                    self.wfile.write(content[index : index + 1])
                    time.sleep(0.5)

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve_http(Handler, context) as port:
        instance = Instance(f"127.0.0.1:{port}", certificate)
        yield instance
