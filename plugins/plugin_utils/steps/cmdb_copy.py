# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB is copied to another database, and the copy read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..cmdb.store import Cmdb
from ..cmdb.transfer import CmdbTransfer, transfer
from ..errors import TidegateError
from .cmdb_verify import Verified, verify_cmdb


@dataclass(frozen=True)
class CmdbCopy:
    """What was copied, and what reading the copy came to; ``None`` when it was only shown."""

    transfer: CmdbTransfer
    verified: Verified | None


def copy_cmdb(url: str, target_url: str, now: datetime, *, dry_run: bool = False) -> CmdbCopy:
    """Copy the CMDB at ``url`` to the empty database at ``target_url``; see :func:`.transfer.transfer`.

    Raises :class:`TidegateError` when the original is not as it was written, before anything is copied, or when the copy is not.
    """
    with Cmdb.open(url) as cmdb:
        _require_whole(
            verify_cmdb(cmdb, []), cmdb.label, "nothing was copied; see what cmdb_verify finds, and bring back a backup that is whole"
        )
    done = transfer(url, target_url, now, dry_run=dry_run)
    if dry_run:
        return CmdbCopy(done, None)
    with Cmdb.open(target_url) as copy:
        found = verify_cmdb(copy, [])
        _require_whole(found, copy.label, "do not use it; remove it, and report this")
    return CmdbCopy(done, found)


def _require_whole(found: Verified, label: str, remedy: str) -> None:
    if found.count:
        more = f" and {found.count - 1} more" if found.count > 1 else ""
        raise TidegateError(f"the CMDB {label} is not as it was written ({found.findings[0].sentence}{more}); {remedy}")
