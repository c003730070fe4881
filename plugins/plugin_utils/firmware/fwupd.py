# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device through fwupd, which runs on its host: what both say of it, and how a part of it is given an image.

One program on the host says all that is to be read; its exit status says whether there is a fwupd, and never how an update went. Whoever
makes this object runs commands there and brings files there. Nothing that a host says becomes a part of a command but the numbers of its
parts, which are 40 hexadecimal digits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import IntegrityError
from ..strict_json import read_object
from .device import GONE, Condition, DeviceError, DeviceIdentity, Goal, SilentError, Task, text

_LIMIT = 60.0  # seconds in which the host says all that is read
_RESTART = 60.0  # seconds in which it takes an order
_FRESH = 0.25  # seconds for which what was read is what is so: several questions of one look
_LARGEST = 4 << 20  # bytes of what fwupd says of all parts
GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""How fwupd names a kind of part."""
_NUMBER = re.compile(r"[0-9a-f]{40}")
_MARK = "--- devices ---"  # between two JSON documents, in which no line begins so
_ABSENT = 127  # exit status of a host that has no fwupd
# What makers leave where a number belongs: many machines say the same.
_PLACEHOLDERS = re.compile(
    r"(?i)[0x. -]*|to be filled by o\.?e\.?m\.?|default string|(?:system|chassis|base board) [a-z ]+|not? [a-z ]+|none|n/?a"
    r"|unknown|empty|oem|0?1234567890?|asset[a-z -]*[0-9]*"
)
_BOOT_SECONDS = 5  # by which the moment of a boot may be taken for another, while a clock is set
_NOT_UP = ("initializing", "starting", "stopping", "maintenance")  # what systemd says
_WAITS = ("needs-reboot", "needs-shutdown", "needs-activation")
_STATES = {1: "update pending", 4: "needs-reboot"}  # what fwupd says of an update that is not over
_GIVEN = (1, 2, 4)  # of these in its history none came to nothing
# With these a part says a version that need not be what it will say.
_UNSAID = ("unreachable", "wait-for-replug", "is-bootloader")

# One line each for what the kernel and systemd say, then what fwupd has done since, then what it has now.
_SURVEY = rf"""
command -v fwupdmgr >/dev/null 2>&1 || exit {_ABSENT}
line() {{ printf '%s\n' "$("$@" 2>/dev/null </dev/null | head -c 1000 | tr '\0\n' '  ')"; }}
line cat /sys/class/dmi/id/product_serial
line cat /sys/class/dmi/id/product_name
line cat /sys/class/dmi/id/chassis_asset_tag
line sed -n 's/^btime //p' /proc/stat
line systemctl is-system-running
timeout 20 fwupdmgr --json get-history </dev/null 2>/dev/null | head -c {_LARGEST + 1}
printf '\n%s\n' '{_MARK}'
timeout 30 fwupdmgr --json get-devices </dev/null 2>/dev/null | head -c {_LARGEST + 1}
exit 0
"""
_REBOOT = r"""
PATH=$PATH:/sbin:/usr/sbin
if command -v shutdown >/dev/null 2>&1; then exec shutdown -r now; else exec reboot; fi
"""


@dataclass(frozen=True)
class Reply:
    """What a command on the host came to: its exit status and what it printed."""

    status: int
    output: str


Run = Callable[[Sequence[str], float, Callable[[], None] | None], Reply]
"""Run a program with arguments on the host, as root: it gets so many seconds, and meanwhile the third is called now and then.

Raises :class:`SilentError` when the host can't be reached or does not end it in time.
"""
Put = Callable[[Path, float, Callable[[], None] | None], str]
"""Bring a file to the host, in the same way, and return its path there."""


@dataclass(frozen=True)
class FirmwarePart:
    """What fwupd says of one part of a machine. ``number``: by which it knows it; ``waits``: for what, empty for nothing; ``serial``: its
    serial number, empty for none."""

    number: str
    guids: frozenset[str]
    version: str
    name: str = ""
    waits: str = ""
    busy: bool = False
    serial: str = ""

    @property
    def task(self) -> Task | None:
        """What it is at, if it is at something."""
        if not self.waits and not self.busy:
            return None
        words = "; ".join(filter(None, (self.name, self.waits)))
        return Task(f"part {self.number}", "Running" if self.busy else "Pending", words)


@dataclass(frozen=True)
class Survey:
    """All that a host said at one moment. ``state`` is systemd's word, empty without it."""

    serial: str
    model: str
    tag: str
    state: str
    parts: tuple[FirmwarePart, ...]


def parse_survey(output: str) -> Survey:
    """Read what the host's program printed.

    Raises :class:`SilentError` when fwupd does not answer there, and :class:`DeviceError` when that is not what it should be.
    """
    lines = output.split("\n", 5)
    if len(lines) < 6:
        raise DeviceError("what the host says can't be understood; look at what answers there")
    serial, model, tag, booted, state = (text(line) for line in lines[:5])
    history, mark, devices = lines[5].partition(f"\n{_MARK}\n")
    if not mark:
        raise DeviceError("what fwupd on the host says of its updates can't be understood; look at fwupdmgr --json get-history there")
    pending = _pending(_page(history, "get-history"), booted)
    page = _page(devices, "get-devices")
    if not isinstance(page.get("Devices"), list):
        said = _error(page)
        raise SilentError(f"fwupd on the host does not answer{said and f' ({said})'}; look at fwupdmgr get-devices there")
    return Survey(serial, model, tag, state, tuple(_parts(page["Devices"], pending)))


def _page(content: str, command: str) -> Mapping[str, Any]:
    if len(content) > _LARGEST:
        raise DeviceError(f"fwupd on the host says more than {_LARGEST >> 20} MiB; look at fwupdmgr --json {command} there")
    document = _document(content)
    if not document:
        return {}
    try:
        return read_object(document, "it")
    except IntegrityError as error:
        raise DeviceError(f"fwupd on the host says what can't be understood ({error}); look at fwupdmgr --json {command} there") from None


def _parts(entries: Iterable[object], pending: Mapping[str, str]) -> Iterable[FirmwarePart]:
    for entry in map(_object, entries):
        number, flags = text(entry.get("DeviceId")), _texts(entry.get("Flags"))
        if not _NUMBER.fullmatch(number) or "emulated" in flags:  # which is none of this machine
            continue
        problems, state = _texts(entry.get("Problems")), entry.get("UpdateState")
        waits = [flag for flag in _WAITS if flag in flags]
        waits += [_STATES[state]] if isinstance(state, int) and state in _STATES else []
        waits += ["update pending"] if "update-pending" in problems else []
        waits += [pending[number]] if number in pending else []
        unsaid = any(one in flags or one in problems for one in _UNSAID)
        yield FirmwarePart(
            number,
            frozenset(guid.lower() for guid in _texts(entry.get("Guid"))),
            "" if unsaid else text(entry.get("Version")),
            text(entry.get("Name")),
            ", ".join(dict.fromkeys(waits)),
            "update-in-progress" in problems,
            "" if _PLACEHOLDERS.fullmatch(text(entry.get("Serial"))) else text(entry.get("Serial")),
        )


def _pending(page: Mapping[str, Any], booted: str) -> dict[str, str]:
    """By number of a part, what it waits for by fwupd's own history, if that was since the host has begun.

    A fwupd that has begun anew meanwhile, as it does by itself when nobody asks it, may say nothing of it with the part.
    """
    found, devices = {}, page.get("Devices")
    for entry in map(_object, devices if isinstance(devices, list) else []):
        releases = entry.get("Releases")
        moments = [text(_object(release).get("BootTime")) for release in releases] if isinstance(releases, list) else []
        now = any(_is_same_boot(moment, booted) for moment in moments)
        if now and "needs-reboot" in _texts(entry.get("Flags")) and entry.get("UpdateState") in _GIVEN:
            found[text(entry.get("DeviceId"))] = "needs-reboot"
    return found


def _is_same_boot(moment: str, booted: str) -> bool:
    return all(one.isdigit() and len(one) < 20 for one in (moment, booted)) and abs(int(moment) - int(booted)) <= _BOOT_SECONDS


class Fwupd:
    """The machine that a host is, to be used in a ``with`` statement like others. ``run`` and ``put``: see :data:`Run` and :data:`Put`."""

    way = "fwupd"
    effects = frozenset({"immediate", "host_reset", "activation"})

    def __init__(self, run: Run, put: Put) -> None:
        self._run, self._put = run, put
        self._last: tuple[float, Survey] | None = None

    def __enter__(self) -> Fwupd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    # -- what the device says ----------------------------------------------

    def identity(self, _serial: str = "") -> DeviceIdentity:
        """Which machine it is, by its DMI; see :class:`Device`. A number that many machines have is none."""
        survey = self._look()
        if _PLACEHOLDERS.fullmatch(survey.serial):
            said = f"says {survey.serial!r} for its serial number" if survey.serial else "does not say its serial number"
            raise DeviceError(
                f"the host {said}, so nobody knows which machine it is; that is in /sys/class/dmi/id/product_serial, which only root can "
                "read: look at tidegate_become, or have its maker's tool write the number"
            )
        tag = "" if _PLACEHOLDERS.fullmatch(survey.tag) else survey.tag
        return DeviceIdentity(survey.serial, survey.model, tag)

    def part(self, slot: str) -> DeviceIdentity | None:
        """The part that has a slot as its GUID or its name, if fwupd has a serial number of it; see :class:`Device`."""
        named = [part for part in self._look().parts if slot and (slot == part.name or slot.lower() in part.guids)]
        found = {DeviceIdentity(part.serial, part.name) for part in named if part.serial}
        return found.pop() if len(named) == len(found) == 1 else None

    def condition(self, _serial: str = "") -> Condition:
        """How the host is: it answers, with fwupd, and systemd has begun and does not end; see :class:`Device`."""
        state = self._look().state
        return Condition(False, f"its host is {state}") if state in _NOT_UP else Condition(True)

    def versions(self, component: str) -> tuple[str, ...]:
        """What the parts with a GUID run; see :class:`Device`."""
        found = {part.version for part in self._parts(component)}
        return () if "" in found else tuple(sorted(found))

    def tasks(self) -> tuple[Task, ...]:
        """What the parts are at, or wait for; fwupd has no list of what they were at. See :class:`Device`."""
        return tuple(part.task for part in self._look().parts if part.task)

    def task(self, address: str) -> Task:
        """See :class:`Device`."""
        return next((task for task in self.tasks() if task.address == address), Task(address, GONE))

    # -- what it is told ---------------------------------------------------

    def push(self, image: Path, goal: Goal, back: bool, alive: Callable[[], None] | None = None, /) -> str:
        """Have fwupd install a cabinet on the parts with the goal's GUID alone; see :class:`Device`."""
        numbers = [part.number for part in self._parts(goal.component)]
        if not numbers:
            raise DeviceError(f"fwupd on the host has no part {goal.component}")
        end = time.monotonic() + goal.minutes.transfer * 60
        there = self._put(image, end - time.monotonic(), alive)
        for number in numbers:
            left = max(1.0, end - time.monotonic())
            older = ["--allow-older"] if back else []
            self._tell(["fwupdmgr", "--json", "--no-reboot-check", *older, "install", there, number], left, alive)
        return ""

    def restart(self, how: str, _serial: str = "") -> None:
        """See :class:`Device`."""
        if how != "activation":
            self._tell(["sh", "-c", _REBOOT], _RESTART)
            return
        waiting = [part.number for part in self._look(again=True).parts if "needs-activation" in part.waits]
        if not waiting:
            raise DeviceError("no part of it waits to be activated")
        for number in waiting:
            self._tell(["fwupdmgr", "--json", "activate", number], _RESTART)

    # -- the host ----------------------------------------------------------

    def _parts(self, component: str) -> list[FirmwarePart]:
        if not GUID.fullmatch(component):
            raise DeviceError(
                f"{component} is no GUID, by which fwupd on the host knows a part; give the CI the attribute redfish if it has a BMC, or "
                "have a release with the GUID"
            )
        found = {part.number: part for part in self._look().parts if component.lower() in part.guids}
        return list(found.values())

    def _look(self, again: bool = False) -> Survey:
        """What the host says now, or has said just now; after it was told something it is asked again."""
        if self._last is None or again or time.monotonic() - self._last[0] > _FRESH:
            reply = self._run(["sh", "-c", _SURVEY], _LIMIT, None)
            if reply.status == _ABSENT:
                raise DeviceError("its host has no fwupdmgr; install fwupd there, or give the CI the attribute redfish")
            self._last = (time.monotonic(), parse_survey(reply.output))
        return self._last[1]

    def _tell(self, argv: list[str], seconds: float, alive: Callable[[], None] | None = None) -> None:
        self._last = None
        reply = self._run(["timeout", f"{seconds:.0f}", *argv], seconds + _LIMIT, alive)
        self._last = None
        if reply.status != 0:
            said = _error(_page_or_nothing(reply.output)) or text(reply.output.strip().rpartition("\n")[2])
            raise DeviceError(f"the host answers {argv[0]} with status {reply.status}{said and f': {said}'}")


def _document(content: str) -> str:
    """The JSON object in what fwupd prints, without what it says before and behind it for people, such as ``Idle: 0%``."""
    return content[content.find("{") :].rpartition("}")[0] + "}" if "{" in content else ""


def _page_or_nothing(output: str) -> Mapping[str, Any]:
    """The object that fwupd prints; nothing where there is none."""
    try:
        return read_object(_document(output[:_LARGEST]) or "{}", "it")
    except IntegrityError:
        return {}


def _error(page: Mapping[str, Any]) -> str:
    said = _object(page.get("Error")).get("Message")
    return text("".join(sign if sign.isascii() else "?" for sign in said)[:200]) if isinstance(said, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [one for one in map(text, value) if one] if isinstance(value, list) else []
