# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dsl_verify."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import Recovery, recover, unfinished, vanished, without_evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.salvage import salvage
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import Damage, Scrub, scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Loss, how_to_copy_evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import (
    list_release,
    meant_by,
    remember_library,
    retired_pieces,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, optional_setting, required_setting, same


class ActionModule(TidegateAction):
    """Look at every byte, heal what can be healed, fail when something is left, or when nothing was there to look at."""

    module = "dsl_verify"
    homes = ("dsl",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dsl, write, names = required_setting(options, "dsl"), not self._task.check_mode, options["names"]
        other = expanded(options["replica"]) if options["replica"] else None
        if other and same(other, dsl):
            raise TidegateError(f"{dsl} can't heal itself; name another home in replica")
        replica = open_library(other) if other else None
        cmdb = optional_setting(options, "cmdb")
        meant = meant_by(cmdb, names)  # one that can't be read is said before anything is healed
        library, rebuilt, problems = _open(dsl, replica, write)
        theirs = {key[0] for key in replica.releases(meant.releases()) if meant.has(key)} if replica else set()
        if not any(meant.has(key) for key in library.releases({*meant.releases(), *theirs})):
            return _nothing(dsl, other, recover(library, replica, meant, write=False), library, names)
        found = scrub(library, replica, write, also={*meant.releases(), *theirs}, retired=lambda: retired_pieces(cmdb))
        # Read again, for the scrub takes long: what was purged meanwhile is not lost.
        meant = meant_by(cmdb, names)
        recovery = recover(library, replica, meant, write)
        if replica and not theirs:
            recovery.problems.append(f"the replica {other} has no release, so nothing was compared with it; correct tidegate_dsl_replica")
        recovery.problems += [*vanished(library, found, recovery, meant), *found.misnamed.values()]
        found.damaged += [_lost(loss) for loss in recovery.lost]
        found.healed += [_lost(loss) for loss in recovery.healed]
        if write:
            for name in sorted({name for name, _version in found.releases} - library.listed()):
                problems += list_release(library.repository(name), name)
            problems += remember_library(cmdb, library, names, utc_now(), found.misnamed) if cmdb else []
        if theirs and any(recovery.behind):
            releases, pieces = recovery.behind
            problems.append(f"the replica lacks {releases} releases and {pieces} pieces of evidence that {dsl} has; run dsl_sync")
        problems += [*filter(None, [library.incomplete()]), *found.problems, *without_evidence(found), *unfinished(found, meant)]
        result: dict[str, Any] = {
            "changed": rebuilt or bool(found.healed or found.collected),
            "index_rebuilt": rebuilt,
            "releases": len(found.releases),
            "blobs": found.blobs,
            "size": found.size,
            "unnamed": found.unnamed,
            "unnamed_size": found.unnamed_size,
            "collected": found.collected,
            "collected_size": found.collected_size,
            "damaged": [_told(damage) for damage in found.damaged],
            "healed": [_told(damage) for damage in found.healed],
            "warnings": problems,
        }
        looked = f"{counted(len(found.releases), 'release')}, {counted(found.blobs, 'blob')}, {found.size} bytes"
        if found.damaged or recovery.problems:
            lines = [*map(str, found.damaged), *recovery.problems]
            many = "1 thing of {} is" if len(lines) == 1 else f"{len(lines)} things of {{}} are"
            advice = _advice(found, recovery, healing=replica is not None)
            result.update(failed=True, msg=f"{many.format(dsl)} damaged or missing; {advice}:\n" + "\n".join(lines))
        elif found.healed:
            done = "were healed" if write else "are damaged or missing and could be healed"
            origin = f" from {other}" if other else ""
            lines = [f"{looked}, were looked at; {len(found.healed)} {done}{origin}", *map(str, found.healed)]
            result["msg"] = "\n".join(lines)
        else:
            result["msg"] = f"{looked}, are what their digests say"
        if found.collected:
            done = "were removed" if write else "would be removed"
            result["msg"] += f"\n{counted(found.collected, 'blob')}, {found.collected_size} bytes, that nothing names {done}"
        return result


def _advice(found: Scrub, recovery: Recovery, healing: bool) -> str:
    """What to do about what is damaged or missing."""
    advice = "the replica could not heal that" if healing else "name a replica to heal it from"
    if recovery.lost:
        advice += "; what is lost for good is given up with dsl_release, state accepted"
    for loss in recovery.lost:
        digest, pieces = found.releases.get((loss.name, loss.version), ("", 1))
        if not pieces:
            return f"{advice}; {how_to_copy_evidence(digest)}"
    return advice


def _nothing(dsl: str, other: str | None, recovery: Recovery, library: Library, names: list[str] | None) -> dict[str, Any]:
    """A library without a release is not healed: its address may be mistyped, and somebody else's place would be filled."""
    whom = f" of {', '.join(names)}" if names else ""
    lost = [_lost(loss) for loss in recovery.lost + recovery.healed]
    advice = f"correct tidegate_dsl{' or tidegate_dsl_names' if names else ''}, or archive a release there first"
    if recovery.healed:
        advice = f"correct tidegate_dsl, or if it was wiped, copy it back with dsl_sync, tidegate_dsl {other} and tidegate_dsl_to {dsl}"
    elif lost:
        advice = "correct tidegate_dsl, or copy it back from a second home with dsl_sync"
    lines = [f"there is no release{whom} in {dsl}, so nothing was verified; {advice}", *map(str, lost), *recovery.problems]
    if hint := library.incomplete():
        lines.append(hint)
    counts = dict.fromkeys(("releases", "blobs", "size", "unnamed", "unnamed_size", "collected", "collected_size"), 0)
    told = [_told(damage) for damage in lost]
    return {"failed": True, "changed": False, "msg": "\n".join(lines), "index_rebuilt": False, **counts, "damaged": told, "healed": []}


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
