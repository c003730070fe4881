# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RFCs that are change requests in ServiceNow, read and written through the Table API.

What ``change_request`` has no field for, such as the package's digest, is in custom fields. An instance leaves out of an answer what a
table doesn't have or this user may not read, ignores writes that it does not like, and answers a query that it doesn't understand with
everything. So each field has to be in the answer, each record has to be the one that was asked for, and each write is read back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ..documents import Document
from ..errors import IntegrityError, NotFoundError, StateError, TidegateError
from ..settings import without_login
from ..strict_json import read_json
from .course import Course
from .model import CANCELED, CLOSED, IMPLEMENT, REVIEW, SCHEDULED, SERVICENOW, STATES, Rfc, build_rfc
from .tableapi import Instance, Record

_TABLE = "change_request"
_NUMBERS = ("state", "risk", "impact")
_FLAGS = ("on_hold", "cab_required")
_TIMES = ("start_date", "end_date")
_TEXTS = ("number", "type", "short_description", "description", "backout_plan", "test_plan", "implementation_plan")
# People are references to other tables; what is asked for is their name there.
_PEOPLE = {"requested_by": "requested_by.user_name", "assigned_to": "assigned_to.user_name"}
# What the RFC needs and change_request does not have, and the custom fields in which it is looked for.
CUSTOM: Mapping[str, str] = {
    "release": "u_tidegate_release",
    "version": "u_tidegate_version",
    "digest": "u_tidegate_digest",
    "scope": "u_tidegate_scope",
}
# The same, but only looked for when the address names the field.
OPTIONAL = ("objectives", "stakeholders", "communication_plan", "instant")
_COURSE = ("state", "work_start", "work_end", "close_code", "close_notes")
_APPROVALS = ("sysapproval", "approver.user_name", "group.assignment_group.name", "state", "sys_updated_on")
_DECISIONS = ("approved", "rejected", "requested")
_MANY = 500  # approvals of one RFC
_TIME = "%Y-%m-%d %H:%M:%S"  # UTC, in what is read and written with raw values
_NOTE = 3900  # characters; fields hold 4,000
_FORWARD = {SCHEDULED: IMPLEMENT, IMPLEMENT: REVIEW}


@dataclass(frozen=True)
class InstanceAddress:
    """``servicenow+https://<instance>/<number>``; its query names custom fields other than those of :data:`CUSTOM`."""

    instance: str
    number: str
    fields: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> InstanceAddress:
        """Raises :class:`TidegateError` when it is not such an address."""
        with contextlib.suppress(ValueError):
            parts = urlsplit(text.removeprefix("servicenow+"))
            own = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
            fit = own.keys() <= {*CUSTOM, *OPTIONAL} and all(re.fullmatch(r"[a-z][a-z0-9_]{0,79}", name) for name in own.values())
            number = parts.path.strip("/")
            host = re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", parts.netloc)  # so no credentials either
            if text.startswith(SERVICENOW) and host and fit and not parts.fragment and re.fullmatch("[A-Z]{2,10}[0-9]{3,12}", number):
                return cls(f"https://{parts.netloc}", number, {**CUSTOM, **own})
        raise TidegateError(
            f"{without_login(text)!a:.120} is no address of an RFC in ServiceNow; write {SERVICENOW}instance.example/CHG0030001, and "
            f"behind a ? which fields have what it does not bring, as in "
            f"digest=u_digest&scope=u_scope; known are {', '.join((*CUSTOM, *OPTIONAL))}"
        )


class ServiceNowChange:
    """A change request; nobody is asked before the first call."""

    def __init__(self, address: str) -> None:
        self._address = InstanceAddress.parse(address)
        self._where = f"{self._address.number} in {urlsplit(self._address.instance).netloc}"

    @property
    def number(self) -> str:
        """Of the RFC."""
        return self._address.number

    def read(self) -> Rfc:
        """The RFC as it is now; raises :class:`DocumentError` with every problem, :class:`TidegateError` when it can't be asked."""
        return self._read(Instance(self._address.instance))

    def record(self, course: Course, notes: Iterable[str], before: Course | None) -> None:
        """Write what ``course`` says, forward only, and what ``notes`` say, and read it back.

        What somebody else wrote stays; ``before`` is what was written here the last time. Raises :class:`TidegateError` naming all that
        did not get there.
        """
        self._record(Instance(self._address.instance), course, list(notes), before)

    # -- reading -----------------------------------------------------------

    def _find(self, instance: Instance, fields: Iterable[str]) -> Record:
        wanted = ["sys_id", *fields]
        found = instance.query(_TABLE, f"number={self.number}", wanted, 2)
        # An instance may answer a query that it doesn't understand with everything that it has.
        found = [record for record in found if str(record.values.get("number", "")) == self.number]
        if not found:
            raise NotFoundError(f"there is no {self._where} that this user may read; correct the address, or give the user the right")
        if len(found) > 1:
            raise IntegrityError(f"there is more than one {self._where}; look at how the instance gives out numbers")
        missing = sorted(name for name in wanted if name not in found[0].values)
        if missing:
            raise NotFoundError(
                f"{self._where} has no {', '.join(missing)}, or this user may not read {'it' if len(missing) == 1 else 'them'}; add "
                f"what is missing to change_request with the right to read it, or name fields of yours in the address, as in "
                f"{SERVICENOW}instance.example/{self.number}?digest=u_digest"
            )
        return found[0]

    def _read(self, instance: Instance) -> Rfc:
        custom = self._address.fields
        wanted = (*_TEXTS, *_NUMBERS, *_FLAGS, *_TIMES, *_PEOPLE.values(), *custom.values())
        record = self._find(instance, wanted)
        raw = record.values
        data: dict[str, Any] = {"schema": 1}
        data |= {name: raw[name] for name in _TEXTS if raw[name] or name.endswith("_plan")}
        data |= {name: raw[field] for name, field in _PEOPLE.items() if raw[field]}
        data |= {name: _whole(raw[name]) for name in _NUMBERS if raw[name]}
        data |= {name: {"true": True, "false": False}.get(raw[name], raw[name]) for name in _FLAGS if raw[name]}
        data |= {name: _moment(raw[name]) for name in _TIMES if raw[name]}
        data["release"] = {
            name: raw[custom[key]] for name, key in (("name", "release"), ("version", "version"), ("digest", "digest")) if raw[custom[key]]
        }
        if raw[custom["scope"]]:
            data["scope"] = raw[custom["scope"]]
        data["approvals"] = self._approvals(instance, record.id)
        faults = self._optional(data, {name: raw[custom[name]] for name in OPTIONAL if name in custom})
        document = Document(self._where, data)
        document.check("rfc")
        for place, what, remedy in faults:
            document.problem(place, what, remedy)
        return build_rfc(document)

    def _optional(self, data: dict[str, Any], given: Mapping[str, str]) -> list[tuple[tuple[str | int, ...], str, str]]:
        faults: list[tuple[tuple[str | int, ...], str, str]] = []
        if given.get("communication_plan"):
            data["communication_plan"] = given["communication_plan"]
        if given.get("instant"):
            data["instant"] = _moment(given["instant"])
        if given.get("stakeholders"):
            data["stakeholders"] = [name.strip() for name in re.split("[,\n]", given["stakeholders"]) if name.strip()]
        if given.get("objectives"):
            try:
                data["objectives"] = read_json(given["objectives"], "objectives")
            except IntegrityError as error:
                faults.append((("objectives",), str(error), 'write a list such as [{"name": "answers", ...}]'))
            listed = data.get("objectives", [])
            for index, check in enumerate(listed if isinstance(listed, list) else []):
                if isinstance(check, dict) and "command" in check:
                    place = ("objectives", index, "command")
                    what = f"objectives.{index} is a command, which whoever may edit the change could run on the controller"
                    faults.append((place, what, "let it be http or tcp, or bring the RFC as a file"))
        return faults

    def _approvals(self, instance: Instance, sys_id: str) -> list[dict[str, str]]:
        said = []
        for record in instance.query("sysapproval_approver", f"sysapproval={sys_id}", _APPROVALS, _MANY):
            raw = record.values
            if raw.get("sysapproval") != sys_id:
                continue
            missing = sorted(name for name in _APPROVALS if name not in raw)
            if missing:
                raise NotFoundError(
                    f"the approvals of {self._where} have no {', '.join(missing)} that this user may read; give it the right to"
                )
            if raw["state"] in _DECISIONS:  # the others are about people who need not decide any more, or not yet
                entry = {
                    "approver": raw["approver.user_name"],
                    "role": raw["group.assignment_group.name"] or "approver",
                    "state": raw["state"],
                }
                if raw["state"] != "requested":
                    entry["decided_at"] = _moment(raw["sys_updated_on"])
                said.append(entry)
        return said

    # -- writing -----------------------------------------------------------

    def _record(self, instance: Instance, course: Course, notes: list[str], before: Course | None) -> None:
        note = _note(notes)
        wanted = {
            "work_start": _written(course.work_start),
            "work_end": _written(course.work_end),
            "close_code": course.close_code,
            "close_notes": course.close_notes[:_NOTE],
        }
        ours = (
            {}
            if before is None
            else {"work_end": _written(before.work_end), "close_code": before.close_code, "close_notes": before.close_notes[:_NOTE]}
        )
        record = self._find(instance, ("number", *_COURSE, "work_notes"))
        raw = record.values
        # What is empty, or what was written here before; anything else is somebody's text, which stays.
        values = {name: value for name, value in wanted.items() if value and raw[name] != value and raw[name] in ("", ours.get(name, ""))}
        if _whole(raw["state"]) in (CLOSED, CANCELED):
            values = {}  # an instance only takes notes then
        if note and not _has(record, note):
            values["work_notes"] = note
        steps = self._steps(_whole(raw["state"]), course.state)
        if not values and not steps:
            return
        # An instance allows one move at a time; the last one takes the rest along.
        for state in steps[:-1]:
            self._write(instance, record.id, {"state": str(state)})
        self._write(instance, record.id, values | ({"state": str(steps[-1])} if steps else {}))

    def _steps(self, now: Any, wanted: int | None) -> list[int]:
        """The states to go through, one by one; none when it stands there or further on already."""
        if wanted is None or now == wanted:
            return []
        if isinstance(now, int) and now > wanted and wanted == REVIEW:
            return []  # somebody has closed or canceled it
        steps = []
        state = now
        while state in _FORWARD and state != wanted:
            state = _FORWARD[state]
            steps.append(state)
        if state != wanted:
            stands = STATES.get(now, "in a state that is not known here") if isinstance(now, int) else "in a state that is not known here"
            raise StateError(
                f"{self._where} is {stands} ({now}) and can't become {STATES[wanted]} ({wanted}); bring it to Scheduled (-2) first"
            )
        return steps

    def _write(self, instance: Instance, sys_id: str, change: Mapping[str, str]) -> None:
        instance.write(_TABLE, sys_id, change)
        record = self._find(instance, ("number", *change))
        lost = [
            f"{name} should be {value!a:.60} and is {record.values[name]!a:.60}"
            for name, value in change.items()
            if name != "work_notes" and record.values[name] != value
        ]
        if "work_notes" in change and not _has(record, change["work_notes"]):
            lost.append("the work note is not there")
        if lost:
            raise StateError(
                f"{self._where} ignored what was written without saying so: {'; '.join(lost)}; look for the business rule, the "
                "data policy or the right of this user that stops it"
            )


def _whole(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?[0-9]{1,6}", text) else text


def _moment(text: str) -> str:
    """ServiceNow's time as RFC 3339; anything else as it is, for the schema to refuse."""
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).isoformat()
    except ValueError:
        return text


def _written(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime(_TIME)


def _note(notes: Iterable[str]) -> str:
    # What is between these signs would be taken for HTML.
    return "\n".join(notes).replace("[code]", "(code)").replace("[/code]", "(/code)")[-_NOTE:].strip()


def _has(record: Record, note: str) -> bool:
    """Whether the work notes, which are only shown and have no raw value, have this one."""
    shown = record.shown.get("work_notes", "")
    return " ".join(note.split()) in " ".join(shown.split())
