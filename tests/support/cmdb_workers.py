# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes do with a CMDB that have nothing in common with the test: they are spawned, so they import it from here."""

from __future__ import annotations

from datetime import UTC, datetime

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb


def put_one(url: str, number: int) -> None:
    """Enter a CI, in a CMDB that is made when there is none."""
    with Cmdb.open(url, create=True) as cmdb:
        cmdb.put_cis([{"name": f"web{number}"}], "test")


def upgrade_cmdb(url: str) -> None:
    """Bring a CMDB to what this version needs."""
    upgrade.upgrade(url, datetime(2026, 3, 1, 12, 0, tzinfo=UTC))


def merge_one_by_one(url: str, names: list[str], attribute: str, at_once: int) -> None:
    """Give each of these CIs an attribute, its own name, so many in a transaction."""
    with Cmdb.open(url) as cmdb:
        for start in range(0, len(names), at_once):
            cmdb.put_cis(
                [{"name": name, "attributes": {attribute: name}} for name in names[start : start + at_once]], attribute, merge=True
            )
