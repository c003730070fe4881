# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts are asked for comes from the policy and from the CMDB, read once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.action import audit_scope
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import record_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from documents import policy_of, write_document

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_it_says_where_to_look_and_what_is_on_record(tmp_path: Path) -> None:
    url = str(tmp_path / "cmdb.sqlite")
    with Cmdb.open(url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], "test")
        with cmdb.begin() as connection:
            record_sets(connection, "web1", {"cron": ("0" * 64, {})}, "carl", "as it was", NOW)
    action: Any = audit_scope.ActionModule.__new__(audit_scope.ActionModule)
    result = action.execute({"cmdb": url, "policy": None}, {})
    assert result == {"changed": False, "copies": ["/opt", "/srv"], "recorded": {"web1": {"cron": "0" * 64}}}
    policy = write_document(tmp_path / "policy.yml", policy_of(audit={"copies": ["/data"]}))
    assert action.execute({"cmdb": url, "policy": str(policy)}, {})["copies"] == ["/data"]
