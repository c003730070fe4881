# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the per-host actions share: the journal they write to and the call to the host's half."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from .action_base import TidegateAction
from .cmdb.store import Cmdb
from .errors import TidegateError
from .rollout.deployments import Deployment, Run
from .rollout.journal import Journal
from .settings import home

# A host that freezes while a connection is open would otherwise be waited for without end; what the user sets for ssh comes first and wins.
_KEEP_ALIVE = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"


class NoAnswer(TidegateError):
    """The host's half did not end in a proper answer, so what it did is unknown."""


class HostAction(TidegateAction):
    """Base of stage, activate, confirm and backout: one task per host, write-ahead, the outcome to the journal.

    ``step`` names the operation. The host's true state may be unknown after a lost connection, so that is journalled too
    before Ansible marks the host unreachable.
    """

    libraries = ("SQLAlchemy", "jmespath", "jsonschema")
    step: str

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

    def outcome(self, answer: dict[str, Any], state: str, detail: str, wave: int | None = None) -> dict[str, Any]:
        """The task's result: failed with one sentence unless ``state`` is what the step is for."""
        result = {
            "changed": bool(answer.get("changed")),
            "state": state,
            "progress": {"step": self.step, "wave": wave, "state": state, "detail": detail},
        }
        if state not in ("staged", "started", "active", "backed_out"):
            result.update(failed=True, msg=f"{self._host}: {detail}")
        return result
