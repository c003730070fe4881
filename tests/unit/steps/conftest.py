# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from homes import Homes, Write


@pytest.fixture
def homes(tmp_path: Path, write: Write) -> Homes:
    return Homes(tmp_path, write)
