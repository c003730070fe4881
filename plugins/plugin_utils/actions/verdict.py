# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command learns which of several failures it was: ansible-playbook ends with 2 for each, and a play can't choose another.

A verdict is one word in a file that only the command names, and that is empty until a step came to one.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TIDEGATE_VERDICT_FILE"
"""The variable of the environment by which the command says where."""


def leave_verdict(word: str) -> None:
    """Say what a run came to, if somebody waits for that."""
    where = os.environ.get(VARIABLE)
    if where:
        Path(where).write_text(word, encoding="utf-8")
