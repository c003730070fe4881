# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action of the collection does for its user, whichever it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError


class Chatty(TidegateAction):
    """An action that says more than it should."""

    module = "archive"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if options["path"] == "/wrong":
            raise TidegateError(f"{options['key_passphrase']} does not open it")
        return {"changed": False, "options": dict(options)}


@pytest.mark.parametrize("path", ["/right", "/wrong"])
def test_a_passphrase_never_gets_into_a_result(path: str) -> None:
    arguments = {"path": path, "key_passphrase": "correct-horse"}
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, action="archive")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))  # noqa: S108 - never used
    result = Chatty(task, connection, None, None, None, None).run(task_vars={})
    assert "correct-horse" not in str(result)
    assert path in str(result) or result["failed"]
