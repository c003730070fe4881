# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.stage."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.tidegate.release.plugins.module_utils.mirror import Mirror
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.pack import INLINE, Shipment, UnknownPieceError
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.host_action import HostAction, NoAnswer
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.answer import REFUSED, Answer, printable
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal, utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import Standing, standing
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home
from ansible_collections.tidegate.release.plugins.plugin_utils.trusting import Release, distrust_once

# The host may find that something it had a moment ago is not there any more, or that the CMDB was wrong about what it has.
_ROUNDS = 3
_PART = 16 << 20  # bytes of a pack that are held in memory, by each fork, and written at once


class ActionModule(HostAction):
    """Give the host what it lacks, in as few round trips as that takes, and journal how it went."""

    module = "stage"
    step = "stage"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        dsl = home(self._options_, "dsl")
        release = Release(deployment.release, deployment.version, deployment.digest)
        # In the run's own temporary directory: the first worker looks at the signatures, the others read what it found.
        distrust = distrust_once(
            Path(C.DEFAULT_LOCAL_TMP) / "tidegate-trust", dsl, optional_home(self._options_, "policy"), release, utc_now()
        )
        if distrust:
            journal.stage_failed(self._run, self._host, distrust, utc_now())
            return self.outcome({}, "stage_failed", distrust)
        mirror = self._mirror()
        # In the run's own temporary directory: what one worker made there, the others take.
        folder = Path(C.DEFAULT_LOCAL_TMP) / "tidegate-packs"
        shipment = Shipment(lambda: open_library(dsl).repository(deployment.release), deployment.digest, folder)
        stands = standing(self._cmdb, self._host, deployment.release)
        arguments: dict[str, Any] = {
            "documents": shipment.documents(),
            "keep": deployment.rollout.keep,
            "protect": list(stands.needed),
        }
        pack = None if mirror else self._unasked(shipment, stands)
        answer = self._offer(deployment, pack, **arguments, **mirror)
        pushed = pack.stat().st_size if pack else 0
        found = answer.get("mirror", {})
        for _round in range(_ROUNDS):
            if answer["state"] != "lacking":
                break
            try:
                pack = shipment.pack(answer["need"])
            except UnknownPieceError as error:
                raise NoAnswer(f"it asks for what the release does not have ({error}); find out who answers there") from error
            answer = self._offer(deployment, pack, **arguments)
            pushed += pack.stat().st_size
        detail = answer["detail"] if answer["state"] == REFUSED else ""
        if answer["state"] == "lacking":
            detail = "what it has of the release keeps changing; find out who writes there and run this again"
        skew, limit = answer.get("skew", 0.0), deployment.rollout.clock_skew_seconds
        if abs(skew) > limit and not detail:
            detail = f"its clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the controller's, more than {limit}"
            detail += "; set it, or rollout.clock_skew_seconds in the policy"
        if answer["state"] != "staged" or detail:
            journal.stage_failed(self._run, self._host, detail, utc_now())
            return self.outcome(answer, "stage_failed", detail)
        journal.staged(self._run, self._host, answer["live"], utc_now())
        result = {
            **self.outcome(answer, "staged", ""),
            "sent": answer.get("sent", 0),
            "linked": answer.get("linked", 0),
            "source": "push" if pushed else "mirror" if found.get("bytes") else "host",
            "bytes": pushed or found.get("bytes", 0),
        }
        if found.get("problem"):
            result["mirror_problem"] = found["problem"]
            result["warnings"] = [f"{self._host} could not use its mirror: {found['problem']}; what it lacked was pushed"]
        return result

    def lost(self, journal: Journal, detail: str) -> str:
        journal.stage_failed(self._run, self._host, detail, utc_now())
        return "stage_failed"

    def _mirror(self) -> dict[str, str]:
        url = self._options_["mirror"]
        if not url:
            return {}
        try:
            Mirror(url)
        except HostError as error:
            raise TidegateError(f"{self._host}: {error}") from None
        return {"mirror": url}

    def _unasked(self, shipment: Shipment, stands: Standing) -> Path | None:
        """What can be sent before the host says what it lacks, because that is known or all but known."""
        if stands.fresh:
            return shipment.whole()
        return shipment.expected(stands.installed) if stands.installed else None

    def _offer(self, deployment: Deployment, pack: Path | None, **arguments: Any) -> Answer:
        """Call the host's half with a pack, if there is one: a small one along with the call, a large one ahead of it."""
        if pack is None:
            return self.call(deployment, **arguments)
        if pack.stat().st_size <= INLINE:
            return self.call(deployment, contents=base64.b64encode(pack.read_bytes()).decode(), **arguments)
        if self._is_pipelining_enabled("new"):
            remote, problem = self._stream(deployment, pack)
        else:
            shell = self._connection._shell
            remote, problem = shell.join_path(shell.tmpdir or self._make_tmp_path(), pack.name), ""
            self._transfer_file(str(pack), remote)
            self._fixup_perms2([shell.tmpdir, remote], execute=False)
        # The host's half knows best what is wrong there: a link in place of a directory, or no room.
        answer = self.call(deployment, **arguments) if problem else self.call(deployment, pack=remote, **arguments)
        if problem and answer["state"] == "lacking":
            raise NoAnswer(f"what it lacks could not be written to {remote} ({problem}); mend the file system there and run this again")
        return answer

    def _stream(self, deployment: Deployment, pack: Path) -> tuple[str, str]:
        """Write a pack where the host's half sweeps it away, part by part; return where, and why not if that does not work there.

        No other place is sure to have room for it, or to be there: a user who logs in may have no home.
        """
        path = f"{self._options_['root']}/{deployment.release}/staging"
        remote = f"{path}/{pack.name}"
        home, staging, file = (shlex.quote(name) for name in (f"{self._options_['root']}/{deployment.release}", path, remote))
        # What is made is made as the host's half makes it; a link in place of a directory is left to it to complain about.
        command = f"umask 022 && mkdir -p {home} && [ ! -L {home} ] && umask 077 && mkdir -p {staging} && [ ! -L {staging} ]"
        arrow = ">"
        with pack.open("rb") as stream:
            while part := stream.read(_PART):
                done = self._low_level_execute_command(f"{command} && cat {arrow} {file}", in_data=part)
                if done["rc"] != 0:
                    said = str(done["stderr"]).strip().splitlines() or [f"status {done['rc']}"]
                    return remote, printable(said[-1], 200)
                arrow = ">>"
        return remote, ""
