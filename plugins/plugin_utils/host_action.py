# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the per-host actions share: the journal they write to and the call to the host's half."""

from __future__ import annotations

import base64
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure

from .action_base import TidegateAction
from .cmdb.store import Cmdb
from .errors import TidegateError
from .rollout.deployments import Deployment, Run
from .rollout.journal import Journal
from .settings import home

# What reads the library is imported when something is sent: activate and backout are imported anew for each host and seldom need it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from .dsl.pack import Shipment

# The host may find that something it had a moment ago is not there any more, and may lack of two releases documents and pieces.
_ROUNDS = 6
_STREAM = 32 << 20  # bytes: above it a pack is not held in memory

_LISTED = 5  # paths that a message names

# A host that freezes while a connection is open would otherwise be waited for without end; what the user sets for ssh comes first and wins.
_KEEP_ALIVE = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"


class NoAnswer(TidegateError):
    """The host's half did not end in a proper answer, so what it did is unknown."""


class HostAction(TidegateAction):
    """Base of stage, activate and backout: one task per host, write-ahead, the outcome to the journal.

    ``step`` names the operation. The host's true state may be unknown after a lost connection, so that is journalled too
    before Ansible marks the host unreachable.
    """

    libraries = ("SQLAlchemy", "jmespath", "jsonschema")
    step: str
    pushed = 0  # bytes of packs that were sent

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self._host = str(task_vars["inventory_hostname"])
        self._run = Run(int(options["run"]["deployment"]), int(options["run"]["token"]))
        self._task_vars = task_vars
        self._options_ = options
        if self._connection.transport == "ssh":
            extra = self._connection.get_option("ssh_extra_args") or ""
            self._connection.set_option("ssh_extra_args", f"{extra} {_KEEP_ALIVE}".strip())
        with Cmdb.open(home(options, "cmdb")) as cmdb:
            self._cmdb = cmdb
            journal = Journal(cmdb)
            deployment = journal.deployment(self._run.deployment)
            try:
                return self.visit(journal, deployment)
            except AnsibleConnectionFailure as error:
                self.lost(journal, f"the connection was lost: {error}")
                raise
            except NoAnswer as error:
                return self.outcome({}, self.lost(journal, str(error)), str(error))

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """Do the step on this host and journal how it went."""
        raise NotImplementedError

    def lost(self, journal: Journal, detail: str) -> str:
        """Journal that it is unknown what the host did; return the state that the host has now."""
        raise NotImplementedError

    def call(self, deployment: Deployment, **arguments: Any) -> dict[str, Any]:
        """Run the host's half; the answer has ``failed`` and ``msg`` when it could not do its step.

        ``skew`` is by how many seconds at least the host's clock differs from this one, before it (negative) or after.
        Raises :class:`NoAnswer` when what came back is not the module's: it could not start, or something ended it.
        """
        asked = time.time()
        answer: dict[str, Any] = self._execute_module(
            module_name="tidegate.release.host_release",
            module_args={
                "operation": self.step,
                "root": self._options_["root"],
                "name": deployment.release,
                "digest": deployment.digest,
                "deployment": deployment.label,
                "token": self._run.token,
                **arguments,
            },
            # The settings may hold secrets, which the host's log is not to have.
            task_vars={**self._task_vars, "ansible_no_target_syslog": True},
        )
        if "module_stdout" in answer:
            said = f"{answer.get('module_stderr') or ''}\n{answer['module_stdout']}".strip().splitlines() or [str(answer.get("msg", ""))]
            full = [line.strip() for line in said if "No space left on device" in line or "No usable temporary directory" in line]
            advice = "make room there" if full else "mend the host"
            raise NoAnswer(f"Ansible could not run its module on the host ({(full or said)[-1].strip()}); {advice} and run this again")
        if "clock" in answer:
            clock = float(answer.pop("clock"))
            answer["skew"] = min(0.0, clock - asked) + max(0.0, clock - time.time())
        return answer

    def shipment(self, deployment: Deployment, digest: str) -> Shipment:
        """What the run sends of the package ``digest``."""
        from .dsl.home import open_library
        from .dsl.pack import Shipment

        dsl = home(self._options_, "dsl")
        # In the run's own temporary directory: what one worker made there, the others take.
        constants: Any = C
        folder = Path(constants.DEFAULT_LOCAL_TMP) / "tidegate-packs"
        return Shipment(lambda: open_library(dsl).repository(deployment.release), digest, folder)

    def deliver(self, deployment: Deployment, answer: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """Bring the host what its ``answer`` says it lacks, with the order again, until it says something else or keeps lacking."""
        for _round in range(_ROUNDS):
            if answer.get("state") != "lacking":
                break
            digest = answer.get("package", deployment.digest)
            if digest not in (deployment.digest, arguments.get("previous")):
                raise TidegateError(f"it asks for the package {digest!a:.80}, which the order does not name")
            shipment = self.shipment(deployment, digest)
            pack = shipment.pack(answer["need"]) if answer.get("need") else None
            answer = self.offer(deployment, pack, **{**arguments, "documents": shipment.documents()})
        return answer

    def offer(self, deployment: Deployment, pack: Path | None, **arguments: Any) -> dict[str, Any]:
        """Call the host's half with a pack, if there is one: a small one along with the call, a large one ahead of it."""
        if pack is None:
            return self.call(deployment, **arguments)
        from .dsl.pack import INLINE

        size = pack.stat().st_size
        self.pushed += size
        if size <= INLINE:
            return self.call(deployment, contents=base64.b64encode(pack.read_bytes()).decode(), **arguments)
        core: Any = self  # ansible-core has no types for what it calls here
        remote = self._stream(deployment, pack) if size <= _STREAM and core._is_pipelining_enabled("new") else ""
        if not remote:
            shell = core._connection._shell
            remote = shell.join_path(shell.tmpdir or core._make_tmp_path(), pack.name)
            core._transfer_file(str(pack), remote)
            core._fixup_perms2([shell.tmpdir, remote], execute=False)
        return self.call(deployment, pack=remote, **arguments)

    def _stream(self, deployment: Deployment, pack: Path) -> str:
        """Write a pack where the host's half takes it from, all in one round trip; an empty string if that does not work there."""
        path = f"{self._options_['root']}/{deployment.release}/staging"
        remote = f"{path}/{pack.name}"
        home, staging, file = (shlex.quote(name) for name in (f"{self._options_['root']}/{deployment.release}", path, remote))
        # What is made is made as the host's half makes it; a link in place of a directory is left to it to complain about.
        command = (
            f"umask 022 && mkdir -p {home} && [ ! -L {home} ] && umask 077 && mkdir -p {staging} && [ ! -L {staging} ] && cat > {file}"
        )
        core: Any = self
        done = core._low_level_execute_command(command, in_data=pack.read_bytes())
        return remote if done["rc"] == 0 else ""

    def switch(self, deployment: Deployment, previous: str | None, **arguments: Any) -> dict[str, Any]:
        """Have the host make a release live, and bring it what it lacks to put that right; see :meth:`call`.

        What the library does not have either leaves the host to its own good copies.
        """
        arguments = {"previous": previous, "settings": self._options_["settings"], **arguments}
        answer = self.call(deployment, supply=True, **arguments)
        problem = "what it lacks keeps changing, find out who writes there"
        try:
            answer = self.deliver(deployment, answer, supply=True, **arguments)
        except NoAnswer:
            raise
        except TidegateError as error:
            problem = f"what it lacks can't be sent: {error}"
        if answer.get("state") == "lacking":
            answer = self.call(deployment, **arguments)
            said = "msg" if answer.get("failed") else "detail"
            if answer.get(said):
                answer[said] = f"{answer[said]} ({problem})"
        return answer

    def repaired(self, answer: dict[str, Any], detail: str) -> tuple[str, dict[str, Any]]:
        """What to journal of files that were put right, in addition to ``detail``; and the warning for the task's result."""
        paths = [str(path) for path in answer.get("repaired", ())]
        if not paths:
            return detail, {}
        listed = f"{', '.join(paths[:_LISTED])}{f' and {len(paths) - _LISTED} more' if len(paths) > _LISTED else ''}"
        said = f"{len(paths)} files were not as archived and were put right: {listed}"
        return "; ".join(filter(None, (detail, said))), {"warnings": [f"{self._host}: {said}"]}

    def outcome(self, answer: dict[str, Any], state: str, detail: str, wave: int | None = None) -> dict[str, Any]:
        """The task's result: failed with one sentence unless ``state`` is what the step is for."""
        result = {
            "changed": bool(answer.get("changed")),
            "state": state,
            "progress": {"step": self.step, "wave": wave, "state": state, "detail": detail},
        }
        if state not in ("staged", "active", "backed_out"):
            result.update(failed=True, msg=f"{self._host}: {detail}")
        return result
