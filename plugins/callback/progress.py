# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stdout callback of deployments: progress by wave for our own steps, Ansible's usual output for everything else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Shows deployments by wave
version_added: 0.1.0
author:
  - Tidegate maintainers (@tidegate)
description:
  - Shows the steps of a deployment as progress, one line for each wave with its hosts, failures, time and the decision of its gate,
    and a live bar while a wave is under way. In a log the line names the hosts and the time.
  - A host that fails is named at once with its reason. Hosts that do well are only counted.
  - The verdict of a deployment is the last of all; a recap is shown only for hosts with tasks that are not the collection's.
  - Every other task, of your own playbooks or of other collections, prints as with P(ansible.builtin.default#callback).
  - Prints plain lines without a terminal, when E(NO_COLOR), E(ANSIBLE_NOCOLOR) or E(CI) is set, and without the Python library C(rich).
  - With C(-v) the steps of a deployment print their results too, host by host.
options:
  only_words:
    description:
      - Of the collection's playbooks, show what they say in words and nothing else of Ansible, as the command C(tidegate) does.
      - It is without effect when C(-v) asks for all.
    type: bool
    default: false
    env:
      - name: TIDEGATE_ONLY_WORDS
    version_added: 0.1.0
requirements:
  - Set as stdout callback in the configuration, C(stdout_callback = tidegate.release.progress) or E(ANSIBLE_STDOUT_CALLBACK).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
seealso:
  - plugin: ansible.builtin.default
    plugin_type: callback
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  stdout_callback = tidegate.release.progress
"""

import copy
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import AUDIENCE, Beat, speak_at_once, stamped
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.variables import OF_JOBS
from ansible_collections.tidegate.release.plugins.plugin_utils.activity import EVERY
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import (
    AGAIN,
    HOST_STEPS,
    STEPS,
    Progress,
    Tally,
    gate_sentence,
    hosts,
    one_line,
    step_line,
    words,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.status_line import Bar, live

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

_OURS = "tidegate.release."
_COLLECTION = Path(__file__).parents[2]
_INCLUDES = {f"{prefix}{name}_role" for prefix in ("", "ansible.builtin.", "ansible.legacy.") for name in ("include", "import")}


class _Screen:
    """Ansible's display; whatever is printed through it first takes the bar away and names the play it belongs to."""

    def __init__(self, display: Any, before: Callable[[], None]) -> None:
        self._display = display
        self._before = before

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._display, name)
        if not callable(attribute):
            return attribute

        def printing(*args: Any, **options: Any) -> Any:
            self._before()
            return attribute(*args, **options)

        return printing


class CallbackModule(DefaultCallback):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "tidegate.release.progress"

    def __init__(self) -> None:
        super().__init__()
        self._plain = self._display
        self._display = _Screen(self._plain, self._before_ordinary)
        self._bar = Bar() if AUDIENCE.terminal and live(sys.stdout, os.environ) else None
        AUDIENCE.callback, AUDIENCE.live = True, self._bar is not None
        speak_at_once()
        self._watch_display()
        self._banner_due: Play | None = None
        self._tallies: dict[int | None, Tally] = {}  # by wave, of the current step; None: a host that could not say its wave
        self._quiet = False  # the play has steps of ours: no banners, no empty plays
        self._label = ""  # what the bar is about
        self._batch = 0  # hosts of the play's batch
        self._reported = 0  # of them, those whose result of the current task has come
        self._task_started = 0.0
        self._ordinary_hosts: set[str] = set()
        self._spoken = time.monotonic()  # when the last line was printed
        self._verdict: tuple[list[str], str | None] | None = None  # lines and their colour; said after everything else

    # What Ansible calls

    def v2_playbook_on_play_start(self, play: Play) -> None:
        self._clear()
        self._batch = _batch_size(play)
        self._play = play
        self._banner_due = play
        self._quiet = not self._plain.verbosity and (_has_our_steps(play) or (self._words and _is_ours(play)))
        if self._plain.verbosity:
            self._before_ordinary()

    def v2_playbook_on_no_hosts_matched(self) -> None:
        # A step without hosts, such as a back-out that nobody needs, is nothing to report.
        if not self._quiet:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        self._clear()
        self._label = ""
        step = _name(task)
        if self._quiet:  # the banner waits for a result that needs one
            self._task_type_cache[task._uuid] = "TASK"
            self._last_task_name = task.get_name().strip()
        else:
            super().v2_playbook_on_task_start(task, is_conditional)
        if step in AGAIN or step == "soak":
            self._reported = 0
            self._draw("look again" if step in AGAIN else "waits, to look again", self._bad())
        elif step in HOST_STEPS:
            self._flush()
            self._reported = 0
            self._task_started = time.monotonic()
            self._draw(words(step), 0)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if not _name(included_file._task) or self._plain.verbosity:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if self._quiet and _is_nothing_to_say(result.task):
            return
        if not self._told(result) and not self._in_words(result):
            super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if not self._told(result, failed=True) and (ignore_errors or not self._in_words(result, C.COLOR_ERROR)):
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if not self._told(result, unreachable=True):
            super().v2_runner_on_unreachable(result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        ours = _name(result.task) in STEPS or (self._quiet and (_in_our_role(result.task) or (self._words and _is_ours(result.task))))
        if not ours or self._plain.verbosity:
            super().v2_runner_on_skipped(result)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._flush()
        super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        self._flush()
        self._banner_due = None
        shown = copy.copy(stats)
        if not self._plain.verbosity:  # what went wrong in our steps has been said, with names and reasons
            named = {name for name in stats.processed if _troubled(stats, name)} if self._ordinary_hosts else set()
            shown.processed = {name: 1 for name in stats.processed if name in self._ordinary_hosts | named}
        # What our steps pass on to later jobs is for who asks for it.
        passed_on = {name for facts in stats.custom.values() for name in facts} - (
            set() if self.get_option("show_custom_stats") else OF_JOBS
        )
        if shown.processed or passed_on:
            super().v2_playbook_on_stats(shown)
        if self._verdict is not None:
            (first, *more), color = self._verdict
            self._print(stamped(first), color)
            for line in more:
                self._print(line, None)

    # How a step is told

    def _told(self, result: CallbackTaskResult, *, failed: bool = False, unreachable: bool = False) -> bool:
        """Tell the result of one of our steps; false when it is none, or -v asks for the whole result as well."""
        name = result.host.get_name()
        action = _name(result.task)
        try:  # a callback must never hide what happened: what it can't tell is shown the ordinary way
            progress = Progress.read(result.result, action, failed=failed, unreachable=unreachable) if action else None
            if progress is not None:
                self._handle_warnings(result.result)
                self._tell(progress, name, bad=failed or unreachable)
                return not self._plain.verbosity
        except Exception as error:
            self._plain.warning(f"the progress of {one_line(name)} can't be shown: {one_line(error)}")
        self._ordinary_hosts.add(name)
        return False

    @property
    def _words(self) -> bool:
        """Whether of our own plays only words are shown."""
        return bool(self.get_option("only_words")) and not self._plain.verbosity

    def _in_words(self, result: CallbackTaskResult, color: str | None = None) -> bool:
        """Print what a task of ours says, or why it failed, without a frame; false when it is to be shown as every other task."""
        if not (self._words and _is_ours(result.task)):
            return False
        self._ordinary_hosts.discard(result.host.get_name())
        says = result.task.action.rpartition(".")[2] == "debug" or color is not None
        said = result.result.get("msg", "") if says else ""
        for part in said if isinstance(said, list) else [said]:
            for line in str(part).splitlines():
                self._print(line, color)
        return True

    def _tell(self, progress: Progress, name: str, *, bad: bool) -> None:
        if progress.step in HOST_STEPS:
            if progress.state:
                self._host(progress, name)
        elif progress.step == "gate" and not bad:
            if progress.decision:
                self._gate(progress)
        elif progress.state or progress.detail:
            self._flush()
            color = C.COLOR_ERROR if bad else None
            if progress.step == "conclude":
                self._verdict = [step_line(progress), *progress.more], color
                return
            self._print(stamped(step_line(progress)), color)
            for line in progress.more:
                self._print(line, color)

    def _host(self, progress: Progress, name: str) -> None:
        now = time.monotonic()
        self._reported += 1
        tally = self._tallies.setdefault(progress.wave, Tally(progress, self._task_started))
        tally.add(progress, name, now)
        if not progress.good or progress.detail:
            reason = f": {progress.detail}" if progress.detail else ""
            color = C.COLOR_WARN if progress.good else C.COLOR_ERROR
            for line in (f"  {one_line(name)} {words(progress.state)}{reason}", *(f"    {more}" for more in progress.more)):
                self._print(line, color)
        label = next((each.first.name for wave, each in self._tallies.items() if wave is not None), progress.name)
        self._draw(label, self._bad())
        if not AUDIENCE.terminal and now - self._spoken >= EVERY and self._reported < self._batch:
            self._print(stamped(f"… {progress.title}: {self._reported} of {hosts(self._batch)}, {self._bad()} failed"), None)

    def _bad(self) -> int:
        return sum(each.bad for each in self._tallies.values())

    def _gate(self, gate: Progress) -> None:
        color = C.COLOR_OK if gate.decision == "proceed" else C.COLOR_ERROR
        self._settle(gate.wave)
        tally = self._tallies.pop(gate.wave, None)
        self._flush()
        if AUDIENCE.terminal:
            self._print(step_line(gate) if tally is None else tally.line(gate), color)
        else:
            self._print(stamped(gate_sentence(gate) if tally is None else tally.sentence(gate)), color)

    def _flush(self) -> None:
        """Print what has no gate of its own."""
        waves = [wave for wave in self._tallies if wave is not None]
        if len(waves) == 1:
            self._settle(waves[0])
        for tally in self._tallies.values():
            self._print(tally.line() if AUDIENCE.terminal else stamped(tally.sentence()), C.COLOR_ERROR if tally.bad else C.COLOR_OK)
        self._tallies.clear()

    def _settle(self, wave: int | None) -> None:
        """Count the hosts that could not say their wave, being unreachable, to ``wave``."""
        if wave is not None and None in self._tallies:
            unsaid = self._tallies.pop(None)
            self._tallies[wave] = self._tallies[wave].joined(unsaid) if wave in self._tallies else unsaid

    # The terminal

    def _print(self, line: str, color: str | None) -> None:
        self._spoken = time.monotonic()
        self._clear()
        self._plain.display(line, color=color)

    def _draw(self, label: str, bad: int) -> None:
        self._label = label
        if self._bar is not None and not self._plain.verbosity:
            self._bar.draw(label, self._reported, self._batch, bad, time.monotonic() - self._task_started)

    def _watch_display(self) -> None:
        """Let what others print take the bar away first, and signs of life be shown in it; workers print by way of this process."""
        display, main = self._plain.display, os.getpid()

        def printing(line: str, *args: Any, **options: Any) -> None:
            if os.getpid() == main and self._bar is not None:
                if isinstance(line, Beat):
                    self._live_sign(line)
                    return
                self._clear()
            display(line, *args, **options)

        self._plain.display = printing

    def _live_sign(self, line: str) -> None:
        if self._plain.verbosity or self._bar is None:
            return
        if self._label:
            self._draw(self._label, self._bad())
        else:
            self._bar.status(line)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()

    def _before_ordinary(self) -> None:
        self._clear()
        play, self._banner_due = self._banner_due, None
        if play is not None:
            super().v2_playbook_on_play_start(play)


def _name(task: Task) -> str:
    """The last part of the action's or included role's name when it is this collection's, else nothing."""
    action = str(getattr(task, "resolved_action", None) or task.action)
    if action in _INCLUDES:
        action = str(task.args.get("name") or task.args.get("role") or "")
    return action.removeprefix(_OURS) if action.startswith(_OURS) else ""


def _is_ours(of: Task | Play) -> bool:
    """Whether a task, or a play, is of the collection's own playbooks and roles."""
    return of.get_path().startswith(f"{_COLLECTION}/")


def _in_our_role(task: Task) -> bool:
    return task._role is not None and task._role.get_name().startswith(_OURS)


def _is_nothing_to_say(task: Task) -> bool:
    """A role of ours checked its options, passes something on, or says for other callbacks what the progress has told."""
    action = str(task.action).rpartition(".")[2]
    if not _in_our_role(task):
        return False
    return action in ("validate_argument_spec", "set_stats") or (action == "debug" and task._role.get_name().removeprefix(_OURS) in STEPS)


def _has_our_steps(play: Play) -> bool:
    tasks = list(play.get_tasks())
    while tasks:
        task = tasks.pop()
        if isinstance(task, list):
            tasks.extend(task)
        elif hasattr(task, "block"):
            tasks.extend([*task.block, *task.rescue, *task.always])
        elif _name(task):
            return True
    return any(role.get_name().startswith(_OURS) for role in play.roles)


def _batch_size(play: Play) -> int:
    """How many hosts the play's batch has; the bar is the only one to ask, so it is 0 when that can't be said."""
    try:
        return len(play.get_variable_manager().get_vars(play=play, include_hostvars=False)["ansible_play_batch"])
    except Exception:
        return 0


def _troubled(stats: AggregateStats, name: str) -> bool:
    return any(getattr(stats, kind).get(name) for kind in ("failures", "dark", "rescued", "ignored"))
