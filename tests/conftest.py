# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgresql import running_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """A server for the whole run; call it for the URL of a new database."""
    with running_postgresql() as server:
        yield server.database


@pytest.fixture(params=["sqlite", "postgresql"])
def cmdb_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a CMDB can be made: each test that asks for it runs on SQLite and on a real PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "cmdb.sqlite")
    url: str = request.getfixturevalue("postgresql")()
    return url
