# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.release_facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import NoAnswerError, run_on_host
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.keepalive import keep_alive, prefer_fast
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import printable


class ActionModule(TidegateAction):
    """Have the host program look, over a connection that notices when the host freezes; it changes nothing, so it is not kept there."""

    module = "release_facts"
    per_host = True
    whole = True  # the audit says of each host why it has no answer
    found: ClassVar[tuple[str, ...]] = ("releases",)  # what is taken from the answer
    along = False  # whether the host can't have the program

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        keep_alive(self._connection)
        prefer_fast(self._connection, task_vars)
        order = {"operation": self.module, "root": options.get("root", "")}
        try:
            answer = run_on_host(self, order, task_vars, keep=False, along=self.along)
        except NoAnswerError as error:
            raise TidegateError(f"it did not answer: {error.last_words()} and run this again") from None
        if not isinstance(answer, Mapping):
            raise TidegateError("its answer is none; find out who answers there")
        if answer.get("failed"):
            raise TidegateError(printable(str(answer.get("msg"))))
        return {"changed": False, **{name: answer.get(name) for name in self.found}}
