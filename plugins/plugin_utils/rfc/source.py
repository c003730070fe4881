# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an RFC comes from and where its course is written: a file, or a change system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .course import Course
from .model import Rfc, is_in_servicenow, load_rfc


class Change(Protocol):
    """A change, wherever its RFC is kept."""

    def read(self) -> Rfc:
        """The RFC as it is now; raises :class:`TidegateError`."""

    def record(self, course: Course, notes: Iterable[str], before: Course | None, /) -> None:
        """Write how far it has come; raises :class:`TidegateError` naming what did not get there.

        ``notes`` are sentences that are added; ``before`` is what was written the last time.
        """


class FileChange:
    """An RFC in a file. It belongs to people, who may keep it in git, so its course is only in the CMDB's register."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> Rfc:
        """The RFC as it is now."""
        return load_rfc(self._path)

    def record(self, _course: Course, _notes: Iterable[str], _before: Course | None, /) -> None:
        """Nothing: see above."""


def open_change(address: str) -> Change:
    """The change at an address; nobody is asked yet. Raises :class:`TidegateError` when it is malformed."""
    if not is_in_servicenow(address):
        return FileChange(address)
    from .servicenow import ServiceNowChange  # noqa: PLC0415 - slow to import, and few need it

    return ServiceNowChange(address)
