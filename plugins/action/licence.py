# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.licence."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.documents import parse_time
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import entitlements, remove, save
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user

if TYPE_CHECKING:
    import sqlalchemy as sa


class ActionModule(TidegateAction):
    """Enter or remove an entitlement in one transaction."""

    module = "licence"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        write, actor, now = not self._task.check_mode, this_user(task_vars), utc_now()

        def enter(connection: sa.Connection) -> tuple[Entitlement | None, Entitlement | None]:
            if options["state"] == "absent":
                return remove(connection, options["name"], actor, now, write), None
            after = _wanted(options, next((one for one in entitlements(connection) if one.name == options["name"]), None))
            return save(connection, after, actor, now, write), after

        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            before, after = cmdb.change(enter) if write else cmdb.ask(enter)
        diff = {"header": options["name"], "before": _shown(before), "after": _shown(after)}
        return {"changed": before != after, "entitlement": _shown(after) or None, "diff": [diff] if before != after else []}


def _wanted(options: dict[str, Any], known: Entitlement | None) -> Entitlement:
    """What an entitlement is to be; what the task leaves out stays as it is."""
    said: dict[str, Any] = {key: options[key] for key in ("product", "seats", "reference") if options[key] is not None}
    said |= {key: _moment(key, options[key]) for key in ("valid_from", "valid_until") if options[key] is not None}
    if known is not None:
        return replace(known, **said)
    if lacking := [key for key in ("product", "seats") if key not in said]:
        raise TidegateError(f"there is no entitlement {options['name']!a:.80} yet, so it needs {' and '.join(lacking)}")
    return Entitlement(name=options["name"], **said)


def _moment(key: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError:
        wanted = "write it with its offset from UTC, such as 2028-01-01T00:00:00+01:00"
        raise TidegateError(f"{key} is {text!a:.40}, not a moment; {wanted}") from None


def _shown(entitlement: Entitlement | None) -> dict[str, Any]:
    if entitlement is None:
        return {}
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(entitlement).items()}
