# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the per-host actions share: the journal they write to and the call to the host's half."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from .action_base import TidegateAction
from .cmdb.store import Cmdb
from .errors import TidegateError
from .interrupt import interrupted
from .rollout.answer import Answer, MalformedAnswerError, before_the_answer, parse_answer, printable
from .rollout.deployments import Deployment, Run
from .rollout.journal import Journal
from .settings import home

# A host that freezes while a connection is open would otherwise be waited for without end; what the user sets for ssh comes first and wins.
_KEEP_ALIVE = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"


_TAIL = 64 << 10  # characters of unreadable output that are looked at


class NoAnswer(TidegateError):
    """The host's half did not end in a proper answer, so what it did is unknown."""


class HostAction(TidegateAction):
    """Base of stage, activate and backout: one task per host, write-ahead, the outcome to the journal.

    ``step`` names the operation. The host's true state may be unknown after a lost connection, so that is journalled too
    before Ansible marks the host unreachable.
    """

    libraries = ("SQLAlchemy", "jmespath", "jsonschema")
    step: str

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        stop = interrupted()
        if stop:
            # Neither tried nor failed: the journal has the host as it was, and the gate holds.
            return {"changed": False, "skipped": True, "skip_reason": stop, "msg": f"it was not begun: {stop}"}
        self._host = str(task_vars["inventory_hostname"])
        self._run = Run(int(options["run"]["deployment"]), int(options["run"]["token"]))
        self._task_vars = task_vars
        self._options_ = options
        if self._connection.transport == "ssh":
            extra = self._connection.get_option("ssh_extra_args") or ""
            self._connection.set_option("ssh_extra_args", f"{extra} {_KEEP_ALIVE}".strip())
        if self._connection.has_pipelining and self._connection.get_option_and_origin("pipelining", task_vars)[1] == "default":
            # Ansible's own way needs a home that the user who logs in can write to, and more round trips.
            self._connection.set_option("pipelining", True)
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

    def call(self, deployment: Deployment, **arguments: Any) -> Answer:
        """Run the host's half; the answer has the state ``refused`` and a ``detail`` when it could not do its step and touched nothing.

        Raises :class:`NoAnswer` when what came back is not the module's or not of its form, so that what it did is unknown.
        """
        asked = time.time()
        try:
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
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            raise NoAnswer(
                printable(f"Ansible could not run its module on the host ({error}); mend the host and run this again")
            ) from error
        except Exception as error:  # whatever an odd answer makes Ansible stumble over is that host's failure and no other's
            what = type(error).__name__
            raise NoAnswer(f"Ansible could not read what it answered ({what}); look at the Python there and run this again") from error
        if "module_stdout" in answer:
            raise NoAnswer(self._why_unreadable(str(answer["module_stdout"]), str(answer.get("module_stderr") or ""), answer.get("msg")))
        try:
            parsed = parse_answer(self.step, answer)
        except MalformedAnswerError as error:
            raise NoAnswer(str(error)) from error
        if "clock" in parsed:
            parsed["skew"] = min(0.0, parsed["clock"] - asked) + max(0.0, parsed["clock"] - time.time())
        return parsed

    def _why_unreadable(self, output: str, errors: str, message: object) -> str:
        """What to say of a host whose output has no answer that Ansible can read in it."""
        first = before_the_answer(output)
        if first is not None:
            user = self._get_remote_user() or "the user that Ansible logs in as"  # type: ignore[no-untyped-call]  # ansible-core's own
            return f"its login prints {first!r} before the answer; make the login of {user} there silent when there is no terminal"
        said = f"{errors[-_TAIL:]}\n{output[-_TAIL:]}".strip().splitlines() or [str(message or "it ended without a sound")]
        full = [line.strip() for line in said if "No space left on device" in line or "No usable temporary directory" in line]
        reason = printable((full or said)[-1].strip(), 400)
        return (
            f"Ansible could not run its module on the host ({reason}); {'make room there' if full else 'mend the host'} and run this again"
        )

    def outcome(self, answer: Answer, state: str, detail: str, wave: int | None = None) -> dict[str, Any]:
        """The task's result: failed with one sentence unless ``state`` is what the step is for."""
        result = {
            "changed": bool(answer.get("changed")),
            "state": state,
            "progress": {"step": self.step, "wave": wave, "state": state, "detail": detail},
        }
        if state not in ("staged", "active", "backed_out"):
            result.update(failed=True, msg=f"{self._host}: {detail}")
        return result
