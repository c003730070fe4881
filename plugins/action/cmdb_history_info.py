# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_history_info."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import past_of, time_option
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.replay import PastCmdb, as_told
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.history import PastOf, gates_again, history_lines, journal_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read what happened to CIs and under an RFC."""

    module = "cmdb_history_info"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        asked = PastOf(options["names"], options["number"], time_option(options, "since"), time_option(options, "until"))
        at = time_option(options, "at")
        if not (asked.names or asked.rfc):
            raise TidegateError("neither names nor number is given; say whose past is asked for")
        if options["explain"] and not asked.rfc:
            raise TidegateError("gates are explained of an RFC, and number is not given; say which one it is")
        if at is not None and not asked.names:
            raise TidegateError("at asks what CIs were, and names is not given; say which CIs")
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            journal = journal_lines(connection, asked, options["archived"])
            gates = {"gates": gates_again(connection, asked.rfc, options["archived"])} if options["explain"] else {}
            cis = {} if at is None else {"cis": _cis(past_of(connection, at, utc_now()), asked.names)}
            return {"changed": False, "history": history_lines(connection, asked), "journal": journal, **gates, **cis}


def _cis(past: PastCmdb, names: Collection[str]) -> list[dict[str, Any]]:
    return as_told([ci for ci in past.query_rows() if ci["name"] in names], past.relation_rows())
