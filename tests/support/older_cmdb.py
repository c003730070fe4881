# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB as an older version of the collection made it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb


def enter_in_older(url: str, of_class: str = "server", name: str = "web1", **attributes: Any) -> None:
    """Enter a CI by what every version has had of it. The caller has made :data:`upgrade.HEAD` the older one's."""
    now = datetime.now(UTC)
    row = {"name": name, "class_": of_class, "attributes": attributes, "created": now, "updated": now}
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        connection.execute(sa.insert(schema().ci), row)
        line = {
            "at": now,
            "actor": "test",
            "ci": name,
            "event": "created",
            "data": {"after": {"class": of_class, "attributes": attributes}},
        }
        connection.execute(sa.insert(schema().history), line)
