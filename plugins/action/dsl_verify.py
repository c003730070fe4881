# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dsl_verify."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import Library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import recover
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.salvage import salvage
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import Damage, scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Loss
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import meant_by, remember_library
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, home, optional_home, same


class ActionModule(TidegateAction):
    """Look at every byte, heal what can be healed, fail when something is left."""

    module = "dsl_verify"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dsl, write = home(options, "dsl"), not self._task.check_mode
        other = expanded(options["replica"]) if options["replica"] else None
        if other and same(other, dsl):
            raise TidegateError(f"{dsl} can't heal itself; name another home in replica")
        replica = open_library(other) if other else None
        cmdb = optional_home(options, "cmdb")
        meant_by(cmdb, options["names"])  # one that can't be read is said before anything is healed
        library, rebuilt, problems = _open(dsl, replica, write)
        found = scrub(library, replica, write)
        # Read again, for the scrub takes long: what was purged meanwhile is not lost.
        recovery = recover(library, replica, meant_by(cmdb, options["names"]), write)
        found.damaged += [_lost(loss) for loss in recovery.lost]
        found.healed += [_lost(loss) for loss in recovery.healed]
        if cmdb and write:
            problems += remember_library(cmdb, library, options["names"], utc_now())
        if any(recovery.behind):
            releases, pieces = recovery.behind
            problems.append(f"the replica lacks {releases} releases and {pieces} pieces of evidence that {dsl} has; run dsl_sync")
        result: dict[str, Any] = {
            "changed": rebuilt or bool(found.healed),
            "index_rebuilt": rebuilt,
            "blobs": found.blobs,
            "size": found.size,
            "unnamed": found.unnamed,
            "unnamed_size": found.unnamed_size,
            "damaged": [_told(damage) for damage in found.damaged],
            "healed": [_told(damage) for damage in found.healed],
            "warnings": problems,
        }
        if found.damaged or recovery.problems:
            advice = "the replica could not heal that" if replica else "name a replica to heal it from"
            if recovery.lost:
                advice += "; what is lost for good is given up with dsl_release, state accepted"
            lines = [*map(str, found.damaged), *recovery.problems]
            result.update(failed=True, msg=f"{len(lines)} things of {dsl} are damaged or missing; {advice}:\n" + "\n".join(lines))
        else:
            result["msg"] = f"{found.blobs} blobs, {found.size} bytes, are what their digests say"
            if found.healed:
                done = "were healed" if write else "are damaged or missing and could be healed"
                result["msg"] = f"{found.blobs} blobs, {found.size} bytes, were looked at; {len(found.healed)} {done}"
        return result


def _open(dsl: str, replica: Library | None, write: bool) -> tuple[Library, bool, list[str]]:
    """The library, with a new index if its own is damaged and there is a replica to take it from."""
    try:
        return open_library(dsl), False, []
    except IntegrityError as error:
        salvaged = salvage(dsl, replica) if replica and write and "://" not in dsl else None
        if salvaged is None:
            raise IntegrityError(f"{error}, or run dsl_verify with a replica to have it rebuilt") from error
        return salvaged[0], True, salvaged[1]


def _lost(loss: Loss) -> Damage:
    seen = f", seen {loss.at.isoformat(timespec='seconds')}" if loss.at else ""
    return Damage(loss.digest, f"lost ({loss.what.rstrip(',')}{seen})", ((loss.name, loss.version),))


def _told(damage: Damage) -> dict[str, Any]:
    releases = [{"name": name, "version": version} for name, version in damage.releases]
    return {"digest": damage.digest, "what": damage.what, "releases": releases}
