# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process takes no more of the controller than it has to, unless somebody wants it otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ASKED = """
from ansible import constants as C
from ansible.plugins.strategy import C as used
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.poll import poll_less
poll_less()
print(used.DEFAULT_INTERNAL_POLL_INTERVAL)
poll_less(devices=True)
print(used.DEFAULT_INTERNAL_POLL_INTERVAL)
"""


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", ["0.005", "0.02"]),
        ("internal_poll_interval = 0.25", ["0.25", "0.25"]),
        ("internal_poll_interval = 0.001", ["0.001", "0.001"]),
    ],
)
def test_results_are_looked_for_less_often_unless_a_setting_says_how_often(tmp_path: Path, said: str, seconds: list[str]) -> None:
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\n{said}\n")
    done = subprocess.run([sys.executable, "-c", _ASKED], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == seconds
