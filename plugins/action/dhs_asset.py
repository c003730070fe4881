# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dhs_asset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units, shown
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MOVES, WITH_STOCKROOM, MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stock import tell_low


class ActionModule(TidegateAction):
    """Move units in one transaction, and tell people when that leaves too few."""

    module = "dhs_asset"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        write, now = not self._task.check_mode, utc_now()
        given = optional_setting(options, "policy")
        policy = load_policy(given) if given else None
        orders = [_order(options, unit) for unit in options["units"]]
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            with cmdb.begin() if write else cmdb.read() as connection:
                changes = move_units(connection, orders, this_user(task_vars), now, write, options["reason"])
            # Without one it is not known for how many days a reading counts, and who counts otherwise would have people told again.
            problems = list(tell_low(cmdb, policy, this_user(task_vars), now)[1].problems) if write and policy else []
        after = {one.after.tag: one.after for one in changes}
        before = {one.after.tag: one.before for one in reversed(changes)}
        diff = [{"header": tag, "before": shown(old) if (old := before[tag]) else {}, "after": shown(unit)} for tag, unit in after.items()]
        more = {"warnings": problems} if problems else {}
        return {"changed": bool(changes), "units": [shown(unit) for unit in after.values()], "diff": diff, **more}


def _order(options: Mapping[str, Any], unit: Mapping[str, Any]) -> MoveOrder:
    """The order for one unit, with what the task says for all of them, as far as the move has a use for it."""
    said = {key: value for key, value in unit.items() if value}
    target = MOVES[options["move"]].target
    common = {"stockroom": options["stockroom"]} if target in WITH_STOCKROOM and options["move"] != "inspect" else {}
    return MoveOrder(options["move"], **{"substate": options["substate"], **common, **said})
