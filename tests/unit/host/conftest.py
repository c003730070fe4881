# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _ends_with_the_test(no_orphans: None) -> None:
    """Each test here may run hooks, with the fixture ``host`` or with a host of its own."""
