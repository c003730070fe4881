# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is deployed only to what it gets on with, and in an order in which old and new get on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from fleet import Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

ITSELF = {"release": "hello", "versions": ">=2"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, of which the first depends on the second."""
    fleet = Fleet(tmp_path_factory.mktemp("compatible"), count=2)
    try:
        fleet.up()
        with Cmdb.open(str(fleet.path / "cmdb.sqlite")) as cmdb:
            cmdb.relate([("web1", "web2", "depends_on")], "test")
        yield fleet
    finally:
        fleet.down()


def know(fleet: Fleet, **attributes: object) -> None:
    with Cmdb.open(str(fleet.path / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": ci["name"], "attributes": ci["attributes"] | attributes} for ci in cmdb.cis()], "test")


def clear(fleet: Fleet, number: str) -> subprocess.CompletedProcess[str]:
    return fleet.play("tidegate.release.clear", {"tidegate_rfc": str(fleet.path / f"{number}.yml")}, inventory="localhost,")


def test_what_does_not_get_on_is_not_deployed_and_what_does_goes_in_the_right_order(fleet: Fleet) -> None:
    picky = {"requires": [{"package": "openssl", "versions": ">=3.0"}], "conflicts": [{"hardware": ["R640"]}]}

    # What the CMDB does not say is asked for; what it says counts.
    done = fleet.deploy("CHG0001", "1.0", **picky)
    assert done.returncode != 0
    assert "web1, web2: its attribute packages is not known; enter it in the CMDB" in " ".join(done.stdout.split())
    know(fleet, packages={"openssl": "1.1.1w-0+deb11u1"}, model="R640")
    refused = clear(fleet, "CHG0001")
    assert "web1, web2: hello 1.0 requires package openssl >=3.0, it has 1.1.1w-0+deb11u1" in refused.stdout
    assert "web1, web2: hello 1.0 conflicts with the model R640, it has R640" in refused.stdout
    assert fleet.rows("select * from deployment") == []
    know(fleet, packages={"openssl": "3.0.11-1~deb12u2"}, model="R750")
    assert clear(fleet, "CHG0001").returncode == 0
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(fleet.path / "CHG0001.yml")})
    assert done.returncode == 0, done.stdout

    # The new one needs the new one on the CI that it depends on: that goes first, though its name comes later.
    done = fleet.deploy("CHG0002", "2.0", requires=[ITSELF])
    assert done.returncode == 0, done.stdout
    place = (
        "select h.host, h.wave from deployment_host h join deployment d on d.id = h.deployment_id where d.rfc = 'CHG0002' order by h.host"
    )
    assert fleet.rows(place) == [("web1", 2), ("web2", 1)]

    # What is on web1 now does not get on with another major version below it, and that one does not with it above: neither can go first.
    done = fleet.deploy("CHG0003", "1.9", requires=[{"release": "hello", "versions": "<2"}])
    assert done.returncode != 0
    assert "web1: it depends on web2, and neither may get hello 1.9 first" in " ".join(done.stdout.split())
    assert fleet.served() == {"web1": "2.0", "web2": "2.0"}
