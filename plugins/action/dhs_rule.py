# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dhs_rule."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import remove_rules, save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user

if TYPE_CHECKING:
    import sqlalchemy as sa


class ActionModule(TidegateAction):
    """Enter or remove stock rules in one transaction."""

    module = "dhs_rule"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        write, now, rules = not self._task.check_mode, utc_now(), options["rules"]

        def enter(connection: sa.Connection) -> list[tuple[StockRule | None, StockRule | None]]:
            if options["state"] == "absent":
                names = {(rule["model"], rule["stockroom"]) for rule in rules}
                return [(rule, None) for rule in remove_rules(connection, names, this_user(task_vars), now, write)]
            return [*save_rules(connection, [_rule(rule) for rule in rules], this_user(task_vars), now, write)]

        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            changes = cmdb.change(enter) if write else cmdb.ask(enter)
        changed = [_shown(after or before) for before, after in changes]
        diff = [
            {"header": f"{rule['model']} in {rule['stockroom']}", "before": _shown(before), "after": _shown(after)}
            for rule, (before, after) in zip(changed, changes, strict=True)
        ]
        return {"changed": bool(changes), "rules": changed, "diff": diff}


def _rule(described: dict[str, Any]) -> StockRule:
    lacking = [name for name in ("threshold", "target") if described[name] is None]
    if lacking:
        raise TidegateError(f"the rule for {described['model']} in {described['stockroom']} lacks {' and '.join(lacking)}; add that")
    return StockRule(**{**described, "substitutes": tuple(described["substitutes"])})


def _shown(rule: StockRule | None) -> dict[str, Any]:
    return asdict(rule) | {"substitutes": list(rule.substitutes)} if rule else {}
