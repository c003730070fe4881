# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a wave reached, written as it happens: by this a release's own role is believed, and by nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: receipt
type: notification
short_description: Receipts of a release's own role
version_added: 0.1.0
author:
  - Tidegate maintainers (@tidegate)
description:
  - Writes, for M(tidegate.release.apply), which host reached the last task of a release's role, which task failed or lost the host.
  - Before each task of a deployment it looks whether this run still holds that, and ends it at once when another has taken over.
  - Of tasks that are not the collection's it writes names, and nothing that they say.
requirements:
  - Enabled by M(tidegate.release.apply) for the run that it starts; there is nothing to configure.
seealso:
  - module: tidegate.release.apply
"""

import json
import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.tidegate.release.plugins.module_utils.processes import find_prctl
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_run import ORDER
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.workers import die_with
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import LOADED, STEP
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal

_OURS = "tidegate.release."


def _or_end(write: Callable[..., None]) -> Callable[..., None]:
    """Ansible goes on when a callback fails; this run must not, for nobody would know what it does."""

    def wrapped(self: CallbackModule, *arguments: Any, **named: Any) -> None:
        try:
            write(self, *arguments, **named)
        except BaseException as error:  # whatever it is
            self.end(f"what it does could not be written down ({type(error).__name__}: {error})")

    return wrapped


def _part(task: Any) -> str:
    return str(task.get_vars().get(STEP, ""))


class CallbackModule(CallbackBase):
    """Write receipts, and end the run when it is not its turn any more."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "tidegate.release.receipt"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        path = os.environ.get(ORDER)
        if path is None:  # somebody enabled it for a run of their own
            self.disabled = True
            return
        try:
            order = json.loads(Path(path).read_text(encoding="utf-8"))
            self._end = str(order["end"])
            self._run = None if order["deployment"] is None else Run(order["deployment"], order["token"])
            self._stream = open(order["receipts"], "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - as long as the process
            self._journal = WaveJournal(Cmdb.open(order["cmdb"]))
            find_prctl()
            # A worker goes on with a loop when this process is gone, and nobody would look at the token for it.
            os.register_at_fork(after_in_child=partial(die_with, os.getpid()))
            self._write(LOADED)
        except BaseException:  # Ansible would go on without it
            traceback.print_exc()
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self, why: str) -> None:
        """End this run at once."""
        try:
            self._write("ended", why=why)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    @_or_end
    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Look at the token before each task."""
        self._begin(task)

    @_or_end
    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """As before other tasks."""
        self._begin(task)

    @_or_end
    def v2_runner_on_ok(self, result: Any) -> None:
        """Whether it was the last one."""
        if result.task.get_name() == self._end:
            self._of("reached", result)

    @_or_end
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Which task it was; what it says only if it is ours."""
        if not ignore_errors:
            ours = str(result.task.resolved_action or result.task.action).startswith(_OURS)
            self._of("failed", result, message=str(result.result.get("msg", "")) if ours else "")

    @_or_end
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Which task it was."""
        self._of("unreachable", result)

    @_or_end
    def v2_playbook_on_stats(self, stats: Any) -> None:
        """How many tasks failed on each host."""
        for host in stats.processed:
            self._write("stats", host=host, failures=stats.summarize(host)["failures"])

    def _begin(self, task: Any) -> None:
        if self._run is not None and not self._journal.is_held_by(self._run):
            self.end("another controller has taken the deployment over")
        self._write("task", step=_part(task))

    def _of(self, event: str, result: Any, message: str = "") -> None:
        task, host = result.task, result.host.get_name()
        self._write(event, host=host, task=task.name or task.action, module=str(task.action), message=message, part=_part(task))

    def _write(self, event: str, **data: Any) -> None:
        self._stream.write(json.dumps({"event": event, **data}) + "\n")
