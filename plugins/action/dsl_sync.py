# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dsl_sync."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import recover
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import Copied, choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library, find_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import meant_by
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName, judge_package, unmet_sentence
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, optional_setting, required_setting, same

_NAMED = 5  # releases that a warning names
_LISTED = 20  # releases of which it is said what was copied


class ActionModule(TidegateAction):
    """Copy what the other home lacks; fail in the end when something could not be copied, or is lost here."""

    module = "dsl_sync"
    homes = ("dsl",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        here, there, names = required_setting(options, "dsl"), expanded(options["to"]), options["names"]
        if same(here, there):
            raise TidegateError(f"{there} can't be a copy of itself; name another home in to")
        source, write = open_library(here).at_one_moment(), not self._task.check_mode
        policy, now = load_policy(optional_setting(options, "policy")), utc_now()
        meant = meant_by(optional_setting(options, "cmdb"), names)
        releases = choose(source, names, meant.releases())
        if not releases:
            raise NotFoundError(_nothing(here, there, source))
        target = create_library(there) if write else find_library(there)
        target = target and target.at_one_moment()
        lost = recover(source, None, meant, write=False).lost

        unmet: list[str] = []

        def refuse(name: str, version: str, digest: str) -> str:
            stands = judge_package(source.repository(name), policy, PackageName(name, version, digest), now)
            unmet.extend([stands.distrust] if stands.distrust and not stands.danger else [])
            return stands.danger

        copied = replicate(source, target, releases, refuse, write, meant.retired)
        beyond = target.releases({name for name, _version in releases}).keys() - releases.keys() if target else set()
        copied.lacking += [f"the release {name} {version}" for name, version in sorted(beyond) if not names or name in names]
        result = {"changed": bool(copied.releases or copied.blobs), **asdict(copied), "unmet": unmet, "lost": [str(loss) for loss in lost]}
        result["warnings"] = [*([unmet_sentence(unmet)] if unmet else []), *filter(None, [source.incomplete()])]
        if copied.lacking:
            result["warnings"].append(
                f"{there} has what {here} lacks, {'; '.join(copied.lacking[:_NAMED])}{' ...' if copied.lacking[_NAMED:] else ''}; "
                "unless it was purged, bring it back with dsl_verify and tidegate_dsl_replica"
            )
        lines = _done(copied, there, write)
        if copied.problems or lost:
            remedy = "bring it back with dsl_verify and tidegate_dsl_replica, or give it up with dsl_release, state accepted"
            wrong = [*copied.problems, *(f"{here} lacks what it had: {loss}; {remedy}" for loss in lost)]
            result["failed"] = True
            lines = [f"{counted(len(wrong), 'thing')} of {here} could not be copied", *wrong, *lines]
        result["msg"] = "\n".join(lines)
        return result


def _done(copied: Copied, there: str, write: bool) -> list[str]:
    """What was copied, in sentences: all together, and the first releases."""
    new = sum(one["new"] for one in copied.releases)
    lines = [
        f"{counted(new, 'release')} and {_evidence(copied.evidence)}, {counted(copied.blobs, 'blob')}, {copied.size} bytes, "
        f"{'were' if write else 'would be'} copied to {there}; {counted(copied.present, 'release')} "
        f"{'was' if copied.present == 1 else 'were'} there already"
    ]
    for one in copied.releases[:_LISTED]:
        what = f"{'with' if one['new'] else 'only'} {_evidence(one['evidence'])}"
        lines.append(f"{one['name']} {one['version']} {what}")
    more = len(copied.releases) - _LISTED
    return [*lines, f"and {more} more releases"] if more > 0 else lines


def _evidence(number: int) -> str:
    return "1 piece of evidence" if number == 1 else f"{number} pieces of evidence"


def _nothing(here: str, there: str, source: Library) -> str:
    """Why an empty library is not copied."""
    with contextlib.suppress(TidegateError):
        target = find_library(there)
        count = len(target.releases()) if target else 0
        if count:
            return (
                f"there is no release in {here}, and {count} are in {there}, so nothing was copied; correct tidegate_dsl, or if it was "
                f"wiped, copy it back with tidegate_dsl {there} and tidegate_dsl_to {here}"
            )
    return "; ".join(filter(None, [f"there is no release in {here}, so nothing was copied; correct tidegate_dsl", source.incomplete()]))
