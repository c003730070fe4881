# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dsl_sync."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import create_library, find_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, home, optional_home, same
from ansible_collections.tidegate.release.plugins.plugin_utils.trusting import Release, standing, unmet_sentence

_NAMED = 5  # releases that a warning names


class ActionModule(TidegateAction):
    """Copy what the other home lacks; fail in the end when something could not be copied."""

    module = "dsl_sync"
    libraries = ("jsonschema",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        here, there = home(options, "dsl"), expanded(options["to"])
        if same(here, there):
            raise TidegateError(f"{there} can't be a copy of itself; name another home in to")
        source, write = open_library(here), not self._task.check_mode
        policy, now = load_policy(optional_home(options, "policy")), utc_now()
        releases = choose(source, options["names"])
        target = create_library(there) if write else find_library(there)

        unmet: list[str] = []

        def refuse(name: str, version: str, digest: str) -> str:
            stands = standing(source.repository(name), policy, Release(name, version, digest), now)
            unmet.extend([stands.distrust] if stands.distrust and not stands.danger else [])
            return stands.danger

        copied = replicate(source, target, releases, refuse, write)
        beyond = sorted(target.releases().keys() - source.releases().keys()) if target else []
        copied.lacking += [f"the release {name} {version}" for name, version in beyond if not options["names"] or name in options["names"]]
        result = {"changed": bool(copied.releases or copied.blobs), **asdict(copied), "unmet": unmet}
        result["warnings"] = [unmet_sentence(unmet)] if unmet else []
        if copied.lacking:
            result["warnings"].append(
                f"{there} has what {here} lacks, {'; '.join(copied.lacking[:_NAMED])}{' ...' if copied.lacking[_NAMED:] else ''}; "
                "unless it was purged, bring it back with dsl_verify and tidegate_dsl_replica"
            )
        if copied.problems:
            result.update(failed=True, msg="\n".join(copied.problems))
        return result
