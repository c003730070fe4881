# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an RFC comes from and where its course is written: a file, or a change system."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ..documents import load_document
from .course import Course
from .model import Rfc, build_rfc, is_in_servicenow


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


def load_rfc(address: str | Path) -> Rfc:
    """Load an rfc.yml, or a change request from ServiceNow.

    Raises :class:`DocumentError` with every problem, :class:`TidegateError` when the change system can't be asked.
    """
    if not is_in_servicenow(address):
        return build_rfc(load_document(address, "rfc"))
    from .servicenow import ServiceNowChange  # noqa: PLC0415 - slow to import, and few need it

    return ServiceNowChange(str(address)).read()


def rfc_number(address: str | Path) -> str:
    """The number of the RFC at an address, whatever else is wrong there: a deployment has to be backed out when its RFC is damaged, too.

    A change system is not asked, for it is in the address. Raises like :func:`load_rfc` when there is no number.
    """
    if not is_in_servicenow(address):
        try:
            found = Path(address).stat()
        except (OSError, ValueError):
            return _number_in(str(address), ())
        return _number_in(str(address), (found.st_ino, found.st_size, found.st_mtime_ns))
    from .servicenow import InstanceAddress  # noqa: PLC0415 - as above

    return InstanceAddress.parse(str(address)).number


@functools.cache
def _number_in(path: str, _version: tuple[int, ...]) -> str:
    """Kept for a file as it is: each host's step asks, in a fork of the process that has read it already."""
    document = load_document(path, "rfc")
    if not document.is_good(("number",)):
        document.finish()
    return str(document.data["number"])
