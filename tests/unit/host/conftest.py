# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the host's half."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import watch
from bed import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "root")
    yield made
    with contextlib.suppress(OSError):
        watch.end(made.home.watch)


@pytest.fixture(autouse=True)
def _no_orphans(tmp_path: Path) -> Iterator[None]:
    """What hooks leave running goes with the machine's next start; in a test it ends with it."""
    yield
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"{tmp_path}/root/") in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
