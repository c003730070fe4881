# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_history_info."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.documents import parse_time
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.history import PastOf, gates_again, history_lines, journal_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read what happened to CIs and under an RFC."""

    module = "cmdb_history_info"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        asked = PastOf(options["names"], options["number"], _time(options, "since"), _time(options, "until"))
        if not (asked.names or asked.rfc):
            raise TidegateError("neither names nor number is given; say whose past is asked for")
        if options["explain"] and not asked.rfc:
            raise TidegateError("gates are explained of an RFC, and number is not given; say which one it is")
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            journal = journal_lines(connection, asked, options["archived"])
            gates = {"gates": gates_again(connection, asked.rfc, options["archived"])} if options["explain"] else {}
            return {"changed": False, "history": history_lines(connection, asked), "journal": journal, **gates}


def _time(options: dict[str, Any], name: str) -> datetime | None:
    """An option that is a time; raises :class:`TidegateError` when it is none."""
    if options[name] is None:
        return None
    try:
        return parse_time(options[name])
    except ValueError as error:
        raise TidegateError(f"{name} is {options[name]!r:.80}, {error}; write it as 2027-03-01T20:00:00Z") from error
