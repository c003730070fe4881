# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.gate."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearing import Opening, Wave, opening
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.gating import decide_staging_gate, decide_wave_gate
from ansible_collections.tidegate.release.plugins.plugin_utils.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal, utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home
from ansible_collections.tidegate.release.plugins.plugin_utils.telling import teller


class ActionModule(TidegateAction):
    """Decide about the open wave, or about staging, by what the journal says."""

    module = "gate"
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        run = Run(int(options["run"]["deployment"]), int(options["run"]["token"]))
        now = utc_now()

        dsl, policy, cmdb_url = home(options, "dsl"), optional_home(options, "policy"), home(options, "cmdb")

        def opens(rfc: Rfc, wave: Wave) -> Opening:
            return opening(rfc, wave, dsl, cmdb_url, policy, now)

        change = open_change(home(options, "rfc"))
        decide = decide_staging_gate if options["after"] == "staging" else decide_wave_gate
        with Cmdb.open(cmdb_url) as cmdb:
            return decide(Journal(cmdb), run, change, opens, teller(policy), now, interrupted())
