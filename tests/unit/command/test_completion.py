# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that complete verbs and options, as their shells read them."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.command.completion import SHELLS, script

OPTIONS = {"deploy": ["--rfc", "--reason"], "status": ["--watch"]}


def completed(*words: str) -> list[str]:
    """What bash proposes for the last of the words."""
    listed = " ".join(f"'{word}'" for word in words)
    program = (
        f"{script('bash', OPTIONS)}\nCOMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _tidegate; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return subprocess.run(["bash", "-c", program], check=True, capture_output=True, text=True).stdout.split()


def test_bash_completes_verbs_and_the_options_of_each() -> None:
    assert completed("tidegate", "") == ["deploy", "status"]
    assert completed("tidegate", "deploy", "--re") == ["--reason"]
    assert completed("tidegate", "status", "--") == ["--watch"]
    assert completed("tidegate", "nothing", "--") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_every_verb_and_option(shell: str) -> None:
    text = script(shell, OPTIONS)
    assert all(word.removeprefix("--") in text for word in ("deploy", "status", "--rfc", "--reason", "--watch"))
