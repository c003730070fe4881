# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database of the CMDB goes away in the middle of a wave: no host is left between two releases, and the same command goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass

import pytest
from fleet import HEALTH, Fleet
from postgresql import PostgreSql, running_postgresql
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

SLOW = {  # enough of a wave is under way for the server to go in the middle of it
    "hooks": {
        "stop": {"command": ["bin/stop"], "timeout": 10},
        "start": {"command": ["sh", "-c", "sleep 4; exec bin/start"], "timeout": 30},
    },
    "health": [{**HEALTH, "timeout": 15}],
}


@dataclass
class Site:
    """A fleet whose CMDB is in a server of its own."""

    fleet: Fleet
    server: PostgreSql

    def deploy(self, number: int) -> tuple[int, str]:
        done = self.fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(self.fleet.path / f"CHG{number}.yml")})
        assert "Traceback" not in done.stdout
        return done.returncode, " ".join(done.stdout.split())

    def new(self, number: int) -> None:
        self.fleet.rfc(f"CHG{number}", f"{number}.0", self.fleet.archive(f"{number}.0", **SLOW))

    def is_under_way(self, number: int) -> bool:
        return "activating" in self.fleet.host_states(f"CHG{number}").values()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_postgresql() as server:
        policy = {"rollout": {"canary": 3, "steps": [100], "budget": {"wave": 0, "total": 0}}}
        fleet = Fleet(tmp_path_factory.mktemp("restart"), cmdb=server.database(), policy=policy)
        try:
            fleet.up()
            site = Site(fleet, server)
            site.new(9100)
            status, said = site.deploy(9100)
            assert status == 0, said
            yield site
        finally:
            fleet.down()


@pytest.mark.parametrize(("number", "meanwhile"), [(9101, True), pytest.param(9102, False, marks=pytest.mark.thorough)])
def test_the_same_command_goes_on_where_the_database_went_away(site: Site, number: int, meanwhile: bool) -> None:
    """It is back while the run is at work, or only when that has ended."""
    before = site.fleet.served()
    site.new(number)
    with futures.ThreadPoolExecutor(1) as pool:
        run = pool.submit(site.deploy, number)
        wait_until(lambda: site.is_under_way(number) or run.done())
        site.server.stop("immediate")
        if meanwhile:
            site.server.start()
        status, said = run.result()
    if not meanwhile:
        assert status != 0
        assert "the CMDB" in said, said
        site.server.start()
    new = f"{number}.0"
    assert set(site.fleet.served().values()) <= {new, *before.values()}
    status, said = site.deploy(number)
    assert status == 0, said
    assert site.fleet.state(f"CHG{number}") == "completed"
    assert site.fleet.served() == site.fleet.installed() == dict.fromkeys(site.fleet.hosts, new)
    assert site.fleet.rows("select count(*) from lock") == [(0,)]
