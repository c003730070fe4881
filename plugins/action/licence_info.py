# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.licence_info."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.usage import installed_products, survey, without_seat
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read the entitlements, who uses them, and what is installed without a seat."""

    module = "licence_info"
    homes = ("dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        now, product = utc_now(), options["product"]
        library = open_library(required_setting(options, "dsl"))
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            installations = cmdb.installations()
            lacking = without_seat(cmdb, installations, installed_products(library, installations), now)
            found = survey(cmdb, product, now)
        # What could not be found out may be of any product.
        shown = [asdict(one) for one in lacking if product is None or one.product in (None, product)]
        return {"changed": False, "entitlements": found, "unlicensed": shown}
