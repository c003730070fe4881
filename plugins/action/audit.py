# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.audit."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.auditing import compare, not_compared
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licensing import installed_products, without_seat
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home
from ansible_collections.tidegate.release.plugins.plugin_utils.trusting import judge_library
from ansible_collections.tidegate.release.plugins.plugin_utils.write_off import end_write_offs, this_user


class ActionModule(TidegateAction):
    """Gather the CMDB's and the DSL's side, judge the signatures, compare, fail on a difference."""

    module = "audit"
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if not options["found"]:
            raise TidegateError("there is no host to audit, so nothing was compared; check tidegate_hosts and the inventory")
        library = open_library(home(options, "dsl"))
        archived = {descriptor.digest for descriptor in library.releases().values()}
        untrusted, by_revoked = judge_library(library, load_policy(optional_home(options, "policy")), utc_now())
        with Cmdb.open(home(options, "cmdb")) as cmdb:
            here = [host for host, releases in options["found"].items() if releases is not None]
            write = not self._task.check_mode
            returned = end_write_offs(cmdb, here, "it answered an audit", this_user(), utc_now(), write)
            gone = cmdb.write_offs(host for host in options["found"] if host not in here)
            found = {host: releases for host, releases in options["found"].items() if host not in gone}
            recorded = cmdb.installations(sorted(found))
            # One that the DSL does not hold is named for that.
            products = installed_products(library, [row for row in recorded if row["digest"] in archived])
            unlicensed = without_seat(cmdb, recorded, products, utc_now())
        differences = compare(found, recorded, archived, untrusted, unlicensed)
        result: dict[str, Any] = {
            "changed": bool(returned),
            "differences": differences + not_compared(gone),
            "returned": returned,
            "by_revoked": by_revoked,
            "warnings": by_revoked + [f"{host} was written off and is there again" for host in returned],
        }
        lines = [f"{difference['host'] or 'DSL'}: {difference['detail']}" for difference in result["differences"]]
        if differences:
            result.update(failed=True, msg=f"{len(lines)} differences between hosts, CMDB and DSL:\n" + "\n".join(lines))
        else:
            result["msg"] = "\n".join((f"{len(found)} hosts run what the CMDB says and the DSL holds", *lines))
        return result
