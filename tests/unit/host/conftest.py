# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the host's half."""

from __future__ import annotations

from pathlib import Path

import pytest
from bed import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "root")
