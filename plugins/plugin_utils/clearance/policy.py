# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a policy, and hold it against the controls that there are."""

from __future__ import annotations

from pathlib import Path

from ..policy.load import read_policy
from ..policy.model import Policy


def load_policy(path: str | Path | None = None) -> Policy:
    """Load a policy.yml, the shipped one when ``path`` is ``None``; what it leaves out has the shipped value.

    Raises :class:`DocumentError` with every problem.
    """
    from .evaluate import CONTROLS  # noqa: PLC0415 - slow to import, and each fork that stages a package loads this module

    return read_policy(path, {name: spec.waivable for name, spec in CONTROLS.items()})
