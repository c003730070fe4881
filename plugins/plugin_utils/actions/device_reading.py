# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit asks the device of a host, by its BMC or fwupd: which unit it is, and what it runs. Nothing is changed there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..cmdb.store import Cmdb
from ..dhs.assets import list_levels, list_units, machines, readings_of
from ..dhs.unit_check import DeviceReading
from ..dsl.firmware import FirmwareImage, images_for
from ..dsl.hardware import PartChange
from ..dsl.package import load_package_manifest
from ..dsl.repository import open_library
from ..errors import TidegateError
from ..firmware.device import Device, DeviceError, SilentError, text
from ..firmware.fwupd import GUID
from ..settings import optional_setting, required_setting
from .device import open_device


@dataclass(frozen=True)
class DeviceQuestion:
    """What the device of a CI is asked: ``attributes`` say where it is, ``serial`` which one of several. ``software``: the CI has releases
    besides that are neither firmware nor hardware, so somebody has to log in to its host. ``by_host``: it is asked through fwupd there.
    ``slots``: in which a unit is recorded."""

    attributes: Mapping[str, Any]
    serial: str
    components: tuple[str, ...]
    software: bool
    by_host: bool = False
    slots: tuple[str, ...] = ()


def what_to_ask(options: Mapping[str, Any], host: str) -> DeviceQuestion | None:
    """What the device of a host is to be asked.

    ``None`` when the CMDB neither says where its BMC is, by nobody's word but its own, nor knows of anything that fwupd could be asked for.
    """
    with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
        attributes: Mapping[str, Any] = next((ci["attributes"] for ci in cmdb.cis([host], connection)), {})
        unit = machines(connection, [host]).get(host)
        model = unit.model if unit else text(attributes.get("model"))
        recorded = attributes.get("firmware")
        components = set(recorded) if isinstance(recorded, Mapping) else set()
        components |= {level.component for level in list_levels(connection) if level.model == model}
        components |= {one.component for found in readings_of(connection, [unit.tag] if unit else []).values() for one in found}
        installed = cmdb.installations([host], connection)
        slots = tuple(sorted(one.slot for one in list_units(connection, cis=[host]) if one.slot))
    dsl, software = optional_setting(options, "dsl"), False
    library = open_library(dsl) if dsl is not None and installed else None
    for row in installed:
        images: tuple[FirmwareImage, ...] = ()
        parts: tuple[PartChange, ...] = ()
        with contextlib.suppress(TidegateError):  # what the library has not is named by the comparison
            if library is not None:
                manifest = load_package_manifest(library.repository(str(row["release"])), str(row["digest"]))
                images, parts = manifest.firmware, manifest.hardware
        software = software or not (images or parts)
        components |= {image.component for image in images_for(model, images)}
    serial, by_host = unit.serial if unit else text(attributes.get("serial")), not text(attributes.get("redfish"))
    asked = tuple(sorted(one for one in components if text(one) and (GUID.fullmatch(one) or not by_host)))
    return None if by_host and not (asked or slots) else DeviceQuestion(attributes, serial, asked, software, by_host, slots)


def read_device(options: Mapping[str, Any], asked: DeviceQuestion, action: Any) -> DeviceReading:
    """What a device says of itself; what keeps it from saying that is in the answer, too. ``action``: as for :func:`open_device`."""
    said = {name: text(asked.attributes.get(name)) for name in ("redfish", "redfish_fingerprint")}
    try:
        with open_device(said, options, action) as device:
            found = device.identity(asked.serial)
            versions, parts = _versions(device, asked.components), _parts(device, asked.slots)
            return DeviceReading(found.serial, found.model, found.tag, versions, parts=parts)
    except SilentError as error:
        return DeviceReading(problem=str(error), silent=True)
    except DeviceError as error:
        return DeviceReading(problem=str(error))


def _versions(device: Device, components: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {component: device.versions(component) for component in components}


def _parts(device: Device, slots: Iterable[str]) -> dict[str, str]:
    """The serial number of what is in each slot of which it says so, empty for nothing."""
    found = ((slot, device.part(slot)) for slot in slots)
    return {slot: part.serial for slot, part in found if part is not None}
