# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_impact."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.impact import impact
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Follow the relations at one moment."""

    module = "cmdb_impact"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if options["hops"] is not None and options["hops"] < 1:
            raise TidegateError(f"hops is {options['hops']}; it has to be 1 or more")
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            known = {ci["name"] for ci in cmdb.cis(options["names"], connection)}
            if missing := sorted(set(options["names"]) - known):
                raise NotFoundError(f"the CMDB {cmdb.label} has no CI {', '.join(missing)}; correct names")
            found = impact(connection, cmdb.model(connection), known, hops=options["hops"], upstream=options["upstream"])
        nearest = sorted(found.items(), key=lambda entry: (entry[1].hops, entry[0]))
        return {"changed": False, "hits": [{"name": name, "hops": hit.hops, "chain": list(hit.chain)} for name, hit in nearest]}
