# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from releases import write_release


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Path]:
    return lambda name="release", files=None, **changes: write_release(tmp_path / name, files, **changes)


@pytest.fixture
def release(make_release: Callable[..., Path]) -> Path:
    return make_release()


@pytest.fixture
def home(tmp_path: Path) -> OciLayout:
    return OciLayout.create(tmp_path / "dsl")
