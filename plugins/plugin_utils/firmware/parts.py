# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a slot of a device, by the pages that it has of its parts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .device import DeviceIdentity, text

Get = Callable[[str], Mapping[str, Any]]
Members = Callable[[str], list[str]]

_OF_SYSTEM: tuple[tuple[str, ...], ...] = (("Memory",), ("Processors",))
_OF_CHASSIS: tuple[tuple[str, ...], ...] = (("PowerSubsystem", "PowerSupplies"), ("NetworkAdapters",), ("PCIeDevices",), ("Drives",))
_MOST = 64  # pages of each kind
_ABSENT = "Absent"  # the state of what a slot has a page for, and nothing in it


def parts_of(get: Get, members: Members, systems: Iterable[str], chassis: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The pages of what is in a device: memory, processors, drives, power supplies and cards, as far as it has such pages.

    ``get`` returns a page by its address, ``members`` the addresses of a collection; ``systems`` and ``chassis`` are addresses.
    """
    for place in systems:
        page = get(place)
        for way in _OF_SYSTEM:
            yield from _collected(get, members, page, way)
        for storage in _collected(get, members, page, ("Storage",)):
            drives = storage.get("Drives")
            yield from (get(address) for address in _addresses(drives)[:_MOST])
    for place in chassis:
        page = get(place)
        for way in _OF_CHASSIS:
            yield from _collected(get, members, page, way)
        if power := _link(page, "Power"):
            supplies = get(power).get("PowerSupplies")
            yield from (one for one in (supplies if isinstance(supplies, list) else [])[:_MOST] if isinstance(one, Mapping))


def part_in(slot: str, parts: Iterable[Mapping[str, Any]]) -> DeviceIdentity | None:
    """What is in a slot: the part that has the slot as its id, its name or the label of its place.

    Without a serial number where each that has it says that nothing is there. ``None`` where none has it, or that does not say its serial
    number, or several with different ones do: then nobody can read it.
    """
    named = [part for part in parts if slot and slot in _names(part)]
    found = {DeviceIdentity(text(part.get("SerialNumber")), text(part.get("Model"))) for part in named}
    known = [one for one in found if one.serial]
    if named and not known and all(_mapping(part.get("Status")).get("State") == _ABSENT for part in named):
        return DeviceIdentity("", "")
    return known[0] if len(known) == 1 else None


def _names(part: Mapping[str, Any]) -> set[str]:
    place = _mapping(_mapping(_mapping(part.get("Location")).get("PartLocation")))
    return {text(part.get(key)) for key in ("Id", "MemberId", "Name")} | {text(place.get("ServiceLabel"))}


def _collected(get: Get, members: Members, page: Mapping[str, Any], way: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    *through, last = way
    for name in through:
        address = _link(page, name)
        page = get(address) if address else {}
    if address := _link(page, last):
        yield from (get(one) for one in members(address)[:_MOST])


def _link(page: Mapping[str, Any], name: str) -> str:
    return next(iter(_addresses([page.get(name)])), "")


def _addresses(links: Any) -> list[str]:
    listed = links if isinstance(links, list) else []
    found = [_mapping(one).get("@odata.id") for one in listed]
    return [one for one in found if isinstance(one, str) and one.startswith("/")]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
