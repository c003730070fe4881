# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when a device runs other firmware than is recorded: from the last reading that was as recorded to the first that was not. Pure.

No device says when it was flashed, so that is all that can be known of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..dhs.level import FirmwareReading
from ..dhs.unit_check import DeviceReading, RecordedDevice
from .audit_changes import Part, Parts, rfc3339


@dataclass(frozen=True)
class PastReadings:
    """What was known before this audit.

    ``readings``: by tag of a unit, what it said when it was read last; ``named``: by CI and detail of a difference that audits before
    this one have named all along, since when it is there.
    """

    this_audit: datetime
    readings: Mapping[str, Iterable[FirmwareReading]] = field(default_factory=dict)
    named: Mapping[tuple[str, str], Part] = field(default_factory=dict)

    def parts(self, device: RecordedDevice, answer: DeviceReading, detail: str) -> Parts:
        """When each component came to run what ``detail`` says, as far as it is known."""
        before = {one.component: one for one in self.readings.get(device.unit.tag, ())} if device.unit else {}
        return [
            self._part(wanted, answer.versions.get(component, ()), before.get(component), self.named.get((device.ci, detail)))
            for component, wanted in sorted(device.versions.items())
            if answer.versions.get(component, ()) != (wanted,)
        ]

    def _part(self, wanted: str, said: tuple[str, ...], before: FirmwareReading | None, named: Part | None) -> Part:
        if before is not None and before.version == wanted:
            return _text(before.at), _text(self.this_audit)
        if named is not None:
            return named
        return None, _text(before.at if before is not None and said == (before.version,) else self.this_audit)


def _text(moment: datetime) -> str:
    return rfc3339(moment.timestamp())
