# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dsl_release."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import give_up, retire_evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import signer_name
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import Retirement, mark_purged, restore, retire, status


class ActionModule(TidegateAction):
    """Retire a release, take that back, purge it or evidence about it, or accept that something of it is lost."""

    module = "dsl_release"
    homes = ("dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name, version, state = options["name"], options["version"], options["state"]
        reason, write = " ".join((options["reason"] or "").split()), not self._task.check_mode
        if options["evidence"] is not None and state != "absent":
            raise TidegateError(f"evidence is taken out of the library with state absent, not {state}; correct one of them")
        if state == "accepted" or options["evidence"] is not None:  # a list of nothing is no release to purge
            return self._accept(options, reason, this_user(task_vars), write)
        if not reason and state != "archived":
            raise TidegateError(f"no reason is given why {name} {version} shall be {state}; write one in reason, for those who ask later")
        library = open_library(required_setting(options, "dsl"))
        digest = library.repository(name).resolve(name, version)
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            known = status(cmdb, name, version)
            if digest is None and (known is None or state != "absent"):
                raise NotFoundError(f"the DSL has no {name} {version}; correct name and version, or archive it")
            change = Retirement(name, version, digest or (known.digest if known else ""), reason, this_user(task_vars), utc_now())
            if state == "absent":
                changed, freed = digest is not None, self._purge(library, cmdb, change, write)
                return {"changed": changed or freed > 0, "digest": change.digest, "freed": freed}
            changed = (retire if state == "retired" else restore)(cmdb, change, write)
        return {"changed": changed, "digest": change.digest, "freed": 0}

    def _accept(self, options: dict[str, Any], reason: str, actor: str, write: bool) -> dict[str, Any]:
        """Give up what the library lacks, or take evidence out of it; by somebody whom the policy knows and with a signature, when it knows
        people."""
        name, version, pieces, now = options["name"], options["version"], options["evidence"], utc_now()
        if not reason:
            what = f"to take evidence about {name} {version} away" if pieces is not None else f"to accept {name} {version} as it is"
            raise TidegateError(f"no reason is given {what}; write one in reason, for those who ask later")
        policy, key, signer = load_policy(optional_setting(options, "policy")), optional_setting(options, "key"), None
        if policy.people and key is None:
            what = "evidence is taken away" if pieces is not None else "what is lost is given up"
            raise TidegateError(f"the policy names people, so {what} with a signature; give the key of one of them")
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
            actor = signer_name(policy, signer, now) if policy.people else actor
        library = open_library(required_setting(options, "dsl")).repository(name)
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            if pieces is not None:
                gone, freed = retire_evidence(cmdb, library, (name, version), pieces, reason, actor, now, signer, write)
                return {"changed": bool(gone), "digest": library.resolve(name, version) or "", "freed": freed, "retired": gone}
            lost = give_up(cmdb, library, (name, version), reason, actor, now, signer, write)
        return {"changed": bool(lost), "digest": library.resolve(name, version) or "", "freed": 0, "lost": [str(loss) for loss in lost]}

    def _purge(self, library: Library, cmdb: Cmdb, change: Retirement, write: bool) -> int:
        """Purge, when nobody refuses it any more; on record before it is done, so that nothing vanishes without a word."""
        with library.repository(change.name).purging(change.name, change.version, change.digest) as purge:
            mark_purged(cmdb, change, write)
            return purge() if write else 0
